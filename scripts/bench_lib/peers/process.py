"""The processes of a peer: started in a folder, spoken to in lines of JSON, counted, stopped."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from bench_lib.bare import Cost
from bench_lib.report import BenchError

SCRIPTS = Path(__file__).resolve().parents[2]
STOP_S = 10
"""A peer has nothing left to do when it is stopped; what takes longer is killed."""
ANSWER_S = 600
"""The longest round: ten times the jobs on a slow machine."""
READY_S = 60
"""Celery and thumbor import for seconds on a busy machine."""

Process = subprocess.Popen[bytes]


@contextmanager
def running(
    name: str,
    words: Sequence[str | Path],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Iterator[Process]:
    """Run a program for the length of a block, its output in `folder/name.log`.

    Args:
        name: of the process, for its log and for errors.
        words: the program and its arguments.
        folder: where it runs.
        environment: variables besides those of this process.
        pass_fds: descriptors that it inherits.

    The program, and every process that it started, has ended after the block.
    """
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(SCRIPTS), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if name.startswith("dialog") else log,
            stderr=log,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C is for this process, which then stops its peers
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: Process) -> None:
    """End a process and its children; those of a dead one are not found any more."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):  # an order that it did not read is still buffered
                stream.close()
    for left in psutil.wait_procs(family, timeout=1)[1]:
        left.kill()


class Dialog:
    """A process that answers each line of JSON by one."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self._name = name
        self.process = process
        self._log = log

    def ask(self, order: Mapping[str, Any]) -> None:
        """Send an order."""
        assert self.process.stdin is not None  # noqa: S101 (for the type checker)
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"{self._name} ended: {last_line(self._log)}") from None

    def hear(self, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Return the answer.

        Raises:
            BenchError: when the answer tells an error, when none comes, when the process ended.
        """
        assert self.process.stdout is not None  # noqa: S101 (for the type checker)
        descriptor = self.process.stdout.fileno()
        deadline_s = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            rest_s = deadline_s - time.monotonic()
            if rest_s <= 0 or not select.select([descriptor], [], [], rest_s)[0]:
                raise BenchError(f"{self._name} did not answer in {timeout_s:.0f} s")
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                raise BenchError(f"{self._name} ended: {last_line(self._log)}")
            line += chunk
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            said = line.decode(errors="replace").strip()
            raise BenchError(f"{self._name} answered {said[:200]!r}") from None
        if "error" in answer:
            raise BenchError(f"{self._name}: {answer['error']}")
        return answer


@contextmanager
def dialog(
    name: str,
    words: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Dialog]:
    """Run a program that answers lines, for the length of a block."""
    own = f"dialog-{name}"
    with running(own, words, folder, environment=environment) as process:
        yield Dialog(name, process, folder / f"{own}.log")


def last_line(log: Path) -> str:
    """Return the last line that a process wrote, to tell why it ended."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it did not say why"


def measured(processes: Sequence[Process], jobs: int, work: Callable[[], object]) -> Cost:
    """Do the work and return what it cost these processes and all their children.

    Raises:
        BenchError: when one of them ended meanwhile, since its CPU is not known then.
    """
    before = _cpu_s(processes)
    started_s = time.monotonic()
    work()
    wall_s = time.monotonic() - started_s
    after = _cpu_s(processes)
    if before.keys() - after.keys():
        raise BenchError("one of its processes ended while it was measured")
    return Cost(jobs, sum(after.values()) - sum(before.values()), wall_s)


def _cpu_s(processes: Sequence[Process]) -> dict[psutil.Process, float]:
    """CPU seconds of each process and of all below it, user and system."""
    used = {}
    try:
        for root in [psutil.Process(process.pid) for process in processes]:
            for each in [root, *root.children(recursive=True)]:
                times = each.cpu_times()
                used[each] = float(times.user + times.system)
    except psutil.NoSuchProcess:
        raise BenchError("one of its processes ended while it was measured") from None
    return used


def wait_until(ready: Callable[[], bool], process: Process, log: Path, what: str) -> None:
    """Wait until a started program is ready.

    Raises:
        BenchError: when it ends, or is not ready in time.
    """
    deadline_s = time.monotonic() + READY_S
    while not ready():
        if process.poll() is not None:
            raise BenchError(f"{what} ended: {last_line(log)}")
        if time.monotonic() > deadline_s:
            raise BenchError(f"{what} was not ready in {READY_S} s")
        time.sleep(0.05)
