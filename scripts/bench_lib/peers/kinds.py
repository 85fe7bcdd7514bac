"""What a peer is: something that starts, does rounds of jobs, and shows what it made."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench_lib.bare import Cost
from bench_lib.ends import Ends

WIDTH_PX, HEIGHT_PX = 200, 120
CPUS = len(os.sched_getaffinity(0))
SOURCE = "photo.jpg"
"""The name of the source that every job fetches."""
WINDOW = 64
"""Jobs under way at once, where the peer leaves that to its user; as imgserve's client has it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer works.

    Args:
        folder: a folder of its own.
        ends: nginx, which serves the source and takes the results.
    """

    folder: Path
    ends: Ends

    @property
    def source_url(self) -> str:
        """The address of the source."""
        return f"{self.ends.url}/{SOURCE}"

    def put(self, name: str) -> str:
        """The address of a round's results, to be followed by the job's number and `.jpg`."""
        return f"{self.ends.url}/out/{name}-"

    def take(self, name: str, jobs: int) -> list[bytes]:
        """Take a round's results away; those that are missing are left out."""
        found = []
        for number in range(jobs):
            path = self.ends.results / f"{name}-{number}.jpg"
            if path.is_file():
                found.append(path.read_bytes())
                path.unlink()
        return found


@dataclass(frozen=True, slots=True)
class Round:
    """What a round of jobs cost and made.

    Args:
        cost: of all processes of the peer.
        results: encoded pictures, one for each job, or as many as `samples` says.
        samples: how many results there are where most are not kept.
    """

    cost: Cost
    results: list[bytes]
    samples: int | None = None


Run = Callable[[int, str], Round]
"""Do as many jobs; the name is the round's, for the results."""

Start = Callable[[Place], AbstractContextManager[Run]]
"""Start the peer for the length of a block; raises BenchError when it cannot be measured."""
