"""A token bucket: how often something may happen, decided without a clock of its own."""

from __future__ import annotations


class Bucket:
    """Holds up to `burst` permits and gains `rate_s` of them a second.

    Args:
        rate_s: permits a second, over 0.
        burst: permits at most, and at first; at least 1.
    """

    def __init__(self, rate_s: float, burst: float) -> None:
        self._rate_s = rate_s
        self._burst = burst
        self._level = burst
        self._seen_s: float | None = None

    def take(self, now_s: float) -> float:
        """Take one permit.

        Args:
            now_s: a monotonic time.

        Returns: 0 when it was there; else the seconds until it will be, and nothing is taken.
        """
        passed_s = max(0.0, now_s - self._seen_s) if self._seen_s is not None else 0.0
        self._level = min(self._burst, self._level + passed_s * self._rate_s)
        self._seen_s = now_s
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self._rate_s

    def like(self, other: Bucket) -> bool:
        """Tell whether another has the same limits."""
        return (self._rate_s, self._burst) == (other._rate_s, other._burst)
