"""The real service for tests: gateway, broker and worker as `imgserve start` runs them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from imgserve.client import Client

ENDED = frozenset({"done", "failed", "rejected", "cancelled"})

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
# Longer than any single job of these tests takes, on a machine that is busy with others.
JOB_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The body as JSON."""
        document = json.loads(self.body)
        assert isinstance(document, dict), self.body
        return document


class Service:
    """Run `imgserve start` with a state folder of its own, as a context manager.

    At the end it must be whole and leave nothing: no job in the queue or in flight, no process,
    no temporary file beneath its file root, no pid, connection or service file.

    Args:
        folder: where state, file root and log are made.
        flags: more flags for `start`, such as `--retry-limit 1`.
        daemon: whether `start` leaves a daemon behind, as it does by default, or stays in the
            foreground.
        network: what jobs may reach beside the default.
    """

    def __init__(
        self, folder: Path, *flags: str, daemon: bool = False, network: str = "127.0.0.0/8"
    ) -> None:
        self.state = folder / "state"
        self.files = folder / "files"
        self.log_file = self.state / "imgserve.log" if daemon else folder / "service.log"
        self.connection = self.state / "connection.json"
        self.files.mkdir(parents=True)
        self._flags = (*flags, "--allow-network", network)
        self._daemon = daemon
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: psutil.Process | None = None
        self.said = ""
        # Every process that was ever seen below the supervisor: none may outlive it.
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> Self:
        words = (
            *("start", "-host", "127.0.0.1", "-port", "0", "--broker-port", "0"),
            *("--state", str(self.state), "--file-root", str(self.files)),
            *("--retry-base-s", "0.05", *self._flags),
        )
        try:
            if self._daemon:
                self._start_daemon(words)
            else:
                self._start_foreground(words)
        except BaseException as exc:
            self._end()
            raise AssertionError(f"the service did not start:\n{self.log()}") from exc
        self.note_processes()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None:
                if self._lives():
                    self.assert_idle()
                    self.note_processes()
                    assert self.stop() == 0, f"it did not end well:\n{self.log()}"
                self.assert_nothing_left()
        finally:
            self._end()

    @property
    def record(self) -> dict[str, Any]:
        """What the supervisor says of itself: url, port, pids of the parts."""
        document = json.loads((self.state / "service.json").read_text())
        assert isinstance(document, dict)
        return document

    @property
    def url(self) -> str:
        """Where HTTP listens."""
        return str(self.record["url"])

    def log(self, lines: int = 60) -> str:
        """Return the end of what every part has logged."""
        text = self.log_file.read_text(errors="replace").splitlines()
        return "\n".join(line for line in text if " GET /readyz" not in line)[-lines:]

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        """Send one HTTP request on a connection of its own."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.record["port"], timeout=JOB_TIMEOUT_S
        )
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def post(
        self, document: Mapping[str, Any], path: str = "/", headers: Mapping[str, str] = {}
    ) -> Answer:
        """Post a request."""
        return self.send("POST", path, json.dumps(document).encode(), headers)

    def job(self, location: str) -> dict[str, Any]:
        """Return the document of a job, by its path."""
        answer = self.send("GET", location)
        assert answer.status == 200, answer
        return answer.document

    def ended(self, location: str, timeout_s: float = JOB_TIMEOUT_S) -> dict[str, Any]:
        """Wait for a job's end; return its document."""
        document = self.job(location)

        def look() -> bool:
            nonlocal document
            document = self.job(location)
            return document["state"] in ENDED

        try:
            eventually(look, "the job's end", timeout_s=timeout_s)
        except AssertionError as exc:
            raise AssertionError(f"{document} has not ended:\n{self.log()}") from exc
        return document

    def submit(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Post a request to `/jobs`, wait for its end, and return the job's document."""
        answer = self.post(document, "/jobs")
        assert answer.status == 202, answer
        return self.ended(answer.document["links"]["self"])

    def stats(self) -> Mapping[str, Any]:
        """Ask the broker for its figures."""
        with Client(self.connection) as client:
            return client.stats(timeout_s=10)

    def pixel_pids(self) -> list[int]:
        """Return the pids of every worker's pixel processes."""
        return [pid for worker in self.stats()["workers"] for pid in worker["pixel_pids"]]

    def working_pixel_process(self, known: Container[int] = ()) -> int:
        """Wait for a pixel process, none of the known, that computes; return its pid."""
        found: list[int] = []

        def look() -> list[int]:
            children = psutil.Process(self.record["parts"]["worker"][0]).children()
            strangers = (child for child in children if child.pid not in known)
            found.extend(child.pid for child in strangers if _computes(child))
            return found

        eventually(look, "a pixel process computes")
        return found[0]

    def note_processes(self) -> None:
        """Remember the processes there are now, so that the end looks after them."""
        assert self._supervisor is not None
        self._seen |= {self._supervisor, *self._supervisor.children(recursive=True)}

    def assert_idle(self) -> None:
        """Check that no job waits or is held, once the last reports are in."""

        def idle() -> bool:
            figures = self.stats()
            return not (figures["queue_length"] or figures["in_flight"])

        try:
            eventually(idle, "no job waits or is held")
        except AssertionError as exc:
            raise AssertionError(f"jobs are stuck: {self.stats()}\n{self.log()}") from exc

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        assert self._supervisor is not None
        self._supervisor.terminate()

    def stop(self) -> int:
        """Ask it to end, wait, and return its exit code."""
        if self._process is None:
            return self.run("stop").returncode
        if self._lives():
            self.terminate()
        return self._process.wait(STOP_TIMEOUT_S)

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of `imgserve` on this service, such as `status`."""
        return subprocess.run(
            command(words[0], "--state", str(self.state), *words[1:]),
            check=False,
            **{"capture_output": True, "text": True, "timeout": STOP_TIMEOUT_S} | options,
        )

    def assert_nothing_left(self) -> None:
        """Check that no process and no file is left that a stopped service should not leave."""
        alive = [process for process in self._seen if _runs(process)]
        assert not alive, alive
        assert not temporary_files(self.files)
        left = {path.name for path in self.state.iterdir()}
        assert left <= {"broker.lock", "journal.sqlite3", "imgserve.log"}, left

    def _start_foreground(self, words: tuple[str, ...]) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command(*words, "--foreground"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._supervisor = psutil.Process(self._process.pid)
        eventually(self._started, "the service runs", timeout_s=START_TIMEOUT_S)

    def _start_daemon(self, words: tuple[str, ...]) -> None:
        started = subprocess.run(
            command(*words), capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
        assert started.returncode == 0, started.stderr
        self.said = started.stdout
        self._supervisor = psutil.Process(self.record["pid"])

    def _started(self) -> bool:
        assert self._lives(), "it has ended"
        try:
            return bool(self.record["phase"] == "running")
        except (OSError, ValueError):
            return False

    def _lives(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return self._supervisor is not None and _runs(self._supervisor)

    def _end(self) -> None:
        """Kill what is left, so that a failed test does not disturb the next."""
        if self._supervisor is not None and self._lives():
            self.note_processes()
            self._supervisor.kill()
        if self._process is not None:
            self._process.wait()
        for process in self._seen:
            if _runs(process):
                process.kill()


def _runs(process: psutil.Process) -> bool:
    """Whether a process lives; one that is dead and not yet waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _computes(process: psutil.Process) -> bool:
    """Whether a pixel process has a job: once locked in (seccomp mode 2) it uses no CPU idle."""
    try:
        locked = "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text()
        # Not the one that draws placeholders.
        return locked and process.name() == "imgserve-pixels" and process.cpu_percent(0.1) > 5
    except (OSError, psutil.Error):
        return False


def eventually(condition: Callable[[], object], what: str, timeout_s: float = 15) -> None:
    """Wait until a condition holds; fail with what was waited for when it does not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"it never came: {what}"
        time.sleep(0.01)


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] = {},
) -> Answer:
    """Send one request on a connection and read the whole answer."""
    connection.request(method, path, body, dict(headers))
    response = connection.getresponse()
    named = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, named, response.read())


def command(*words: str) -> list[str]:
    """Return the command line of `imgserve`."""
    return [sys.executable, "-m", "imgserve", *words]


def temporary_files(folder: Path) -> list[Path]:
    """Return what an upload was to rename and has left behind."""
    return [path for path in folder.rglob("*") if ".imgserve" in path.name]


class Paused:
    """Processes that stand still (SIGSTOP) until the end of a `with` block."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids

    def __enter__(self) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGCONT)
