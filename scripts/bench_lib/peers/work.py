"""PEERS: W1's pictures by what users would pick instead, in one run with the bare loop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from bench_lib import bare
from bench_lib.bare import Cost
from bench_lib.ends import nginx
from bench_lib.noise import RATIO_SPREAD_MOST, too_noisy
from bench_lib.outcome import Outcome
from bench_lib.peers import celery_peer, imgserve_peer, looks, pyvips_peer, sharp_peer, thumbor_peer
from bench_lib.peers.course import Course, told
from bench_lib.peers.kinds import HEIGHT_PX, SOURCE, WIDTH_PX, Place, Start
from bench_lib.peers.others import large, no_ops
from bench_lib.picture import jpeg
from bench_lib.report import BenchError, Figure
from bench_lib.setting import Service, Setting, running_service

NAME = "PEERS"
ABOUT = "W1's pictures by imgserve and by what users would pick instead"
SHORT_JOBS = 300
CENTRED = "centred.jpg"
THIRD, MIDDLE = "a third above", "half above"
"""Where the crop lies: of what is cut off, a third is above it in imgserve."""

OTHERS = {"Celery, tasks that do nothing": no_ops, "pyvips, large pictures": large}
IN_MEMORY = "pyvips (in memory)"

PEERS: dict[str, tuple[Start, str]] = {
    "Celery": (celery_peer.started(appendonly=False), THIRD),
    "Celery (Redis AOF)": (celery_peer.started(appendonly=True), THIRD),
    "thumbor (no PUT)": (thumbor_peer.start, MIDDLE),
    f"sharp ({sharp_peer.PROCESSES} processes)": (sharp_peer.start, MIDDLE),
    IN_MEMORY: (pyvips_peer.start, MIDDLE),
}


@dataclass(frozen=True, slots=True)
class PeersOutcome(Outcome):
    """What became of the comparison.

    Args:
        missing: the peers without figures, and why.
    """

    missing: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        # No super() without arguments: a class with slots is made anew by its decorator.
        return {**Outcome.as_dict(self), "not measured": self.missing}

    def show(self) -> None:
        """Print the table, and below it what is not in it."""
        Outcome.show(self)
        for name, why in self.missing.items():
            print(f"  {name}: not measured: {why}")


@dataclass(slots=True)
class Peers:
    """The work PEERS; called, it measures.

    Args:
        noisy: keep the figures of a peer whose rounds lie too far apart.
        missing: filled by the call: the peers without figures, and why.
    """

    noisy: bool
    missing: dict[str, str] = field(default_factory=dict)

    def __call__(self, setting: Setting) -> list[Figure]:
        """Run rounds of the bare loop, imgserve and each peer, then what single peers are asked.

        Raises:
            BenchError: when imgserve or nginx fails; a peer that fails is missing.
        """
        with _ended_in_order():
            groups = _thumbnails(setting, self.missing)
            for name, part in OTHERS.items():
                _say(name)
                folder = setting.folder / part.__name__
                folder.mkdir()
                try:
                    with told():
                        groups[name] = part(setting, folder)
                except BenchError as error:
                    self.missing[name] = str(error)
        return [figure for name in groups for figure in self._kept(name, groups[name])]

    def completed(self, outcome: Outcome) -> Outcome:
        """Return the outcome with what is missing from it."""
        return PeersOutcome(
            outcome.name,
            outcome.about,
            outcome.figures,
            refused=outcome.refused,
            failed=outcome.failed,
            noisy=outcome.noisy,
            missing=self.missing,
        )

    def _kept(self, name: str, figures: list[Figure]) -> list[Figure]:
        why = too_noisy(figures)
        if not why or self.noisy:
            return figures
        self.missing[name] = why
        return []


def _thumbnails(setting: Setting, missing: dict[str, str]) -> dict[str, list[Figure]]:
    source = jpeg(1733, 1154)
    jobs = setting.jobs(SHORT_JOBS)
    bares, owns = [], []
    with ExitStack() as stack:
        ends = stack.enter_context(nginx(setting.folder))
        (ends.sources / SOURCE).write_bytes(source)
        (ends.sources / CENTRED).write_bytes(looks.centred(source, WIDTH_PX, HEIGHT_PX))
        place = Place(setting.folder / "imgserve", ends)
        place.folder.mkdir()
        service = stack.enter_context(running_service(place.folder))
        references = {
            THIRD: _reference(service, place, SOURCE),
            MIDDLE: _reference(service, place, CENTRED),
        }
        courses = []
        for number, (name, (start, crop)) in enumerate(PEERS.items()):
            _say(f"starting {name}")
            course = Course(name, start, references[crop])
            stack.callback(course.end)
            course.begin(Place(setting.folder / f"peer-{number}", ends))
            courses.append(course)
        for each in range(setting.rounds):
            _say(f"round {each + 1} of {setting.rounds}")
            bares.append(
                bare.run(source, width_px=WIDTH_PX, height_px=HEIGHT_PX, kind="JPEG", jobs=jobs)
            )
            owns.append(imgserve_peer.thumbnails(service, place, jobs, f"own-{each}"))
            results = place.take(f"own-{each}", jobs)
            looks.require_same(results, jobs, references[THIRD], (WIDTH_PX, HEIGHT_PX))
            for number, course in enumerate(courses):
                course.go(jobs, f"p{number}-{each}")
    own = [*_own("bare loop", bares), *_own("imgserve", owns), *_beside("imgserve", owns, bares)]
    groups = {"imgserve": own}
    for course in courses:
        if course.refused:
            missing[course.name] = course.refused
        else:
            groups[course.name] = _rows(course, owns, bares)
    return groups


def _rows(course: Course, owns: list[Cost], bares: list[Cost]) -> list[Figure]:
    name, limit = course.name, f"<= {looks.LIMIT:g}, or refused"
    return [
        *_own(name, course.costs),
        *_beside(name, course.costs, bares),
        *_imgserve_beside(name, owns, course.costs),
        Figure(f"{name}, unlike imgserve's", "of 255", tuple(course.differences), limit),
    ]


def _reference(service: Service, place: Place, source: str) -> bytes:
    """Return imgserve's own result, once it is sure that it is no placeholder."""
    name = Path(source).stem
    # The more also warms the service.
    imgserve_peer.thumbnails(service, place, 50, name, source)
    results = place.take(name, 50)
    right = bare.cover((place.ends.sources / source).read_bytes(), WIDTH_PX, HEIGHT_PX, "JPEG")
    looks.require_same(results, 50, right, (WIDTH_PX, HEIGHT_PX))
    return results[0]


