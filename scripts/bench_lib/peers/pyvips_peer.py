"""libvips through pyvips, from memory: the other bare loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_lib.peers import install
from bench_lib.peers.kinds import CPUS, HEIGHT_PX, SOURCE, WIDTH_PX, Place, Round, Run
from bench_lib.peers.process import Dialog, dialog, measured

LOOP = Path(__file__).with_name("pyvips_loop.py")


@dataclass(frozen=True, slots=True)
class Loops:
    """One process per CPU, each with one thread of libvips.

    Args:
        loops: the processes.
        folder: for the last result of each.
    """

    loops: list[Dialog]
    folder: Path

    def run(self, source: Path, size: tuple[int, int], kind: str, jobs: int) -> Round:
        """Make thumbnails, the same number in each process; the round holds the last of each."""
        share = max(1, jobs // len(self.loops))
        results = [self.folder / f"last-{each}" for each in range(len(self.loops))]
        order = {"source": str(source), "width": size[0], "height": size[1]}
        order |= {"kind": kind, "jobs": share}

        def work() -> None:
            for loop, result in zip(self.loops, results, strict=True):
                loop.ask({**order, "result": str(result)})
            for loop in self.loops:
                loop.hear()

        processes = [loop.process for loop in self.loops]
        cost = measured(processes, share * len(self.loops), work)
        return Round(cost, [result.read_bytes() for result in results], len(results))


@contextmanager
def running_loops(folder: Path) -> Iterator[Loops]:
    """Run the processes for the length of a block."""
    python = install.python("peers")
    with ExitStack() as stack:
        loops = [
            stack.enter_context(
                dialog(f"pyvips-{each}", [python, LOOP], folder, {"VIPS_CONCURRENCY": "1"})
            )
            for each in range(CPUS)
        ]
        yield Loops(loops, folder)


@contextmanager
def start(place: Place) -> Iterator[Run]:
    """Run the loops on the source of the works."""
    with running_loops(place.folder) as loops:

        def run(jobs: int, _: str) -> Round:
            return loops.run(place.ends.sources / SOURCE, (WIDTH_PX, HEIGHT_PX), "JPEG", jobs)

        yield run
