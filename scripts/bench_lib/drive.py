"""Drive the service: requests through the native client, or through HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import zmq

from bench_lib.bare import Cost
from bench_lib.report import BenchError
from bench_lib.setting import Service
from imgserve.client import Client
from imgserve.protocol.codec import JOBS, topic_prefix
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import BEAT_TOPIC
from imgserve.protocol.jobs import Submit

Request = dict[str, Any]
PAYLOAD = b"x" * 300
"""As large as a request usually is; a stub does not read it."""


@dataclass(frozen=True, slots=True)
class ServiceCost(Cost):
    """What jobs cost the service.

    Args:
        parts_s: CPU seconds of each part; their sum is `cpu_s`.
    """

    parts_s: Mapping[str, float]

    def part_ms_a_job(self, part: str) -> float:
        """CPU milliseconds of one job in one part."""
        return 1000 * self.parts_s[part] / self.jobs


def _cost(jobs: int, wall_s: float, parts_s: Mapping[str, float]) -> ServiceCost:
    return ServiceCost(jobs, sum(parts_s.values()), wall_s, parts_s)


def _since(before_s: Mapping[str, float], service: Service) -> dict[str, float]:
    return {part: now_s - before_s[part] for part, now_s in service.cpu_s_by_part().items()}


def native(service: Service, requests: Iterable[Request], *, window: int) -> ServiceCost:
    """Run the requests with `Client.map`; every one must be done."""
    with Client(service.connection) as client:
        started_s, before_s = time.monotonic(), service.cpu_s_by_part()
        own_s = time.process_time()
        jobs = 0
        for outcome in client.map(requests, window=window):
            if outcome.state != "done":
                raise BenchError(f"a job ended {outcome.state}: {outcome.code} {outcome.detail}")
            jobs += 1
        wall_s = time.monotonic() - started_s
        # The client is imgserve's, too: its CPU counts.
        client_s = time.process_time() - own_s
        return _cost(jobs, wall_s, _since(before_s, service) | {"client": client_s})


def http(service: Service, requests: list[Request], *, connections: int) -> ServiceCost:
    """POST the requests over kept connections and wait until all are done."""
    done_before = _done(service)
    started_s, before_s = time.monotonic(), service.cpu_s_by_part()
    asyncio.run(_post_all(service.url, requests, connections))
    while _done(service) < done_before + len(requests):
        if time.monotonic() - started_s > 600:
            raise BenchError("not all jobs were done in 600 s")
        time.sleep(0.02)
    wall_s = time.monotonic() - started_s
    return _cost(len(requests), wall_s, _since(before_s, service))


def _done(service: Service) -> int:
    with urllib.request.urlopen(f"{service.url}/metrics", timeout=10) as answer:  # noqa: S310 (our own service)
        for line in answer.read().decode().splitlines():
            if line.startswith('imgserve_jobs_total{state="done"}'):
                return int(float(line.split()[-1]))
    raise BenchError("the metrics do not say how many jobs are done")


async def _post_all(url: str, requests: list[Request], connections: int) -> None:
    waiting = iter(requests)
    await asyncio.gather(*(_post_some(url, waiting) for _ in range(connections)))


async def _post_some(url: str, waiting: Iterable[Request]) -> None:
    poster = await Poster.open(url)
    for request in waiting:
        answer = await poster.post(request)
        if "dstURL" not in answer:
            raise BenchError(f"a request was answered {answer}")
    poster.close()


class Poster:
    """One kept HTTP connection; as bare as can be, so that the service is what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> Poster:
        """Connect."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def post(self, request: Request) -> dict[str, Any]:
        """POST one request and return the reply."""
        body = json.dumps(request).encode()
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in answer.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        reply: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        return reply

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def submitted(service: Service, jobs: int, name: str) -> Cost:
    """Run small jobs with bare sockets, counting `done`: only the broker's work is measured."""
    connection = Connection.read(service.connection)
    with (
        zmq.Context() as context,
        context.socket(zmq.SUB) as events,
        context.socket(zmq.PUSH) as pusher,
    ):
        submitter = _listen(events, connection)
        pusher.connect(connection.jobs)
        frames = [
            JOBS.encode(Submit(f"{name}-{each}-{submitter[:8]}", submitter, 0, PAYLOAD))
            for each in range(jobs)
        ]
        started_s, cpu_s = time.monotonic(), service.cpu_s()
        sender = threading.Thread(target=lambda: [pusher.send(frame) for frame in frames])
        sender.start()
        _count(events, b"\xa4done", jobs)
        wall_s = time.monotonic() - started_s
        sender.join()
        return Cost(jobs, service.cpu_s() - cpu_s, wall_s)


def queued(service: Service, jobs: int, name: str) -> None:
    """Submit jobs and wait until every one is queued, on disk."""
    connection = Connection.read(service.connection)
    with (
        zmq.Context() as context,
        context.socket(zmq.SUB) as events,
        context.socket(zmq.PUSH) as pusher,
    ):
        submitter = _listen(events, connection)
        pusher.connect(connection.jobs)
        sender = threading.Thread(
            target=lambda: [
                pusher.send(
                    JOBS.encode(Submit(f"{name}-{each}-{submitter[:8]}", submitter, 0, PAYLOAD))
                )
                for each in range(jobs)
            ]
        )
        sender.start()
        _count(events, b"\xa6queued", jobs)
        sender.join()


def stats(service: Service) -> dict[str, Any]:
    """Return the broker's figures."""
    with Client(service.connection) as client:
        return dict(client.stats())


def _listen(events: zmq.Socket[bytes], connection: Connection) -> str:
    """Subscribe to a fresh topic, wait until that has reached the broker, and return it."""
    submitter = uuid.uuid4().hex
    events.setsockopt(zmq.RCVHWM, 0)
    events.subscribe(topic_prefix(submitter))
    events.subscribe(topic_prefix(BEAT_TOPIC))
    events.connect(connection.events)
    events.recv()  # the first beat
    return submitter


def _count(events: zmq.Socket[bytes], state: bytes, jobs: int) -> None:
    """Wait for as many events of a state; decoding would cost more here than in the broker."""
    seen = 0
    while seen < jobs:
        if not events.poll(30_000):
            raise BenchError(f"only {seen} of {jobs} jobs came so far")
        seen += state in events.recv()
