"""sharp: libvips in Node, as a script of one's own without a queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench_lib.peers import install
from bench_lib.peers.kinds import CPUS, HEIGHT_PX, WIDTH_PX, WINDOW, Place, Round, Run
from bench_lib.peers.process import dialog, measured

PROCESSES = CPUS
"""Of Node. On two busy cores, 2 processes with 2 threads each made the most thumbnails a second of
five such pairs, all for the same CPU a job; other load favours more threads, so that this is no
proof for an idle machine."""
THREADS = 2
"""Of libuv in each, which resize; a thumbnail is one thread's work."""


@contextmanager
def start(place: Place) -> Iterator[Run]:
    """Run the script in as many processes as do best; each does its share of a round."""
    node = install.program("node", "nodejs")
    script = install.sharp()
    threads = {"UV_THREADPOOL_SIZE": str(THREADS)}
    with ExitStack() as stack:
        parts = [
            stack.enter_context(dialog(f"sharp-{each}", [node, script], place.folder, threads))
            for each in range(PROCESSES)
        ]

        def run(jobs: int, name: str) -> Round:
            share = jobs // PROCESSES

            def work() -> None:
                for each, part in enumerate(parts):
                    part.ask(
                        {
                            "source": place.source_url,
                            "target": place.put(name),
                            "first": each * share,
                            "jobs": share,
                            "width": WIDTH_PX,
                            "height": HEIGHT_PX,
                            "window": WINDOW // PROCESSES,
                        }
                    )
                for part in parts:
                    part.hear()

            done = share * PROCESSES
            cost = measured([part.process for part in parts], done, work)
            return Round(cost, place.take(name, done))

        yield run
