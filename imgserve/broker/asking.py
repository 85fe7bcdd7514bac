"""Cancels and replays: what submitters ask about jobs, in memory or only in the journal."""

from __future__ import annotations

from imgserve.broker import actions as act
from imgserve.broker.actions import Purpose, Send
from imgserve.broker.hold import Hold
from imgserve.broker.job import Job, job_of
from imgserve.broker.line import Line
from imgserve.broker.states import Phase
from imgserve.broker.voice import Voice
from imgserve.protocol import jobs
from imgserve.protocol.events import Refusal, State


class Asking:
    """Part of the core: the handlers of cancels and replays.

    Args:
        jobs, storing, line, voice: the core's own.
        hold: until it is over a worker of a former life may still upload for a job that waits
            here, so cancelled ones do not end before.
        doubtful: such a worker may have begun any job that waits in the journal.
    """

    def __init__(  # noqa: PLR0913 (keyword-only, and six are the limit of the style)
        self,
        *,
        jobs: dict[str, Job],
        storing: dict[str, Job],
        line: Line,
        voice: Voice,
        hold: Hold,
        doubtful: bool = False,
    ) -> None:
        self._jobs = jobs
        self._storing = storing
        self._line = line
        self._voice = voice
        self._hold = hold
        self._doubtful = doubtful
        self._cancelled_early: list[str] = []

    def replay(self, message: jobs.Replay, _now_s: float) -> None:
        """Say where jobs are; those that are being stored are said once they are."""
        missing = []
        for job_id in message.job_ids:
            job = self._jobs.get(job_id)
            if job is not None:
                self._voice.say(job, message.submitter)
            elif job_id not in self._storing:
                missing.append(job_id)
        if missing:
            self._voice.do(act.LookUp(tuple(missing), message.submitter, Purpose.REPLAY))

    def cancel(self, message: jobs.Cancel, now_s: float) -> None:
        """Cancel a job wherever it is."""
        job_id = message.job_id
        if job_id in self._storing:
            self._storing[job_id].cancelled = True
            self._storing[job_id].add_submitter(message.submitter)
        elif job_id in self._jobs:
            self._cancel_known(self._jobs[job_id], message.submitter, now_s)
        else:
            self._voice.do(act.LookUp((job_id,), message.submitter, Purpose.CANCEL))

    def looked_up(self, event: act.LookedUp, now_s: float) -> None:
        """Answer for jobs that were not in memory when they were asked for."""
        found = {row.job_id: row for row in event.rows}
        for job_id in event.job_ids:
            row = found.get(job_id)
            job = self._jobs.get(job_id) or (row and job_of(row, doubtful=self._doubtful))
            if job is None:
                if job_id not in self._storing:
                    detail = "no such job, or it is no longer remembered"
                    self._voice.refuse(event.asker, job_id, Refusal.UNKNOWN, detail)
            elif event.purpose is Purpose.CANCEL and job.state is None:
                self.cancel_stored(job, event.asker, now_s)
            else:
                self._voice.say(job, event.asker)

    def cancel_stored(self, job: Job, topic: str, now_s: float) -> None:
        """Cancel a job that was only in the journal when its row was read."""
        if job.job_id in self._jobs:
            self._cancel_known(job, topic, now_s)
            return
        job.add_submitter(topic)
        job.cancelled = True
        self._jobs[job.job_id] = job
        self._line.take_from_disk()
        if self._hold.over(now_s):
            self.resolve(job)
            return
        self._cancel_later(job)
        self._voice.say(job, topic)
        self._line.add(job)

    def wake(self, now_s: float) -> None:
        """End the jobs that were cancelled while a former life might have held them."""
        if not self._cancelled_early or not self._hold.over(now_s):
            return
        for job_id in self._cancelled_early:
            job = self._jobs.get(job_id)
            if job is not None and job.phase is Phase.QUEUED and not job.verdict:
                self._line.remove(job)
                self.resolve(job)
        self._cancelled_early.clear()

    def resolve(self, job: Job) -> None:
        """End a cancelled job that no worker holds; a placeholder that is up must go first."""
        if job.placed:
            after = "it was accepted" if job.accepted else "an attempt at it was lost"
            job.verdict, job.detail = 406, f"cancelled after {after}"
            self._voice.update(job)
            self._line.add(job)
        else:
            self._voice.end(job, State.CANCELLED, 406, "cancelled before it was accepted")

    def send_cancel(self, job: Job) -> None:
        """Tell the worker that holds a job to stop it."""
        self._voice.do(Send(job.incarnation, job.cancel_order(self._voice.epoch)))

    def _cancel_later(self, job: Job) -> None:
        self._voice.update(job)
        self._cancelled_early.append(job.job_id)

    def _cancel_known(self, job: Job, topic: str, now_s: float) -> None:
        job.add_submitter(topic)
        if job.phase is Phase.QUEUED:
            job.cancelled = True
            if not self._hold.over(now_s):
                self._cancel_later(job)
            else:
                self._line.remove(job)
                self.resolve(job)
        elif job.phase in (Phase.DISPATCHED, Phase.ACCEPTED):
            job.cancelled = True
            self._voice.update(job)
            self.send_cancel(job)
        if job.phase is not Phase.ENDING:  # else its end is said as soon as it is on disk
            self._voice.say(job, topic)
