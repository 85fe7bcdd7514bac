"""How a worker gets its lane: hello, a lane of its own, welcome."""

from __future__ import annotations

import logging

from imgserve.broker import actions as act
from imgserve.broker.actions import Say
from imgserve.broker.fleet import Fleet, Worker
from imgserve.broker.hold import Hold
from imgserve.broker.policy import Policy
from imgserve.broker.voice import Voice
from imgserve.protocol import events, reports

log = logging.getLogger(__name__)


class Joining:
    """Part of the core: the handlers of a worker's first words."""

    def __init__(
        self, *, policy: Policy, epoch: str, fleet: Fleet, voice: Voice, hold: Hold
    ) -> None:
        self._policy = policy
        self._epoch = epoch
        self._fleet = fleet
        self._voice = voice
        self._hold = hold

    def hello(self, message: reports.Hello, now_s: float) -> None:
        """Open a lane; a hello again means that the welcome was not heard."""
        self._hold.settle(message.former)
        worker = self._fleet.workers.get(message.incarnation)
        if worker is None:
            self._fleet.add(message, now_s)
            self._voice.do(act.OpenLane(message))
            return
        if (worker.hello.host, worker.hello.pid) != (message.host, message.pid):
            # A machine that was copied while it ran. Both hear this, and neither knows which of
            # them the lane would reach.
            reason = (
                f"process {message.pid} on {message.host} and process {worker.hello.pid} on "
                f"{worker.hello.host} have one incarnation: each has to come back with its own"
            )
            log.warning("%s", reason)
            self._voice.turn_away(message.incarnation, reason, final=False)
            return
        worker.heard_s = now_s
        if worker.endpoint:
            self._welcome(worker)

    def lane_opened(self, event: act.LaneOpened, _now_s: float) -> None:
        """Tell the worker where its lane is."""
        worker = self._fleet.workers.get(event.incarnation)
        if worker is not None:
            worker.endpoint = event.endpoint
            self._welcome(worker)

    def lane_refused(self, event: act.LaneRefused, _now_s: float) -> None:
        """Tell the worker that it cannot have one."""
        self._fleet.remove(event.incarnation)
        self._voice.turn_away(event.incarnation, event.reason, final=True)

    def _welcome(self, worker: Worker) -> None:
        policy, incarnation = self._policy, worker.hello.incarnation
        message = events.Welcome(
            self._epoch, incarnation, worker.endpoint, policy.lease_s, policy.beat_s
        )
        self._voice.do(Say(incarnation, message))
