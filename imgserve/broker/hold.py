"""How long recovered jobs wait: until nobody of a former life can still upload for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Hold:
    """The workers of former lives that may still be at work.

    Args:
        awaited: incarnation -> when its lease is over, by the clock of the core.
    """

    def __init__(self, awaited: Mapping[str, float]) -> None:
        self.awaited = dict(awaited)

    def __repr__(self) -> str:
        return f"<Hold for {len(self.awaited)} workers>"

    def settle(self, incarnations: Iterable[str]) -> None:
        """Wait no longer for those of which nothing runs any more."""
        if self.awaited:
            for incarnation in incarnations:
                self.awaited.pop(incarnation, None)

    def over(self, now_s: float) -> bool:
        """Tell whether jobs may be given away."""
        if self.awaited and max(self.awaited.values()) <= now_s:
            self.awaited.clear()
        return not self.awaited
