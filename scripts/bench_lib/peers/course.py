"""One peer on its way through the rounds, until it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench_lib.bare import Cost
from bench_lib.peers import looks
from bench_lib.peers.kinds import HEIGHT_PX, WIDTH_PX, Place, Run, Start
from bench_lib.report import BenchError

WARM_JOBS = 40
"""Enough for every process to have loaded its codecs and opened its connections."""


@contextmanager
def told() -> Iterator[None]:
    """Turn what a peer's failure looks like from outside into a BenchError."""
    try:
        yield
    except (OSError, EOFError) as error:
        raise BenchError(f"{type(error).__name__}: {error}") from error


@dataclass(slots=True)
class Course:
    """A peer and what is known of it.

    Args:
        name: for the table.
        start: starts it.
        reference: the picture that its results must be.
        costs: one for each round so far.
        differences: of each round's worst result from the reference, steps of 255.
        refused: why it is not measured; empty while it is.
    """

    name: str
    start: Start
    reference: bytes
    costs: list[Cost] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    refused: str = ""
    _open: ExitStack = field(default_factory=ExitStack)
    _run: Run | None = None

    def begin(self, place: Place) -> None:
        """Start the peer and warm it."""
        try:
            with told():
                place.folder.mkdir()
                self._run = self._open.enter_context(self.start(place))
            self._measure(WARM_JOBS, f"{place.folder.name}-warm")
        except BenchError as error:
            self._refuse(error)

    def go(self, jobs: int, name: str) -> None:
        """Measure a round, unless the peer was refused before."""
        if self.refused:
            return
        try:
            cost, difference = self._measure(jobs, name)
        except BenchError as error:
            self._refuse(error)
        else:
            self.costs.append(cost)
            self.differences.append(difference)

    def end(self) -> None:
        """Stop the peer."""
        self._open.close()

    def _measure(self, jobs: int, name: str) -> tuple[Cost, float]:
        if self._run is None:
            raise BenchError("it does not run")
        with told():
            done = self._run(jobs, name)
        expected = done.cost.jobs if done.samples is None else done.samples
        size = (WIDTH_PX, HEIGHT_PX)
        return done.cost, looks.require_same(done.results, expected, self.reference, size)

    def _refuse(self, error: BenchError) -> None:
        self.refused = str(error)
        self.costs.clear()
        self.differences.clear()
        self._open.close()
