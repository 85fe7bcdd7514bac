"""Celery with Redis and Pillow: what most Python projects would write."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_lib.bare import Cost
from bench_lib.peers import install
from bench_lib.peers.kinds import CPUS, HEIGHT_PX, WIDTH_PX, Place, Round, Run, Start
from bench_lib.peers.process import Dialog, Process, dialog, measured, running, wait_until

DRIVER = Path(__file__).with_name("celery_driver.py")


@dataclass(frozen=True, slots=True)
class Celery:
    """A running Redis, worker and submitting process.

    Args:
        driver: submits tasks and waits for their results.
        processes: all of them; the worker's children are found below it.
    """

    driver: Dialog
    processes: tuple[Process, ...]

    def thumbnails(self, place: Place, jobs: int, name: str) -> Cost:
        """Make thumbnails, each a task."""
        calls = [
            (place.source_url, f"{place.put(name)}{number}.jpg", WIDTH_PX, HEIGHT_PX)
            for number in range(jobs)
        ]
        return measured(self.processes, jobs, lambda: self._do({"jobs": jobs, "calls": calls}))

    def nothing(self, jobs: int) -> Cost:
        """Run tasks that do nothing."""
        return measured(self.processes, jobs, lambda: self._do({"jobs": jobs}))

    def _do(self, order: dict[str, object]) -> None:
        self.driver.ask(order)
        self.driver.hear()


@contextmanager
def running_celery(folder: Path, *, appendonly: bool) -> Iterator[Celery]:
    """Run Redis and a prefork worker, all else as it comes, for the length of a block.

    Args:
        folder: for Redis' files and for logs.
        appendonly: whether Redis writes what it holds to disk, synced every second (its default
            where it is on); imgserve's journal is synced before it says `queued`.
    """
    redis = install.program("redis-server", "redis-server")
    python = install.python("peers")
    path = folder / "redis.sock"
    words = [redis, "--port", "0", "--unixsocket", path, "--dir", folder]
    words += ["--appendonly", "yes" if appendonly else "no"]
    broker = f"redis+socket://{path}"
    celery = [python, "-m", "celery", "-A", "bench_lib.peers.celery_tasks", "-b", broker]
    celery += ["--result-backend", broker, "worker", "--pool", "prefork", "-l", "ERROR"]
    with running("redis", words, folder) as store:
        wait_until(lambda: _answers(path), store, folder / "redis.log", "redis-server")
        with (
            running("worker", [*celery, "--concurrency", str(CPUS)], folder) as worker,
            dialog("Celery", [python, DRIVER, broker, broker], folder) as driver,
        ):
            yield Celery(driver, (store, worker, driver.process))


def started(*, appendonly: bool) -> Start:
    """Return the peer with Redis set so."""

    @contextmanager
    def start(place: Place) -> Iterator[Run]:
        with running_celery(place.folder, appendonly=appendonly) as celery:

            def run(jobs: int, name: str) -> Round:
                cost = celery.thumbnails(place, jobs, name)
                return Round(cost, place.take(name, jobs))

            yield run

    return start


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False
