"""Several hosts on one machine: network namespaces with addresses of their own on one bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

END_S = 15.0


def why_not() -> str:
    """Say why namespaces cannot be made here, nothing when they can."""
    if not shutil.which("ip"):
        return "network namespaces need `ip` (Debian: iproute2)"
    name = f"imgs-try-{os.getpid()}"
    tried = subprocess.run(
        ["ip", "netns", "add", name], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        return f"network namespaces are not permitted here: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


class Host:
    """One host: a network namespace, and the processes in it.

    Args:
        name: also its hostname.
        number: the last part of its address.
        run: what all names of this network begin with.
    """

    def __init__(self, name: str, number: int, run: str, log_folder: Path) -> None:
        self.name = name
        self.address = f"10.77.0.{number}"
        self._space = f"{run}-{name}"
        self._switch = f"{run}-switch"
        self._port = f"v{number}"
        self._log_folder = log_folder
        self._processes: list[subprocess.Popen[bytes]] = []
        _ip("netns", "add", self._space)
        _ip("-n", self._space, "link", "set", "lo", "up")
        peer = ("peer", "name", self._port, "netns", self._switch)
        _ip("-n", self._space, "link", "add", "eth0", "type", "veth", *peer)
        _ip("-n", self._switch, "link", "set", self._port, "master", "br0", "up")
        _ip("-n", self._space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self._space, "link", "set", "eth0", "up")

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    @property
    def log(self) -> str:
        """What its processes have logged."""
        path = self._log_folder / f"{self.name}.log"
        return path.read_text() if path.exists() else ""

    def inside(self, words: Sequence[str]) -> list[str]:
        """Return the command line that runs a command on this host; its pid is the command's."""
        own_name = ("unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.name)
        return ["ip", "netns", "exec", self._space, *own_name, *words]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Run a command on it until the network's end."""
        with (self._log_folder / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.inside(words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    def run(self, *words: str, timeout_s: float = 60) -> str:
        """Run a command on it and return what it prints."""
        ended = subprocess.run(
            self.inside(words), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert ended.returncode == 0, f"{words}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def cut(self) -> None:
        """Pull its cable: nothing says goodbye."""
        _ip("-n", self._switch, "link", "set", self._port, "down")

    def heal(self) -> None:
        """Plug it in again."""
        _ip("-n", self._switch, "link", "set", self._port, "up")

    def lose(self, percent: float) -> str:
        """Lose a part of the packets that it sends; return why that cannot be had, else nothing."""
        chance = ("-m", "statistic", "--mode", "random", "--probability", str(percent / 100))
        words = ["iptables", "-A", "OUTPUT", "-o", "eth0", *chance, "-j", "DROP"]
        tried = subprocess.run(
            ["ip", "netns", "exec", self._space, *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if tried.returncode == 0 else tried.stderr.strip() or "no iptables here"

    def impair(self, *netem: str) -> str:
        """Make its link bad (tc-netem(8)); return why that cannot be had, else nothing."""
        words = ["tc", "-n", self._space, "qdisc", "replace", "dev", "eth0", "root", "netem"]
        tried = subprocess.run([*words, *netem], capture_output=True, text=True, check=False)
        return "" if tried.returncode == 0 else tried.stderr.strip() or "no tc here"

    def repair(self) -> None:
        """Make its link good again."""
        words = ["tc", "-n", self._space, "qdisc", "del", "dev", "eth0", "root"]
        subprocess.run(words, capture_output=True, check=False)
        drop = ["ip", "netns", "exec", self._space, "iptables", "-F", "OUTPUT"]
        subprocess.run(drop, capture_output=True, check=False)

    def kill(self) -> None:
        """Let every process on it die at once."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(END_S)
        self._processes.clear()

    def close(self) -> None:
        """Leave nothing of it."""
        self.kill()
        _ip("netns", "del", self._space)


class Network:
    """A bridge that hosts are plugged into; a context manager that leaves nothing behind."""

    def __init__(self, log_folder: Path) -> None:
        self._run = f"imgs{os.getpid()}"
        self._log_folder = log_folder
        self._stack = ExitStack()
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        switch = f"{self._run}-switch"
        _ip("netns", "add", switch)
        self._stack.callback(_ip, "netns", "del", switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def host(self, name: str) -> Host:
        """Plug in one more host."""
        host = Host(name, len(self.hosts) + 1, self._run, self._log_folder)
        self._stack.callback(host.close)
        self.hosts[name] = host
        return host


def _ip(*words: str) -> None:
    ended = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"ip {' '.join(words)}: {ended.stderr}"
