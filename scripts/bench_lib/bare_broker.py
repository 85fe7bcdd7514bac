"""The bare broker loop: durable jobs through Python, ZeroMQ and SQLite with nothing around.

A submit is unpacked, committed, handed to a worker; its report is unpacked, committed, published.
No leases, attempts, acceptances, priorities or checks: four messages and two rows a job, where
imgserve has eleven and three. It says what this machine gives, as the bare loop of pixels does.
"""

from __future__ import annotations

import multiprocessing
import queue
import sqlite3
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgpack
import zmq

from bench_lib.bare import Cost
from bench_lib.drive import PAYLOAD

HOST = "tcp://127.0.0.1"
BATCH_LIMIT = 1000
WAIT_MS = 30_000


def run(folder: Path, jobs: int) -> Cost:
    """Run jobs through a bare broker and a worker that only answers; CPU is the broker's."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    broker = spawn.Process(target=_broker, args=(str(folder / "bare.sqlite"), theirs, jobs))
    broker.start()
    theirs.close()  # so that a broker that dies is the end of the pipe, not a wait without end
    try:
        submits, lane, reports, events = ours.recv()
        worker = spawn.Process(target=_worker, args=(lane, reports), daemon=True)
        worker.start()
        try:
            wall_s = _submit(submits, events, jobs)
            return Cost(jobs, ours.recv(), wall_s)
        finally:
            worker.terminate()
            worker.join()
    finally:
        broker.terminate()
        broker.join()


def _submit(submits: str, events: str, jobs: int) -> float:
    with zmq.Context() as context, context.socket(zmq.PUSH) as push, _sub(context, events) as sub:
        push.connect(submits)
        time.sleep(0.5)  # for the subscription to arrive, and the worker to connect
        frames = [msgpack.packb(("submit", f"{each:032x}", PAYLOAD)) for each in range(jobs)]
        started_s = time.monotonic()
        sender = threading.Thread(target=lambda: [push.send(frame) for frame in frames])
        sender.start()
        for _ in range(jobs):
            if not sub.poll(WAIT_MS):
                raise TimeoutError("the bare broker lost a job")
            sub.recv()
        wall_s = time.monotonic() - started_s
        sender.join()
        return wall_s


def _sub(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    sub = context.socket(zmq.SUB)
    sub.rcvhwm = 0
    sub.subscribe(b"")
    sub.connect(endpoint)
    return sub


def _worker(lane: str, reports: str) -> None:
    with (
        zmq.Context() as context,
        context.socket(zmq.PULL) as pull,
        context.socket(zmq.PUSH) as push,
    ):
        pull.connect(lane)
        push.connect(reports)
        while True:
            _, job_id, _ = msgpack.unpackb(pull.recv())
            push.send(msgpack.packb(("done", job_id)))


def _broker(path: str, pipe: Connection, jobs: int) -> None:
    journal = _opened(path)
    context: zmq.Context[Any] = zmq.Context()
    submits, lane = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    reports, events = context.socket(zmq.PULL), context.socket(zmq.PUB)
    rung, bell = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    lane.sndhwm = events.sndhwm = submits.rcvhwm = reports.rcvhwm = 0
    sockets = (submits, lane, reports, events)
    pipe.send([f"{HOST}:{socket.bind_to_random_port(HOST)}" for socket in sockets])
    rung.bind("inproc://bell")
    bell.connect("inproc://bell")
    rows: queue.SimpleQueue[list[tuple[str, str, bytes]]] = queue.SimpleQueue()
    stored: queue.SimpleQueue[list[tuple[str, str, bytes]]] = queue.SimpleQueue()
    threading.Thread(target=_journal, args=(journal, rows, stored, bell), daemon=True).start()
    poller = zmq.Poller()
    for socket in (submits, reports, rung):
        poller.register(socket, zmq.POLLIN)
    ended, began_s = 0, time.process_time()
    while ended < jobs:
        poller.poll()
        batch = [("queued", *msgpack.unpackb(frame)[1:]) for frame in _drain(submits)]
        batch += [("done", msgpack.unpackb(frame)[1], b"") for frame in _drain(reports)]
        if batch:
            rows.put(batch)
        _drain(rung)
        while not stored.empty():
            for state, job_id, payload in stored.get():
                if state == "queued":
                    lane.send(msgpack.packb(("job", job_id, payload)))
                else:
                    events.send(b"topic " + msgpack.packb(("done", job_id)))
                    ended += 1
    pipe.send(time.process_time() - began_s)
    time.sleep(60)  # until the end is heard everywhere, and this process is ended


def _drain(socket: zmq.Socket[bytes]) -> list[bytes]:
    frames: list[bytes] = []
    try:
        while len(frames) < BATCH_LIMIT:
            frames.append(socket.recv(zmq.NOBLOCK))
    except zmq.Again:
        pass
    return frames


def _opened(path: str) -> sqlite3.Connection:
    """Open the journal, as durable as imgserve's."""
    journal = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    journal.execute("PRAGMA journal_mode = WAL")
    journal.execute("PRAGMA synchronous = FULL")
    journal.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT, payload BLOB)")
    return journal


def _journal(
    journal: sqlite3.Connection,
    rows: queue.SimpleQueue[list[tuple[str, str, bytes]]],
    stored: queue.SimpleQueue[list[tuple[str, str, bytes]]],
    bell: zmq.Socket[bytes],
) -> None:
    """Commit what has come, all at once, and say so."""
    while True:
        batch = rows.get()
        while not rows.empty():
            batch += rows.get()
        journal.execute("BEGIN")
        journal.executemany(
            "INSERT INTO jobs VALUES (?2, ?1, ?3) ON CONFLICT (id) DO UPDATE SET state = ?1", batch
        )
        journal.execute("COMMIT")
        stored.put(batch)
        bell.send(b"")
