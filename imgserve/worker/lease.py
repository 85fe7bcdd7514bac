"""The worker's own lease: how long it may still upload without having heard from the broker.

Pure: times come in, times come out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SAFE_PART: Final = 0.8
"""The worker stops at this part of the broker's lease: the rest covers an upload's last packets
and clocks that run at different speeds."""


class Lease:
    """Runs from the moment a beat was *sent* that the broker later acknowledged.

    The broker counts its lease from the moment it received that beat, which is later; so the
    worker's ends first, however long the acknowledgement took.

    Args:
        lease_s: the broker's lease.
        now_s: when the worker was welcomed.
    """

    def __init__(self, lease_s: float, *, now_s: float) -> None:
        self._safe_s = lease_s * SAFE_PART
        self._sent: dict[int, float] = {}
        self.expires_at_s = now_s + self._safe_s
        self.confirmed = False
        """Whether any beat was acknowledged: the welcome itself may have been long on its way."""

    def sent(self, seq: int, now_s: float) -> None:
        """Remember when a beat was sent; those too old to renew anything are forgotten."""
        self._sent[seq] = now_s
        for old in [key for key, at_s in self._sent.items() if at_s + self._safe_s < now_s]:
            del self._sent[old]

    def acknowledged(self, seqs: Iterable[int]) -> None:
        """Take an acknowledgement; numbers that are no beat's change nothing."""
        for seq in seqs:
            sent_s = self._sent.pop(seq, None)
            if sent_s is not None:
                self.confirmed = True
                self.expires_at_s = max(self.expires_at_s, sent_s + self._safe_s)

    def valid(self, now_s: float) -> bool:
        """Tell whether the worker may upload now."""
        return now_s < self.expires_at_s
