"""What the core says and does: actions gathered in order, events numbered, reports acknowledged."""

from __future__ import annotations

from collections.abc import Container

from imgserve.broker import actions as act
from imgserve.broker.actions import Action, Say, Send
from imgserve.broker.job import Job, row_of
from imgserve.protocol import events, lane
from imgserve.protocol.events import Refusal, State


class Voice:
    """Gathers the actions of one event.

    Args:
        epoch: stamped on everything that is said.
    """

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._seqs: dict[str, int] = {}
        self._acks: dict[str, list[int]] = {}
        self._actions: list[Action] = []

    def take_actions(self) -> list[Action]:
        """Return the actions gathered so far, in order."""
        actions, self._actions = self._actions, []
        return actions

    def take_acks(self, workers: Container[str]) -> list[Action]:
        """Return one acknowledgement for each worker that reported and is still there."""
        acks, self._acks = self._acks, {}
        return [
            Send(incarnation, lane.Ack(self.epoch, tuple(seqs)))
            for incarnation, seqs in acks.items()
            if incarnation in workers
        ]

    def do(self, action: Action) -> None:
        """Add an action."""
        self._actions.append(action)

    def update(self, job: Job) -> None:
        """Journal the progress of a job."""
        job.version += 1
        self._actions.append(act.Update(row_of(job), job.version))

    def end(self, job: Job, state: State, code: int, detail: str) -> None:
        """Journal the end of a job; it is said once that is on disk."""
        job.end(state, code, detail)
        self._actions.append(act.Finish(row_of(job)))

    def ack(self, incarnation: str, seq: int) -> None:
        """Acknowledge a report or a beat at the next flush."""
        self._acks.setdefault(incarnation, []).append(seq)

    def say(self, job: Job, topic: str, state: State | None = None) -> None:
        """Say a job's state on one topic."""
        self._actions.append(Say(topic, job.event(self.epoch, self._next_seq(topic), state)))

    def say_to_all(self, job: Job, state: State | None = None) -> None:
        """Say a job's state to everyone who submitted it."""
        for topic in job.submitters:
            self.say(job, topic, state)

    def refuse(self, topic: str, job_id: str, reason: Refusal, detail: str) -> None:
        """Say that there is no state to say."""
        seq = self._next_seq(topic)
        message = events.Refused(self.epoch, seq, job_id, reason, detail)
        self._actions.append(Say(topic, message))

    def refuse_conflict(self, topic: str, job_id: str) -> None:
        """Say that the id stands for another request."""
        detail = "this job id was used before, with another request"
        self.refuse(topic, job_id, Refusal.CONFLICT, detail)

    def turn_away(self, incarnation: str, reason: str, *, final: bool) -> None:
        """Tell a worker that it has no lane."""
        message = events.TurnedAway(self.epoch, incarnation, final, reason)
        self._actions.append(Say(incarnation, message))

    def forget(self, topic: str) -> None:
        """A topic without a listener starts anew: its next listener sees that as a gap."""
        self._seqs.pop(topic, None)

    def _next_seq(self, topic: str) -> int:
        seq = self._seqs.get(topic, 0) + 1
        self._seqs[topic] = seq
        return seq
