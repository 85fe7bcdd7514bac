"""A small world around the pure core: workers, a journal, a network, and all that can go wrong.

`choices` lists every step that can be taken next; each step ends with a check of the promises.
On one socket messages keep their order, as over TCP; on the way to the broker even that is not
relied on. Any message may be lost or come twice.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from imgserve.broker import actions as act
from imgserve.broker.core import Core
from imgserve.broker.job import Job, job_of
from imgserve.broker.policy import Policy
from imgserve.broker.states import Phase
from imgserve.protocol import jobs, lane, reports
from imgserve.protocol.events import TERMINAL, JobState, State
from tests.broker.core_bench import FIELDS, JournalModel
from tests.broker.model_worker import ModelWorker, name_of

LEASE_S = 3.9
STEP_S = 2.0
"""Two steps of time pass the broker's lease, and by the worker's slow clock its own too."""

POLICY = Policy(
    lease_s=LEASE_S, beat_s=0.9, window=1, crash_limit=2, retry_limit=1, retry_base_s=1.0
)
Step = tuple[str, Callable[["World"], None]]


@dataclass(frozen=True)
class Trouble:
    """How much may still go wrong."""

    worker_crashes: int = 1
    broker_crashes: int = 1
    drops: int = 1
    repeats: int = 1
    cancels: int = 1
    returns: int = 1


class PromiseBroken(AssertionError):
    """Raised when a state breaks a promise."""


class World:
    """One state of everything.

    Args:
        job_ids, slots: how many jobs there are, and each worker's slots.
    """

    def __init__(self, job_ids: tuple[str, ...], slots: dict[str, int], trouble: Trouble) -> None:
        self.job_ids = job_ids
        self.slots = slots
        self.now_s = 100.0
        self.life = 1
        self.journal = JournalModel()
        self.core = Core(policy=POLICY, epoch="e1")
        self.workers = {name: ModelWorker(name) for name in slots}
        self.network: list[tuple[str, reports.ReportsMessage]] = []
        self.unheard: tuple[object, ...] = ()
        self.left = trouble
        self.roll: frozenset[str] = frozenset()
        self.priorities: dict[str, int] = {}
        self.queued: set[str] = set()
        self.accepted: set[str] = set()
        self.ended: dict[str, State] = {}
        self.uploaded: dict[str, str] = {}
        self._shared: set[str] = set()

    # --- copying and telling apart

    def clone(self) -> World:
        """Copy the world; what is large is shared until one of the two changes it.

        The one that was copied must not be changed any more.
        """
        twin = copy.copy(self)
        twin._shared = {"core", "journal", *self.workers}
        twin.workers = dict(self.workers)
        twin.network = list(self.network)
        twin.queued, twin.accepted = set(self.queued), set(self.accepted)
        twin.ended, twin.uploaded = dict(self.ended), dict(self.uploaded)
        return twin

    def _own_core(self) -> Core:
        if "core" in self._shared:
            self._shared.discard("core")
            self.core = clone_core(self.core)
        return self.core

    def _own_journal(self) -> JournalModel:
        if "journal" in self._shared:
            self._shared.discard("journal")
            self.journal = JournalModel(dict(self.journal.rows), deque(self.journal.pending))
        return self.journal

    def _own(self, name: str) -> ModelWorker:
        if name in self._shared:
            self._shared.discard(name)
            self.workers[name] = self.workers[name].clone()
        return self.workers[name]

    def key(self) -> tuple[object, ...]:
        """What tells one state from another."""
        core, now_s = self.core, self.now_s
        line = core.line
        return (
            self.life,
            tuple(_job_key(each, now_s) for _, each in sorted(core.jobs.items())),
            tuple(sorted(core.storing)),
            tuple(sorted(e[:2] for e in line._ready if line._valid(e[1], e[2]))),
            tuple(sorted((e[0] - now_s, e[1]) for e in line._delayed if line._valid(e[1], e[2]))),
            line.horizon,
            line.on_disk,
            line.loading,
            line._overtaken,
            tuple((name, round(s - now_s, 3)) for name, s in sorted(core.hold.awaited.items())),
            tuple(sorted(self.roll)),
            tuple(core._asking._cancelled_early),
            tuple(
                (name, round(now_s - each.heard_s, 3), each.lively, tuple(sorted(each.held)))
                for name, each in sorted(core.fleet.workers.items())
            ),
            tuple((row.job_id, row.state, row.progress) for row in self.journal.rows.values()),
            tuple(_pending_key(each) for each in self.journal.pending),
            tuple(map(repr, self.unheard)),
            tuple(each.key(now_s) for each in self.workers.values()),
            tuple(sorted(repr(name_of(m, now_s, self.workers[w])) for w, m in self.network)),
            self.left,
            tuple(sorted(self.uploaded.items())),
            frozenset(self.accepted),
        )

    # --- what can happen next

    def choices(self) -> Iterator[Step]:
        """Every step that can be taken now."""
        if self.journal.pending or self.unheard:
            yield "the journal commits, and the broker hears of it", World.commit
        if self.journal.pending:
            yield "the journal commits, and the broker has not heard of it yet", World.write
        yield "time passes", World.pass_time
        for index in range(len(self.network)):
            yield from self._network_choices(index)
        for name, worker in self.workers.items():
            yield from self._worker_choices(name, worker)
        for job_id in self.job_ids:
            if job_id not in self.queued and job_id not in self.core.storing:
                yield f"{job_id} is submitted", lambda w, j=job_id: w.submit(j)
            elif self.left.cancels and job_id not in self.ended:
                yield f"{job_id} is cancelled", lambda w, j=job_id: w.cancel(j)
        if self.left.broker_crashes:
            yield "the broker crashes", lambda w: w.crash(commit=False)
            if self.journal.pending:
                yield "the broker crashes after a commit", lambda w: w.crash(commit=True)

    def _network_choices(self, index: int) -> Iterator[Step]:
        name, message = self.network[index]
        what = f"{name}: {describe(message)}"
        yield f"{what} arrives", lambda w: w.arrive(index)
        if self.left.drops:
            yield f"{what} is lost", lambda w: w.lose(index)
        if self.left.repeats:
            yield f"{what} arrives, and is under way again", lambda w: w.repeat(index)

    def _worker_choices(self, name: str, worker: ModelWorker) -> Iterator[Step]:
        if not worker.valid(self.now_s) and not (worker.alive and worker.inbox):
            yield f"{name} joins as a new incarnation", lambda w: w.join(name)
        if not worker.alive:
            return
        if worker.inbox:
            yield f"{name} reads its lane", lambda w: w.read_lane(name)
            if self.left.drops:
                yield f"{name} loses its lane's messages", lambda w: w.lose_lane(name)
        if not any(sender == name for sender, _ in self.network):
            yield f"{name} beats and says again what it must", lambda w: w.beat(name)
        if self.left.worker_crashes and (worker.held or worker.inbox):
            yield f"{name} crashes", lambda w: w.crash_worker(name)
        if worker.valid(self.now_s):
            for job_id, attempt in worker.held.items():
                if not attempt.reported:
                    yield from self._attempt_choices(name, job_id)

    def _attempt_choices(self, name: str, job_id: str) -> Iterator[Step]:
        attempt = self.workers[name].held[job_id]
        if attempt.verdict or attempt.cancelled:
            yield f"{name} ends {job_id} by its verdict", lambda w: w.fail(name, job_id)
            return
        if attempt.accepted:
            yield f"{name} does {job_id}", lambda w: w.finish(name, job_id)
        else:
            yield f"{name} uploads {job_id}'s placeholder", lambda w: w.place(name, job_id)
        if self.left.returns:
            for reason in reports.ReturnReason:
                yield (
                    f"{name} returns {job_id}, {reason}",
                    lambda w, r=reason: w.give_back(name, job_id, r),
                )

    # --- steps

    def submit(self, job_id: str) -> None:
        """A client submits, or submits again."""
        priority = self.priorities.get(job_id, 0)
        self._feed(jobs.Submit(job_id, "client", priority, b"{}"))

    def cancel(self, job_id: str) -> None:
        """A client cancels."""
        self._spend("cancels")
        self._feed(jobs.Cancel(job_id, "client"))

    def write(self) -> None:
        """The journal commits."""
        self.unheard += tuple(self._own_journal().commit())

    def commit(self) -> None:
        """The core hears of what was committed before, or else of a commit now."""
        if not self.unheard:
            self.write()
        events, self.unheard = self.unheard, ()
        for event in events:
            self._feed(event)

    def pass_time(self) -> None:
        """Time passes for everybody."""
        self.now_s += STEP_S
        self._feed(act.Tick())

    def crash(self, *, commit: bool) -> None:
        """The broker is killed and started again with what is on disk."""
        self._spend("broker_crashes")
        journal = self._own_journal()
        if commit:
            journal.commit()
        journal.pending.clear()
        self.unheard = ()
        self.life += 1
        rows = self.journal.rows.values()
        self.core = Core(
            policy=POLICY,
            epoch=f"e{self.life}",
            waiting_on_disk=sum(row.state == "queued" for row in rows),
            awaited=dict.fromkeys(self.roll, self.now_s + LEASE_S),
        )
        self._shared.discard("core")

    def arrive(self, index: int) -> None:
        """A report reaches the broker."""
        _, message = self.network.pop(index)
        self._feed(message)

    def lose(self, index: int) -> None:
        """A report is lost."""
        self._spend("drops")
        self.network.pop(index)

    def repeat(self, index: int) -> None:
        """A report reaches the broker and comes again later."""
        self._spend("repeats")
        self._feed(self.network[index][1])

    def join(self, name: str) -> None:
        """A worker says hello, is welcomed and beats; the beat arrives."""
        worker = self._own(name)
        former = (worker.incarnation,) if worker.alive else ()
        worker.rejoin(self.core.epoch, LEASE_S, self.now_s)
        slots = self.slots[name]
        self._feed(reports.Hello(worker.incarnation, name, 1, slots, "1", (), (), former))
        self._feed(worker.beat(self.now_s))

    def read_lane(self, name: str) -> None:
        """A worker reads all that is on its lane."""
        worker = self._own(name)
        inbox, worker.inbox = worker.inbox, []
        for message in inbox:
            for report in worker.hear(message):
                self._check_let_go(worker, report)

    def lose_lane(self, name: str) -> None:
        """The connection of a lane breaks; what was in it is gone."""
        self._spend("drops")
        self._own(name).inbox = []

    def beat(self, name: str) -> None:
        """A worker beats, and says again what was not acknowledged."""
        worker = self._own(name)
        self.network += [(name, report) for report in worker.unacknowledged.values()]
        self.network.append((name, worker.beat(self.now_s)))

    def crash_worker(self, name: str) -> None:
        """A worker is killed."""
        self._spend("worker_crashes")
        self._own(name).die()

    def place(self, name: str, job_id: str) -> None:
        """A worker uploads a placeholder and reports the acceptance."""
        if job_id in self.accepted:
            raise PromiseBroken(f"{job_id} was accepted, and gets a placeholder again")
        self._upload(job_id, "placeholder")
        self._own(name).held[job_id].accepted = True
        self._report(name, reports.Accepted, job_id)

    def finish(self, name: str, job_id: str) -> None:
        """A worker uploads the result and reports it."""
        self._upload(job_id, "result")
        self._report(name, reports.Done, job_id)

    def fail(self, name: str, job_id: str) -> None:
        """A worker replaces the placeholder, where one stands, and reports the failure."""
        attempt = self.workers[name].held[job_id]
        if attempt.accepted:
            self._upload(job_id, "failure placeholder")
        self._report(name, reports.Failed, job_id, code=attempt.verdict or 406)

    def give_back(self, name: str, job_id: str, reason: str) -> None:
        """A worker returns a job."""
        self._spend("returns")
        self._report(name, reports.Returned, job_id, code=405, reason=reason)

    def _report(self, name: str, kind: type, job_id: str, **fields: object) -> None:
        message = self._own(name).report(kind, job_id, **{**FIELDS[kind], **fields})
        self.network.append((name, message))

    def _upload(self, job_id: str, what: str) -> None:
        if job_id in self.ended:
            raise PromiseBroken(f"{job_id} has ended {self.ended[job_id]}, and gets a {what}")
        self.uploaded[job_id] = what

    def _spend(self, what: str) -> None:
        left = dict(self.left.__dict__)
        left[what] -= 1
        self.left = Trouble(**left)

    # --- the core's wishes

    def _feed(self, event: object) -> None:
        for action in self._own_core().handle(event, self.now_s):
            self._perform(action)
        for action in self.core.flush():
            self._perform(action)

    def _perform(self, action: act.Action) -> None:
        if isinstance(action, act.Say):
            if isinstance(action.message, JobState):
                self._hear(action.message)
        elif isinstance(action, act.Send):
            self._send(action.incarnation, action.message)
        elif isinstance(action, act.OpenLane):
            self.roll = self.roll - {*action.hello.former} | {action.hello.incarnation}
            self._feed(act.LaneOpened(action.hello.incarnation, "tcp://lane"))
        elif isinstance(action, act.CloseLane):
            self.roll = self.roll - {action.incarnation}
        else:
            self._own_journal().pending.append(action)

    def _send(self, incarnation: str, message: lane.LaneMessage) -> None:
        name = incarnation.partition(".")[0]
        worker = self.workers[name]
        if worker.incarnation == incarnation and worker.alive:
            self._own(name).inbox.append(message)

    # --- the promises

    def _hear(self, event: JobState) -> None:
        """What is said must be on disk, and an end is said the same every time."""
        row = self.journal.rows.get(event.job_id)
        if row is None:
            raise PromiseBroken(f"{event.job_id} is said {event.state} and is not on disk")
        self.queued.add(event.job_id)
        if event.state == State.ACCEPTED:
            self.accepted.add(event.job_id)
            if not job_of(row).accepted:
                raise PromiseBroken(f"{event.job_id} is said accepted, and the disk knows nothing")
        if event.state in TERMINAL and row.state != event.state:
            raise PromiseBroken(f"{event.job_id} is said {event.state}, on disk it is {row.state}")

    def check(self) -> None:
        """Raise PromiseBroken where this state breaks a promise."""
        for job_id, row in self.journal.rows.items():
            before = self.ended.get(job_id)
            if before is not None and row.state != before:
                raise PromiseBroken(f"{job_id} ended {before} and now {row.state}")
            if row.state != "queued":
                self._check_end(job_id, State(row.state))
            else:
                self._check_kept(job_id)
        for job_id in self.job_ids:
            self._check_owners(job_id)
        self._check_credit()

    def _check_end(self, job_id: str, state: State) -> None:
        self.ended[job_id] = state
        wanted = {State.DONE: "result"}.get(state)
        if state is not State.DONE and job_of(self.journal.rows[job_id]).accepted:
            wanted = "failure placeholder"
        if wanted and self.uploaded.get(job_id) != wanted:
            raise PromiseBroken(f"{job_id} is {state}, at its destination: {self.uploaded}")

    def _check_kept(self, job_id: str) -> None:
        """An unfinished job waits in the line, is held by a worker, or is ending."""
        core, job = self.core, self.core.jobs.get(job_id)
        if job is None:
            if core.line.horizon is None and job_id not in core.storing:
                raise PromiseBroken(f"{job_id} is on disk and will not be read from there")
            return
        pending = [each for each in self.journal.pending if isinstance(each, act.Finish)]
        if job.phase is Phase.QUEUED:
            entries = (*core.line._ready, *core.line._delayed)
            kept = any(core.line._valid(name, stamp) is job for _, name, stamp in entries)
        elif job.phase is Phase.ENDING:
            kept = any(each.row.job_id == job_id for each in pending) or self.unheard
        else:
            worker = core.fleet.workers.get(job.incarnation)
            kept = worker is not None and worker.held.get(job_id) is job
        if not kept:
            raise PromiseBroken(f"{job_id} is {job.phase} and nobody has it")

    def _check_owners(self, job_id: str) -> None:
        owners = [
            name
            for name, worker in self.workers.items()
            if worker.valid(self.now_s)
            and job_id in worker.held
            and not worker.held[job_id].reported
        ]
        if len(owners) > 1:
            raise PromiseBroken(f"{job_id} is owned by {' and '.join(owners)}")

    def _check_credit(self) -> None:
        seen: set[str] = set()
        for name, worker in self.core.fleet.workers.items():
            if len(worker.held) > worker.hello.slots or seen & worker.held.keys():
                raise PromiseBroken(f"{name} holds {sorted(worker.held)}: more than its credit")
            if any(
                job.phase not in (Phase.DISPATCHED, Phase.ACCEPTED) or job.incarnation != name
                for job in worker.held.values()
            ):
                raise PromiseBroken(f"{name} holds a job that is not with it")
            seen |= worker.held.keys()

    def _check_let_go(self, worker: ModelWorker, report: reports.JobReports) -> None:
        """A worker forgets an end only when that is on disk, or counts no more."""
        if isinstance(report, reports.Returned) or worker.epoch != self.core.epoch:
            return
        job = self.core.jobs.get(report.job_id)
        current = job is not None and job.incarnation == worker.incarnation
        if current and job.attempt == report.attempt and report.job_id not in self.ended:  # type: ignore[union-attr]
            raise PromiseBroken(f"the end of {report.job_id} is acknowledged and not on disk")

    # --- in the end

    def settle(self, rounds: int = 60) -> None:
        """Let nothing more go wrong: every job that was queued must end."""
        for _ in range(rounds):
            for name in self.workers:
                worker = self._own(name)
                if not worker.valid(self.now_s) and not worker.inbox:
                    self.join(name)
                while worker.inbox:
                    self.read_lane(name)
                self._work(name, worker)
                self.beat(name)
            while self.network:
                self.arrive(0)
            while self.journal.pending or self.unheard:
                self.commit()
            self.check()
            if self.queued <= self.ended.keys():
                return
            self.pass_time()
        raise PromiseBroken(f"{sorted(self.queued - self.ended.keys())} never end")

    def _work(self, name: str, worker: ModelWorker) -> None:
        for job_id, attempt in list(worker.held.items()):
            while worker.valid(self.now_s) and not attempt.reported:
                if attempt.verdict or attempt.cancelled:
                    self.fail(name, job_id)
                elif attempt.accepted:
                    self.finish(name, job_id)
                else:
                    self.place(name, job_id)


def describe(message: reports.ReportsMessage) -> str:
    """Name a message in a trace."""
    if isinstance(message, reports.Beat):
        return f"beat {message.seq} listing {list(message.running)}"
    return f"{message.KIND} of {message.job_id} attempt {message.attempt}"  # type: ignore[union-attr]


def clone_core(core: Core) -> Core:
    """Copy a core; its handlers belong to it, so a new one gets the old one's state."""
    twin = Core(policy=core.policy, epoch=core.epoch, awaited=core.hold.awaited)
    copies = {id(job): _copy_job(job) for job in (*core.jobs.values(), *core.storing.values())}
    twin.jobs.update((key, copies[id(job)]) for key, job in core.jobs.items())
    twin.storing.update((key, copies[id(job)]) for key, job in core.storing.items())
    for name in (
        "ready_count",
        "delayed_count",
        "on_disk",
        "horizon",
        "loading",
        "_overtaken",
        "_stamp",
    ):
        setattr(twin.line, name, getattr(core.line, name))
    twin.line._ready, twin.line._delayed = list(core.line._ready), list(core.line._delayed)
    for name, worker in core.fleet.workers.items():
        new = twin.fleet.workers[name] = copy.copy(worker)
        new.held = {key: copies[id(job)] for key, job in worker.held.items()}
    twin.fleet._free = list(core.fleet._free)
    twin._voice._seqs = dict(core._voice._seqs)
    twin._asking._cancelled_early = list(core._asking._cancelled_early)
    twin.draining = core.draining
    return twin


_JOB_FIELDS = attrgetter(*(field.name for field in dataclasses.fields(Job)))


def _copy_job(job: Job) -> Job:
    """As copy.copy, three times as fast."""
    return Job(*_JOB_FIELDS(job))


def _job_key(job: Job, now_s: float) -> tuple[object, ...]:
    return (
        job.job_id,
        job.phase,
        job.attempt,
        job.attempts,
        job.retries,
        job.crashes,
        job.accepted,
        job.unsaid and job.version - job.unsaid + 1,
        job.cancelled,
        job.verdict,
        job.state,
        job.incarnation,
        bool(job.final_seq),
        min(now_s - job.sent_s, 3 * STEP_S) if job.sent_s else -1,
    )


def _pending_key(action: act.Action) -> tuple[object, ...]:
    if isinstance(action, act.Append | act.Update | act.Finish):
        return type(action).__name__, action.row.job_id, action.row.state, action.row.progress
    return (type(action).__name__, repr(action))
