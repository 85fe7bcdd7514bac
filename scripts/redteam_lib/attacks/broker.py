"""Whoever reaches the broker's ports, with a key or without, and clients that submit a lot."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import zmq

from imgserve.client import Client
from scripts.redteam_lib.attack import Arena, Result, attack
from scripts.redteam_lib.attacks.tokens import SMALL, resize
from tests.support import images
from tests.support.http_server import HttpServer, Reply
from tests.support.service import Service, eventually

MB: Final = 1_000_000


def endpoints(service: Service) -> dict[str, str]:
    """The broker's endpoints, as its connection file names them."""
    document = json.loads(service.connection.read_text())
    return {name: document[name] for name in ("jobs", "reports", "events")}


def broker_of(service: Service) -> psutil.Process:
    """The broker's process."""
    (pid,) = service.record["parts"]["broker"]
    return psutil.Process(pid)


@contextlib.contextmanager
def socket_to(endpoint: str, kind: int) -> Iterator[zmq.Socket[bytes]]:
    """A socket of libzmq alone, connected, that waits for nothing at its end."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, 1)
        socket.connect(endpoint)
        yield socket


@attack("anyone who reaches the broker's ports", "subscriptions take a bounded amount of memory")
def many_subscriptions(arena: Arena) -> Result:
    """Subscribe to 24 MB of random topics."""
    count = 24 * MB // 60 if arena.long else 100_000
    with Service(arena.folder / "service", *SMALL) as service:
        broker = broker_of(service)
        before_bytes = broker.memory_info().rss
        with socket_to(endpoints(service)["events"], zmq.XSUB) as socket:
            socket.setsockopt(zmq.SNDHWM, 0)
            for _ in range(count):
                socket.send(b"\x01" + os.urandom(60))
            peak_bytes = before_bytes
            deadline_s = time.monotonic() + (30 if arena.long else 5)
            while time.monotonic() < deadline_s:
                peak_bytes = max(peak_bytes, broker.memory_info().rss)
                time.sleep(0.05)
        with Client(service.connection) as client:
            client.stats(timeout_s=30)
        grown_bytes = peak_bytes - before_bytes
    sent_mb = count * 60 / MB
    figure = f"{sent_mb:.0f} MB of topics: the broker grew by {grown_bytes / MB:.0f} MB"
    return Result(grown_bytes < 64 * MB, figure)


@attack("anyone who reaches the broker's ports", "bytes of no protocol are dropped")
def garbage(arena: Arena) -> Result:
    """Random frames, huge frames, many parts, nested msgpack."""
    frames = [os.urandom(size) for size in (0, 1, 10, 1000, 100_000) for _ in range(20)]
    frames += [b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc1", b"\x81" * 5000]
    with Service(arena.folder / "service", *SMALL) as service:
        before = service.record["parts"]
        for name, kind in (("jobs", zmq.PUSH), ("reports", zmq.PUSH)):
            with socket_to(endpoints(service)[name], kind) as socket:
                for frame in frames:
                    socket.send(frame)
                    socket.send_multipart([frame, frame])
                time.sleep(0.5)
        answers = service.send("GET", "/readyz").status == 200
        alive = service.record["parts"] == before
    return Result(answers and alive, f"{4 * len(frames)} messages; every part lives: {alive}")


def padded(web: HttpServer, number: int, padding_bytes: int) -> dict[str, Any]:
    """A request whose destination is long."""
    url = web.url(f"/{number}.png?pad={os.urandom(padding_bytes // 2).hex()}")
    return resize(web.url("/photo.png"), url)


@attack("a client", "what is kept of a finished job is less than its request was")
def long_requests_kept(arena: Arena) -> Result:
    """Finish jobs with 58 kB of destination each."""
    count = 600 if arena.long else 200
    with HttpServer() as web, Service(arena.folder / "service", *SMALL) as service:
        web.files["/photo.png"] = images.png()
        before_bytes = journal_bytes(service.state)
        with Client(service.connection) as client:
            requests = ((f"r-{n}", padded(web, n, 58_000)) for n in range(count))
            states = {outcome.state for outcome in client.map(requests, window=8)}
        eventually(lambda: service.stats()["in_flight"] == 0, "all have ended")
        time.sleep(1.5)
        kept_bytes = (journal_bytes(service.state) - before_bytes) / count
    figure = f"{kept_bytes / 1000:.1f} kB of journal for each of {count} finished jobs"
    return Result(kept_bytes < 50_000 and states == {"done"}, figure)


def large(web: HttpServer, number: int) -> dict[str, Any]:
    """A request that takes a pixel process some 50 ms."""
    request = resize(web.url("/photo.jpg"), web.url(f"/{number}.jpg"))
    request["args"] |= {"width": 1600, "height": 1200}
    return request


def journal_bytes(state: Path) -> int:
    """The size of the journal; its write-ahead log does not grow with the number of jobs."""
    return (state / "journal.sqlite3").stat().st_size


@attack("the machine", "after a broker's death its workers' jobs go on at once", timed=True)
def broker_killed(arena: Arena) -> Result:
    """Kill it under load; measure how long nothing ends."""
    pauses = []
    with (
        HttpServer() as web,
        Service(arena.folder / "service", "--processes", "2", "--retry-limit", "5") as service,
    ):
        web.files["/photo.png"] = images.png()
        count = 6000 if arena.long else 2500
        with Client(service.connection) as client:
            jobs = [
                client.submit(resize(web.url("/photo.png"), web.url(f"/{n}.png")))
                for n in range(count)
            ]
            for _ in range(5 if arena.long else 2):
                eventually(lambda: len(web.stored) > 20, "some are done")
                broker_of(service).send_signal(signal.SIGKILL)
                stored = len(web.stored)
                # What workers still held ends without the broker; new work is what counts.
                time.sleep(0.3)
                stored = len(web.stored)
                began_s = time.monotonic()
                eventually(
                    lambda stored=stored: len(web.stored) >= stored + 10,  # type: ignore[misc]
                    "jobs end again",
                    timeout_s=60,
                )
                pauses.append(time.monotonic() - began_s + 0.3)
            states = {job.result(timeout_s=300).state for job in jobs}
    figure = f"10 more jobs were done {max(pauses):.1f} s after a kill at the latest"
    return Result(max(pauses) < 2.0 and states == {"done"}, figure)


@attack("a client", "a full queue of batch jobs does not keep people waiting", timed=True)
def flood_of_batch_jobs(arena: Arena) -> Result:
    """Ask over HTTP while 2,000 batch jobs wait."""
    with HttpServer() as web, Service(arena.folder / "service", *SMALL) as service:
        web.files["/photo.jpg"] = images.jpeg(2400, 1800)
        web.files["/photo.png"] = images.png()

        def asked_s(name: str) -> float:
            began_s = time.monotonic()
            answer = service.post(resize(web.url("/photo.png"), web.url(f"/{name}.png")))
            assert answer.status == 200, answer
            return time.monotonic() - began_s

        idle_s = max(asked_s(f"idle-{n}") for n in range(10))
        with Client(service.connection) as client:
            jobs = [client.submit(large(web, n)) for n in range(2000 if arena.long else 600)]
            eventually(lambda: service.stats()["queue_length"] > 300, "the queue is long")
            busy_s = max(asked_s(f"busy-{n}") for n in range(10))
            for job in jobs:
                client.cancel(job.id)
            eventually(
                lambda: not (service.stats()["queue_length"] or service.stats()["in_flight"]),
                "the queue is empty",
                timeout_s=120,
            )
    figure = f"slowest of 10 `POST /` {1000 * busy_s:.0f} ms, idle {1000 * idle_s:.0f} ms"
    return Result(busy_s < 3 * idle_s + 0.5, figure)


@attack("a worker whose key was revoked", "it learns within 5 s that it is refused, and ends")
def refused_worker(arena: Arena) -> Result:
    """Start a worker with a key that the broker does not know."""
    other = arena.folder / "other"
    service = Service(arena.folder / "service", *SMALL)
    for words in (("init",), ("new", "worker", "stranger")):
        done = service.run("keys", *words)
        assert done.returncode == 0, done.stderr
    key = arena.folder / "stranger.key"
    key.write_bytes((service.state / "keys" / "stranger.key").read_bytes())
    key.chmod(0o600)
    assert service.run("keys", "revoke", "stranger").returncode == 0
    other.mkdir()
    with service:
        began_s = time.monotonic()
        words = ("--connection", str(service.connection), "--key", str(key), "--state", str(other))
        try:
            ended = service.run("worker", *words, timeout=20)
        except subprocess.TimeoutExpired:
            return Result(held=False, figure="it runs on after 20 s")
        finally:
            took_s = time.monotonic() - began_s
            service.stop()
            shutil.rmtree(service.state / "keys")
    last = ended.stderr.strip().splitlines()[-1:]
    return Result(
        took_s < 8 and ended.returncode not in (0, 70),
        f"ended after {took_s:.1f} s with {ended.returncode}: {' '.join(last)[-120:]}",
    )


@attack("a destination's server", "a job's acceptance is not lost with its worker")
def worker_killed(arena: Arena) -> Result:
    """Kill the worker while it uploads; nothing may be lost or left."""
    with (
        HttpServer() as web,
        Service(arena.folder / "service", "--processes", "1", "--retry-limit", "3") as service,
    ):
        web.files["/photo.png"] = images.png()
        web.script["/photo.png"] = [Reply(body=images.png(), pause_s=0.001)]
        with Client(service.connection) as client:
            jobs = [
                client.submit(resize(web.url("/photo.png"), web.url(f"/{n}.png")))
                for n in range(20)
            ]
            eventually(lambda: service.stats()["in_flight"] > 0, "jobs are under way")
            (worker,) = service.record["parts"]["worker"]
            os.kill(worker, signal.SIGKILL)
            web.script.clear()
            states = [job.result(timeout_s=120).state for job in jobs]
    done = states.count("done")  # type: ignore[arg-type]
    return Result(done == len(jobs), f"{done} of {len(jobs)} jobs done after the kill")