def _own(name: str, costs: list[Cost]) -> list[Figure]:
    return [
        Figure(f"{name}, CPU a job", "ms", tuple(cost.cpu_ms_a_job for cost in costs)),
        Figure(f"{name}, throughput", "jobs/s", tuple(cost.jobs_a_second for cost in costs)),
    ]


def _beside(name: str, costs: list[Cost], bares: list[Cost]) -> list[Figure]:
    pairs = list(zip(costs, bares, strict=True))
    cpu = tuple(cost.cpu_ms_a_job / base.cpu_ms_a_job for cost, base in pairs)
    rate = tuple(cost.jobs_a_second / base.jobs_a_second for cost, base in pairs)
    return [
        Figure(f"{name}, CPU beside bare", "x", cpu, spread_most=RATIO_SPREAD_MOST),
        Figure(f"{name}, throughput beside bare", "x", rate),
    ]


def _imgserve_beside(name: str, owns: list[Cost], costs: list[Cost]) -> list[Figure]:
    pairs = list(zip(owns, costs, strict=True))
    cpu = tuple(own.cpu_ms_a_job / cost.cpu_ms_a_job for own, cost in pairs)
    rate = tuple(own.jobs_a_second / cost.jobs_a_second for own, cost in pairs)
    # What neither fetches nor puts is a floor, as the bare loop is.
    goals = ("", "") if name == IN_MEMORY else ("< 1", "> 1")
    return [
        Figure(f"imgserve's CPU beside {name}", "x", cpu, goals[0]),
        Figure(f"imgserve's rate beside {name}", "x", rate, goals[1]),
    ]


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM, too, stop every process that was started."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(sentence: str) -> None:
    print(f"  {sentence}", file=sys.stderr, flush=True)
