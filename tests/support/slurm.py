"""A real Slurm of one node for tests: munged, slurmctld and slurmd with everything in a folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.service import eventually

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue")
UP_S = 30.0
CPUS = 2
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
# A requeued job may begin once its former credential has expired.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/d
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=15
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def why_not() -> str:
    """Say why Slurm cannot run here, nothing when it can."""
    missing = [name for name in PROGRAMS if not _which(name)]
    if missing:
        return f"Slurm is not whole: {', '.join(missing)} (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "slurmd needs root"


class Slurm:
    """A context manager; `call` runs Slurm's commands against it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> Self:
        folder = self._folder
        folder.chmod(0o755)  # munged trusts no socket below a folder that others may write
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        names = {"host": socket.gethostname().partition(".")[0], "user": "root", "cpus": CPUS}
        ports = {"ctld_port": _free_port(), "d_port": _free_port()}
        (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, **names, **ports))
        for name in ("ctld", "d"):
            (folder / name).mkdir()
        files = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        eventually((folder / "munge.socket").exists, "munged's socket")
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D", "-N", names["host"])
        eventually(lambda: "idle" in self.call("sinfo", "-h", "-o", "%t"), "a node", UP_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.call("scancel", "--full", "--user=root")
        try:
            eventually(lambda: not self.call("squeue", "-h"), "an empty queue", UP_S)
        finally:
            for process in reversed(self._processes):
                process.send_signal(signal.SIGTERM)
            for process in self._processes:
                process.wait(20)

    def call(self, *words: str) -> str:
        """Run a command and return what it prints; empty when it fails."""
        ended = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False, timeout=30
        )
        return ended.stdout

    @property
    def logs(self) -> str:
        """What its daemons say."""
        return "\n".join(path.read_text()[-3000:] for path in self._folder.glob("*.log"))

    def _start(self, name: str, *words: str) -> None:
        command = [_which(name) or name, *words]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
            )


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
