"""The broker's heart: `handle(event, now_s) -> [action]`, without sockets, clocks or files.

Everything that is promised about scheduling and failure is decided here: what is said only after
it is on disk, who holds a job, whose reports count, when a worker is given up, when a job is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from imgserve.broker import actions as act
from imgserve.broker.actions import Action, Send
from imgserve.broker.asking import Asking
from imgserve.broker.fleet import Fleet, Worker
from imgserve.broker.hold import Hold
from imgserve.broker.job import Job, Row, job_of, row_of
from imgserve.broker.joining import Joining
from imgserve.broker.line import FIRST, TAGGED_LIMIT, Line
from imgserve.broker.policy import AMPLE_JOBS, SHARE_OF_SLOTS, SHARE_OF_WAIT, Policy
from imgserve.broker.states import Happening, Phase, step
from imgserve.broker.tally import Tally
from imgserve.broker.voice import Voice
from imgserve.protocol import jobs, reports
from imgserve.protocol.events import Refusal, State
from imgserve.protocol.reports import ReturnReason

log = logging.getLogger(__name__)

RESEND_BEATS: Final = 2
"""Beats without a job that was sent: then its lane message was lost and is sent again."""


class Core:
    """The pure state machine.

    Args:
        policy: its numbers.
        epoch: this life of the broker; reports of another life change nothing.
        wall_offset_s: wall clock minus the clock of `now_s`, so that ranks survive a restart.
        waiting_on_disk: unfinished jobs that the journal recovered.
        awaited: workers of former lives that may be at work, and when the lease of each is over:
            recovered jobs wait until all have come back or stopped by their own leases.
        doubtful: such a worker may have begun any of the recovered jobs.
    """

    def __init__(  # noqa: PLR0913 (keyword-only, and six are the limit of the style)
        self,
        *,
        policy: Policy,
        epoch: str,
        wall_offset_s: float = 0.0,
        waiting_on_disk: int = 0,
        awaited: Mapping[str, float] | None = None,
        doubtful: bool = False,
    ) -> None:
        self.policy = policy
        self.epoch = epoch
        self.jobs: dict[str, Job] = {}
        self.storing: dict[str, Job] = {}
        self.line = Line(window=policy.window, jobs=self.jobs)
        self.fleet = Fleet()
        self.tally = Tally()
        self.draining = False
        self._wall_offset_s = wall_offset_s
        self.hold = Hold(awaited or {})
        self._doubtful = doubtful
        self._voice = Voice(epoch)
        if waiting_on_disk:
            self.line.on_disk = waiting_on_disk
            self.line.horizon = FIRST
        self._asking = Asking(
            jobs=self.jobs,
            storing=self.storing,
            line=self.line,
            voice=self._voice,
            hold=self.hold,
            doubtful=doubtful,
        )
        joining = Joining(
            policy=policy, epoch=epoch, fleet=self.fleet, voice=self._voice, hold=self.hold
        )
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            jobs.Submit: self._submit,
            jobs.Cancel: self._asking.cancel,
            jobs.Replay: self._asking.replay,
            reports.Hello: joining.hello,
            reports.Beat: self._beat,
            reports.Accepted: self._accepted,
            reports.Rejected: self._rejected,
            reports.Done: self._done,
            reports.Failed: self._failed,
            reports.Returned: self._returned,
            reports.Bye: self._bye,
            act.Appended: self._appended,
            act.AppendFailed: self._append_failed,
            act.Updated: self._updated,
            act.Finished: self._finished,
            act.Loaded: self._loaded,
            act.LookedUp: self._looked_up,
            act.LaneOpened: joining.lane_opened,
            act.LaneRefused: joining.lane_refused,
            act.Unsubscribed: lambda event, _: self._voice.forget(event.topic),
            act.Tick: self._tick,
        }

    def handle(self, event: object, now_s: float) -> list[Action]:
        """Take one event and return what is to be done, in order.

        Args:
            event: a message of the jobs or reports socket, or an internal event.
            now_s: monotonic seconds, never going back.
        """
        self._handlers[type(event)](event, now_s)
        return self._voice.take_actions()

    def flush(self) -> list[Action]:
        """Return the acknowledgements gathered since the last flush."""
        return self._voice.take_acks(self.fleet.workers)

    @property
    def unfinished(self) -> int:
        """Jobs that are taken, or being taken, and have not ended."""
        return self.under_way + self.line.on_disk

    @property
    def full(self) -> bool:
        """Whether no more jobs are taken now."""
        return self.draining or self.unfinished >= self.policy.queue_limit

    @property
    def under_way(self) -> int:
        """Unfinished jobs in memory: with the waiting window, but without what waits on disk."""
        return len(self.jobs) + len(self.storing)

    @property
    def well_supplied(self) -> bool:
        """Whether there are jobs enough for every worker, and room for them there.

        No worker then idles, and nobody's answer is the next one, because a message waits.
        """
        ample = AMPLE_JOBS * len(self.fleet.workers)
        return 0 < ample <= min(self.fleet.slots, self.under_way)

    @property
    def jobs_between_turns(self) -> float:
        """How many jobs may pass between two turns, where all workers are well supplied.

        In the time that as many as are under way take to pass, each of them does.
        """
        return min(SHARE_OF_SLOTS * self.fleet.slots, SHARE_OF_WAIT * self.under_way)

    # --- submitters

    def _submit(self, message: jobs.Submit, now_s: float) -> None:
        topic = message.submitter
        if self.draining:
            self._voice.refuse(
                topic, message.job_id, Refusal.DRAINING, "the service is shutting down"
            )
            return
        digest = jobs.digest_of(message.payload)
        known = self.jobs.get(message.job_id) or self.storing.get(message.job_id)
        if known is not None:
            self._submit_again(known, topic, same=known.digest == digest)
            return
        if message.tag and self.line.tagged_count >= TAGGED_LIMIT:
            detail = f"{self.line.tagged_count} jobs with a tag wait; at most {TAGGED_LIMIT} may"
            self._voice.refuse(topic, message.job_id, Refusal.OVERLOADED, detail)
            return
        job = Job(
            job_id=message.job_id,
            submitters=(topic,),
            priority=message.priority,
            tag=message.tag,
            rank=self.policy.rank(now_s + self._wall_offset_s, message.priority),
            digest=digest,
            payload=message.payload,
        )
        self.storing[job.job_id] = job
        self._voice.do(act.Append(row_of(job)))

    def _submit_again(self, job: Job, topic: str, *, same: bool) -> None:
        if not same:
            self._voice.refuse_conflict(topic, job.job_id)
            return
        job.add_submitter(topic)
        if job.phase not in (Phase.STORING, Phase.ENDING):  # else it is said once on disk
            self._voice.say(job, topic)

    def _appended(self, event: act.Appended, now_s: float) -> None:
        for job_id, existing in event.results:
            job = self.storing.pop(job_id)
            if existing is not None:
                self._appended_before(job, existing, now_s)
                continue
            job.phase = step(job.phase, Happening.STORED)
            self.tally.count(State.QUEUED)
            if self.line.belongs_on_disk(job) and not job.cancelled:
                self.line.on_disk += 1
                self._voice.say_to_all(job)
                continue
            self.jobs[job_id] = job
            self._voice.say_to_all(job)
            if job.cancelled:
                self._voice.end(job, State.CANCELLED, 406, "cancelled while queued")
            else:
                self.line.add(job)
        self._dispatch(now_s)

    def _appended_before(self, job: Job, row: Row, now_s: float) -> None:
        """The id was journaled earlier: the original outcome again, or a conflict."""
        known = self.jobs.get(job.job_id) or job_of(row, doubtful=self._doubtful)
        if known.digest != job.digest:
            for topic in job.submitters:
                self._voice.refuse_conflict(topic, job.job_id)
            return
        for topic in job.submitters:
            known.add_submitter(topic)
            if known.phase is not Phase.ENDING:  # else its end is said as soon as it is on disk
                self._voice.say(known, topic)
        if job.cancelled and known.state is None:
            self._asking.cancel_stored(known, job.submitters[-1], now_s)
        elif known.state is None and job.job_id not in self.jobs:
            self._join_waiting(known)

    def _append_failed(self, event: act.AppendFailed, _now_s: float) -> None:
        for job_id in event.job_ids:
            job = self.storing.pop(job_id)
            for topic in job.submitters:
                self._voice.refuse(topic, job_id, Refusal.OVERLOADED, event.detail)

    def _join_waiting(self, job: Job) -> None:
        """Bring a job into memory that so far only the journal held: it has a new listener."""
        self.jobs[job.job_id] = job
        self.line.take_from_disk()
        self._voice.update(job)
        self.line.add(job)

    def _looked_up(self, event: act.LookedUp, now_s: float) -> None:
        self._asking.looked_up(event, now_s)
        self._dispatch(now_s)

    # --- workers

    def _heard(self, incarnation: str, epoch: str, now_s: float) -> Worker | None:
        """Renew a worker's lease; one that has none any more is told so."""
        worker = self.fleet.workers.get(incarnation)
        if worker is not None and epoch == self.epoch:
            worker.heard_s = now_s
            return worker
        if worker is None and epoch == self.epoch:
            self._voice.turn_away(
                incarnation, "its lease is over; its jobs went to others", final=False
            )
        return None

    def _beat(self, message: reports.Beat, now_s: float) -> None:
        worker = self._heard(message.incarnation, message.epoch, now_s)
        if worker is None:
            return
        worker.beat = message
        # Who ends would only give back whatever came next.
        worker.leaving = worker.leaving or bool(message.vitals.get("leaving"))
        if "wall_s" in message.vitals:
            worker.clock_off_s = message.vitals["wall_s"] - (now_s + self._wall_offset_s)
        self._voice.ack(message.incarnation, message.seq)
        if not worker.lively:
            worker.lively = True
            self.fleet.offer(worker)
            self._dispatch(now_s)
        elif worker.held:
            self._send_lost_again(worker, message, now_s)

    def _send_lost_again(self, worker: Worker, message: reports.Beat, now_s: float) -> None:
        """A job that the worker does not list was lost on its lane: the same attempt again.

        A worker lists a job until its final report is acknowledged, and knows attempts that it
        has ended, so sending again is harmless where the two messages only crossed.
        """
        running = set(message.running)
        limit_s = now_s - RESEND_BEATS * self.policy.beat_s
        for job in worker.held.values():
            if job.sent_s < limit_s and (job.job_id, job.attempt) not in running:
                job.sent_s = now_s
                self._send_job(worker, job)
                if job.cancelled:
                    self._asking.send_cancel(job)

    def _bye(self, message: reports.Bye, now_s: float) -> None:
        self.hold.settle((message.incarnation,))
        reason = f"its worker left: {message.reason}"
        self._part_with(message.incarnation, reason, now_s, last_word=message.reason)

    def _part_with(
        self, incarnation: str, reason: str, now_s: float, *, last_word: str = ""
    ) -> None:
        worker = self.fleet.remove(incarnation)
        if worker is None:
            return
        self.fleet.depart(worker, last_word or reason, now_s)
        self._voice.do(act.CloseLane(incarnation))
        for job in worker.held.values():
            job.phase = step(job.phase, Happening.LOSE)
            job.touched = True
            job.add_reason(reason)
            self._requeue(job)
        self._dispatch(now_s)

    # --- reports on jobs

    def _owned(self, report: reports.JobReport, now_s: float) -> tuple[Worker, Job] | None:
        """Return whose report this is, None when it is stale: then it changes nothing."""
        worker = self._heard(report.incarnation, report.epoch, now_s)
        if worker is None:
            return None
        job = worker.held.get(report.job_id)
        if job is not None and job.attempt == report.attempt:
            return worker, job
        ending = self.jobs.get(report.job_id)
        if ending is None or ending.final_seq != report.seq:
            self._voice.ack(report.incarnation, report.seq)  # else it is acknowledged once on disk
        return None

    def _accepted(self, report: reports.Accepted, now_s: float) -> None:
        owned = self._owned(report, now_s)
        if owned is None:
            return
        _, job = owned
        self._voice.ack(report.incarnation, report.seq)
        if job.phase is not Phase.DISPATCHED:
            return  # said before
        job.phase = step(job.phase, Happening.ACCEPT)
        job.accepted = True
        job.dst_url = report.dst_url
        self._voice.update(job)
        job.unsaid = job.version

    def _updated(self, event: act.Updated, _now_s: float) -> None:
        for job_id, version in event.results:
            job = self.jobs.get(job_id)
            if job is not None and 0 < job.unsaid <= version:
                job.unsaid = 0
                self._voice.say_to_all(job, State.ACCEPTED)

    def _done(self, report: reports.Done, now_s: float) -> None:
        owned = self._owned(report, now_s)
        if owned is None:
            return
        worker, job = owned
        worker.ended += 1
        job.take_result(report)
        self.tally.measure(report.seconds)
        self._release(worker, job, report.seq)
        self._voice.end(job, State.DONE, 0, "")
        self._dispatch(now_s)

    def _rejected(self, report: reports.Rejected, now_s: float) -> None:
        self._final(report, State.REJECTED, now_s)

    def _failed(self, report: reports.Failed, now_s: float) -> None:
        self._final(report, State.FAILED, now_s)

    def _final(self, report: reports.Verdict, state: State, now_s: float) -> None:
        owned = self._owned(report, now_s)
        if owned is None:
            return
        worker, job = owned
        worker.ended += 1
        if state is State.REJECTED and job.accepted:
            state = State.FAILED  # said accepted once: a later attempt can only fail
        elif job.touched and not job.accepted and job.verdict and report.code < 400:
            state = State.REJECTED  # its last attempt was refused, and what stood there is replaced
        if report.code == 406 and job.cancelled:
            state = State.CANCELLED
        self._release(worker, job, report.seq)
        self._voice.end(job, state, report.code, report.detail)
        self._dispatch(now_s)

    def _returned(self, report: reports.Returned, now_s: float) -> None:
        owned = self._owned(report, now_s)
        if owned is None:
            return
        worker, job = owned
        self._release(worker, job, 0)
        self._voice.ack(report.incarnation, report.seq)
        job.add_reason(f"{report.reason}, {report.code}: {report.detail}")
        if report.reason == ReturnReason.DRAINED:
            job.attempts -= 1
            job.phase = step(job.phase, Happening.RETURN)
            self._requeue(job)
        elif report.reason == ReturnReason.CRASHED:
            job.crashes += 1
            spent = job.crashes >= self.policy.crash_limit
            self._again(job, report, now_s, 0.0, spent=spent)
        else:
            job.retries += 1
            delay_s = self.policy.retry_delay_s(job.job_id, job.retries, report.delay_s)
            spent = job.retries > self.policy.retry_limit
            self._again(job, report, now_s, delay_s, spent=spent)
        self._dispatch(now_s)

    def _again(
        self, job: Job, report: reports.Returned, now_s: float, delay_s: float, *, spent: bool
    ) -> None:
        """Try a job again after a delay, or end it when its attempts are spent."""
        if spent and not job.placed:
            state = State.FAILED if report.code >= 400 else State.REJECTED
            self._voice.end(job, state, report.code, report.detail)
            return
        job.phase = step(job.phase, Happening.RETURN)
        if spent:
            code = 403 if job.accepted and report.code < 400 else report.code
            job.verdict, job.detail = code, report.detail
            delay_s = 0.0
        self._requeue(job, until_s=now_s + delay_s if delay_s else 0.0)

    def _release(self, worker: Worker, job: Job, final_seq: int) -> None:
        """Give a job's slot back to its worker's credit."""
        del worker.held[job.job_id]
        job.final_seq = final_seq
        self.fleet.offer(worker)

    def _requeue(self, job: Job, until_s: float = 0.0) -> None:
        if job.cancelled:
            self._asking.resolve(job)
            return
        self._voice.update(job)
        if until_s:
            self.line.delay(job, until_s)
        else:
            self.line.add(job)

    # --- dispatch, ends, time

    def _dispatch(self, now_s: float) -> None:
        if self.draining or not self.hold.over(now_s):
            self._load_more()
            return
        while (worker := self.fleet.freest()) is not None:
            job = self.line.pop(self.fleet.free_tags() if self.line.tagged_count else ())
            if job is not None and job.tag:
                worker = self.fleet.freest(job.tag)
            if job is None or worker is None:
                break
            if job.cancelled and not job.verdict:
                self._asking.resolve(job)  # cancelled while it ran, in a former life of the broker
                continue
            if job.attempt >= self.policy.attempt_limit and not job.verdict:
                self._give_up(job)
                continue
            job.phase = step(job.phase, Happening.DISPATCH)
            job.attempt += 1
            job.attempts += 1
            job.incarnation = worker.hello.incarnation
            job.sent_s = now_s
            worker.held[job.job_id] = job
            self._send_job(worker, job)
        self._load_more()

    def _give_up(self, job: Job) -> None:
        detail = f"it did not end in {job.attempt} attempts"
        if job.placed:
            job.verdict, job.detail = 405, detail
            self.line.add(job)
        else:
            self._voice.end(job, State.FAILED, 405, detail)

    def _send_job(self, worker: Worker, job: Job) -> None:
        self._voice.do(Send(worker.hello.incarnation, job.order(self.epoch)))

    def _load_more(self) -> None:
        if self.line.wants_load:
            self.line.loading = True
            after = self.line.horizon or FIRST
            self._voice.do(act.Load(after, self.policy.window))

    def _loaded(self, event: act.Loaded, now_s: float) -> None:
        waiting = [job_of(row, doubtful=self._doubtful) for row in event.rows]
        self.line.loaded(waiting, limit=event.limit)
        self._dispatch(now_s)

    def _finished(self, event: act.Finished, _now_s: float) -> None:
        for job_id in event.job_ids:
            job = self.jobs.pop(job_id)
            job.phase = step(job.phase, Happening.RECORDED)
            self.tally.count(job.visible_state())
            self._voice.say_to_all(job)
            if job.final_seq:
                self._voice.ack(job.incarnation, job.final_seq)

    def _tick(self, _event: act.Tick, now_s: float) -> None:
        for worker in self.fleet.silent_since(now_s - self.policy.lease_s):
            hello = worker.hello
            reason = f"its worker {hello.host}:{hello.pid} was silent for {self.policy.lease_s:g} s"
            log.warning("worker %s on %s is lost: no word for its lease", hello.pid, hello.host)
            self._voice.turn_away(hello.incarnation, reason, final=False)
            self._part_with(hello.incarnation, reason, now_s)
        self.line.wake(now_s)
        self._asking.wake(now_s)
        self._dispatch(now_s)
