"""What a submitter still waits for, and what to say again: pure, with the time handed in.

The broker's events are hints that may be lost. The ledger notices loss in three ways (a gap in the
sequence, a new epoch, silence) and asks again for what it waits for; a slow replay is the last net.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from imgserve.protocol.events import BrokerBeat, JobState, Refusal, Refused, State
from imgserve.protocol.jobs import Replay, Submit, digest_of

RANK: Final = {
    State.QUEUED: 1,
    State.DISPATCHED: 2,
    State.ACCEPTED: 3,
    State.DONE: 4,
    State.FAILED: 4,
    State.REJECTED: 4,
    State.CANCELLED: 4,
}
"""States only move forward; the furthest seen is the one that counts."""

FINAL_RANK: Final = 4

LEFT_LIMIT: Final = 10_000
"""Dropped jobs whose payloads are remembered; two hundred bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a submitter says things again.

    Args:
        resend_s: wait before an unacknowledged submit goes again; doubles each time.
        resend_max_s: the longest such wait.
        quiet_s: a job with no news for so long is asked for: the last net under lost events.
        beat_s: the broker's beat until its first one names its own interval.
        silent_beats: beats missed in a row before the broker counts as silent.
        batch: submits, or ids of a replay, said at one go, so that a recovery floods nobody.
    """

    resend_s: float = 2.0
    resend_max_s: float = 30.0
    quiet_s: float = 30.0
    beat_s: float = 1.0
    silent_beats: int = 3
    batch: int = 1000


@dataclass(slots=True, eq=False)
class Entry:
    """One job as its submitter knows it; it leaves the ledger once nothing more can come.

    Args:
        payload: the request; None for a job that is only watched.
        tag: what its worker must have; empty: any worker.
        latest: the furthest state heard; None until the broker said `queued`.
        refusal: the last refusal since; a conflict or an unknown watched job is final.
        dst_url: the final dstURL since the job was accepted.
        sends, sent_s, news_s, due_s: what the ledger's timers know.
        watchers: called after each change.
        leader: the entry in the ledger that this one follows: the same job, submitted twice.
        followers: the entries that follow this one.
    """

    job_id: str
    payload: bytes | None
    priority: int = 0
    tag: str = ""
    latest: JobState | None = None
    refusal: Refused | None = None
    dst_url: str = ""
    sends: int = 0
    sent_s: float = 0.0
    news_s: float = 0.0
    due_s: float = inf
    over: bool = False
    watchers: list[Callable[[Entry], None]] = field(default_factory=list)
    leader: Entry | None = None
    followers: tuple[Entry, ...] = ()

    def tell(self) -> None:
        """Call the watchers; followers come to say the same."""
        for watcher in tuple(self.watchers):
            watcher(self)
        for follower in self.followers:
            follower.latest, follower.refusal = self.latest, self.refusal
            follower.dst_url, follower.over = self.dst_url, self.over
            follower.tell()

    def follow(self, leader: Entry) -> None:
        """Say from now on what the leader says."""
        self.leader = leader
        leader.followers = (*leader.followers, self)

    def unfollow(self) -> None:
        """Hear no more of the leader."""
        if self.leader is not None:
            followers = self.leader.followers
            self.leader.followers = tuple(each for each in followers if each is not self)
            self.leader = None


class Ledger:
    """The outstanding jobs of one submitter and the broker's life as seen from here."""

    def __init__(self, submitter: str, timing: Timing | None = None) -> None:
        self.submitter = submitter
        self.timing = timing or Timing()
        self.jobs: dict[str, Entry] = {}
        self.epoch = ""
        self.alive = False
        self.full = False
        self.gaps = 0
        self.unacknowledged = 0
        self._seq = 0
        self._heard_s = -inf
        self._interval_s = self.timing.beat_s
        self._timers: list[tuple[float, int, Entry]] = []
        self._ties = itertools.count()
        self._to_submit: dict[str, None] = {}
        self._to_replay: dict[str, None] = {}
        self._left: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return (
            f"<Ledger {self.submitter}: {len(self.jobs)} jobs, {self.unacknowledged} of them not "
            f"acknowledged, broker {self.epoch or 'not heard'}{'' if self.alive else ', silent'}>"
        )

    @property
    def held(self) -> int:
        """Submits that wait for the broker to be heard, or for their turn."""
        return len(self._to_submit)

    @property
    def pending(self) -> bool:
        """Whether `due` has more to say at once."""
        return self.alive and not self.full and bool(self._to_submit or self._to_replay)

    def add(self, entry: Entry, now_s: float) -> Submit | Replay | None:
        """Take a job on; returns what to send now, or None while the broker is not heard."""
        self.jobs[entry.job_id] = entry
        self._left.pop(entry.job_id, None)
        entry.news_s = now_s
        if entry.payload is None:
            return self._say_or_hold(entry, self._to_replay, now_s)
        self.unacknowledged += 1
        return self._say_or_hold(entry, self._to_submit, now_s)

    def drop(self, entry: Entry) -> None:
        """Stop caring for a job that nobody watches; the broker goes on with it."""
        if entry.watchers or entry.followers:
            return
        leader = entry.leader
        entry.unfollow()
        if leader is not None:
            self.drop(leader)
        elif self.jobs.get(entry.job_id) is entry:
            self._remember(entry)
            self._remove(entry)

    def is_conflict(self, entry: Entry) -> bool:
        """Tell whether a job that was dropped here goes on under this id with another payload.

        Its events name the job and not its payload: until the broker refuses the new one they
        would be taken for news of it.
        """
        known = self._left.get(entry.job_id)
        return known is not None and entry.payload is not None and known != digest_of(entry.payload)

    def hear_beat(self, beat: BrokerBeat, now_s: float) -> None:
        """The broker lives; after a new epoch or a silence everything is asked for again."""
        self._interval_s = beat.interval_s or self.timing.beat_s
        self.full = beat.full
        self.hear_life(beat.epoch, now_s)

    def hear_life(self, epoch: str, now_s: float) -> None:
        """Any event proves that the broker lives and that the subscription is in place."""
        self._heard_s = now_s
        if self.alive and epoch == self.epoch:
            return
        if epoch != self.epoch:
            self.epoch, self._seq = epoch, 0
        self.alive = True
        for entry in list(self.jobs.values()):
            known = entry.payload is None or entry.latest is not None
            (self._to_replay if known else self._to_submit)[entry.job_id] = None

    def hear_state(self, state: JobState, now_s: float) -> Entry | None:
        """Returns the entry if this state moved it forward."""
        self._count(state.epoch, state.seq, now_s)
        rank = RANK[state.state]  # type: ignore[index]  # a StrEnum equals its value
        entry = self.jobs.get(state.job_id)
        if entry is None:
            if rank == FINAL_RANK:
                self._left.pop(state.job_id, None)
            return None
        entry.news_s = now_s
        if entry.latest is None:
            self._acknowledge(entry)
        elif RANK[entry.latest.state] >= rank:  # type: ignore[index]
            return None
        entry.latest, entry.refusal = state, None
        entry.dst_url = state.dst_url or entry.dst_url
        if rank == FINAL_RANK:
            self._remove(entry)
        return entry

    def hear_refused(self, refused: Refused, now_s: float) -> Entry | None:
        """Returns the entry; a job that the broker lost or had no room for goes again."""
        self._count(refused.epoch, refused.seq, now_s)
        entry = self.jobs.get(refused.job_id)
        if entry is None:
            return None
        entry.news_s = now_s
        entry.refusal = refused
        if refused.reason == Refusal.CONFLICT or entry.payload is None:
            self._remove(entry)
        elif refused.reason == Refusal.UNKNOWN:
            self._forgotten(entry)
        elif entry.latest is None:
            entry.sends, entry.sent_s = entry.sends + 1, now_s
            self._to_submit.pop(entry.job_id, None)
            self._arm(entry, now_s + self._backoff_s(entry))
        return entry

    def silent(self, now_s: float) -> bool:
        """Tell, once, that the broker has gone silent; nothing is sent until it is heard again."""
        limit_s = self.timing.silent_beats * self._interval_s
        if not self.alive or now_s - self._heard_s <= limit_s:
            return False
        self.alive = False
        return True

    def due(self, now_s: float) -> list[Submit | Replay]:
        """Say what has to be said again now: one batch at most."""
        if not self.alive or self.full:
            return []
        self._run_timers(now_s)
        messages = [
            self._say(entry, now_s) for entry in self._take(self._to_submit) if entry.latest is None
        ]
        ids = tuple(entry.job_id for entry in self._take(self._to_replay))
        if ids:
            messages.append(Replay(self.submitter, ids))
        return messages

    def _say_or_hold(
        self, entry: Entry, queue: dict[str, None], now_s: float
    ) -> Submit | Replay | None:
        if self.alive and not self.full and not queue:
            return self._say(entry, now_s)
        queue[entry.job_id] = None
        return None

    def _say(self, entry: Entry, now_s: float) -> Submit | Replay:
        entry.sends, entry.sent_s = entry.sends + 1, now_s
        self._arm(entry, now_s + self._backoff_s(entry))
        if entry.payload is None:
            return Replay(self.submitter, (entry.job_id,))
        return Submit(entry.job_id, self.submitter, entry.priority, entry.payload, entry.tag)

    def _backoff_s(self, entry: Entry) -> float:
        doublings = min(max(entry.sends - 1, 0), 16)
        return min(self.timing.resend_s * (1 << doublings), self.timing.resend_max_s)

    def _arm(self, entry: Entry, due_s: float) -> None:
        """One live timer an entry; an item whose time is not the entry's own is stale."""
        if due_s < entry.due_s:
            entry.due_s = due_s
            heapq.heappush(self._timers, (due_s, next(self._ties), entry))

    def _run_timers(self, now_s: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now_s:
            due_s, _, entry = heapq.heappop(timers)
            if entry.over or due_s != entry.due_s:
                continue
            entry.due_s = inf
            waiting = entry.latest is None
            next_s = (
                entry.sent_s + self._backoff_s(entry)
                if waiting
                else entry.news_s + self.timing.quiet_s
            )
            if next_s <= now_s:
                again = (
                    self._to_submit if waiting and entry.payload is not None else (self._to_replay)
                )
                again[entry.job_id] = None
                entry.news_s = now_s
                next_s = now_s + (self.timing.resend_s if waiting else self.timing.quiet_s)
            self._arm(entry, next_s)

    def _take(self, queue: dict[str, None]) -> Iterable[Entry]:
        ids = list(itertools.islice(queue, self.timing.batch))
        for job_id in ids:
            del queue[job_id]
        return [entry for job_id in ids if (entry := self.jobs.get(job_id))]

    def _count(self, epoch: str, seq: int, now_s: float) -> None:
        """A hole in the sequence is a lost event, of whichever job: ask for all.

        A step back is one too: the broker numbers a topic anew once it has lost its listener, and
        what it said until the connection was back is lost.
        """
        self.hear_life(epoch, now_s)
        if seq > self._seq + 1 or seq < self._seq:
            self.gaps += 1
            for job_id in list(self.jobs):
                if job_id not in self._to_submit:
                    self._to_replay[job_id] = None
        self._seq = seq

    def _acknowledge(self, entry: Entry) -> None:
        if entry.payload is not None:
            self.unacknowledged -= 1
        self._to_submit.pop(entry.job_id, None)

    def _forgotten(self, entry: Entry) -> None:
        """The broker never heard of the job, or its journal is gone: it is new again."""
        if entry.latest is not None:
            self.unacknowledged += 1
        entry.latest, entry.dst_url, entry.sends = None, "", 0
        self._to_submit[entry.job_id] = None

    def _remember(self, entry: Entry) -> None:
        if entry.latest is None or entry.payload is None:
            return
        self._left[entry.job_id] = digest_of(entry.payload)
        if len(self._left) > LEFT_LIMIT:
            del self._left[next(iter(self._left))]

    def _remove(self, entry: Entry) -> None:
        del self.jobs[entry.job_id]
        if entry.latest is None and entry.payload is not None:
            self.unacknowledged -= 1
        self._to_submit.pop(entry.job_id, None)
        self._to_replay.pop(entry.job_id, None)
        entry.over = True
