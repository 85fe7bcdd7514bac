"""The numbers that the core decides by, and what follows from them alone."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from imgserve.config import Settings

AMPLE_JOBS: Final = 8
"""A worker with so many jobs at once can wait a moment for its next one."""

SHARE_OF_SLOTS: Final = 0.5
"""Of the jobs that the workers can hold, those that may end between two turns: an empty slot waits
for the next turn, so a quarter of them idles; a pixel process, with eight of its own, does not. A
worker that gets its jobs in lots does each step for several: its caches are warm then."""

SHARE_OF_WAIT: Final = 0.125
"""Of the time that a job takes under load, what a message of it may wait for a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """See the settings of the same names in `imgserve.config`."""

    lease_s: float = 5
    beat_s: float = 1
    queue_limit: int = 1_000_000
    window: int = 10_000
    crash_limit: int = 3
    attempt_limit: int = 100
    retry_limit: int = 4
    retry_base_s: float = 0.5
    retry_max_s: float = 60
    ageing_s: float = 60

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Take the numbers out of the settings."""
        return cls(
            lease_s=settings.lease_s,
            beat_s=settings.beat_s,
            queue_limit=settings.queue_limit,
            crash_limit=settings.crash_limit,
            attempt_limit=settings.attempt_limit,
            retry_limit=settings.retry_limit,
            retry_base_s=settings.retry_base_s,
            retry_max_s=settings.retry_max_s,
            ageing_s=settings.ageing_s,
        )

    def rank(self, submitted_s: float, priority: int) -> float:
        """Return the place in line: a fixed number, yet waiting beats priority in the end."""
        return submitted_s - priority * self.ageing_s

    def retry_delay_s(self, job_id: str, retries: int, asked_s: float) -> float:
        """Return the delay before the next attempt: doubled each time, half of it jitter.

        The jitter comes from the job's id, so that the core stays a function of its input.
        """
        jitter = zlib.crc32(f"{job_id}:{retries}".encode()) / 2**32
        backoff_s = self.retry_base_s * 2.0 ** min(retries - 1, 30) * (0.5 + 0.5 * jitter)
        return float(min(max(asked_s, backoff_s), self.retry_max_s))
