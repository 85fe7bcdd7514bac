"""The service of a run: every part a process, every peer behind a wire of its own."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from imgserve.errors import ConfigError
from imgserve.protocol.connection import Connection
from scripts.chaos_lib.crash_points import names_of
from scripts.chaos_lib.jobs import Ends
from scripts.chaos_lib.load import Order
from scripts.chaos_lib.processes import Process
from scripts.chaos_lib.proxy import Wire

LANE_PORTS: Final = 150
"""Lanes that a wire listens for; the broker takes the next port at every join of one life."""

FIRST_BASE_PORT, LAST_BASE_PORT = 20_000, 31_000
"""Below the ports that Linux gives to outgoing connections."""

POINT_SHARE: Final = 0.35
"""Lives that begin with a crash point set."""

LATEST_PASSAGE: Final = 80
LOOK_S: Final = 0.05
START_TIMEOUT_S: Final = 30.0
GRACE_S: Final = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large and how quick a run is.

    Args:
        rate: jobs a second, of all submitters together.
        drain_s: how long the submitters wait for their last jobs.
    """

    seed: int
    rate: float
    workers: int
    lease_s: float
    drain_s: float = 120.0

    @property
    def names(self) -> tuple[str, ...]:
        """Of the workers."""
        return tuple(f"worker-{number}" for number in range(1, self.workers + 1))


class Service:
    """Starts and ends everything that is not the script itself.

    Args:
        folder: an empty one, for state, logs, ledgers and files.
    """

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder = folder
        self.scale = scale
        self.trace = folder / "trace.jsonl"
        self.state = folder / "state"
        self.armed = True
        self._chance = random.Random(f"crash points {scale.seed}")  # noqa: S311 (a plan)
        for name in ("logs", "state", "peers"):
            (folder / name).mkdir()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.set_inheritable(True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._base_port = _free_base_port(self._chance)
        self.wires = {peer: self._wire(n, peer) for n, peer in enumerate(self._peers, 1)}
        self.parts = {name: self._part(name) for name in ("broker", "gateway", *scale.names)}
        self.ends_process = self._process("ends", self._ends_words)
        self.submitters = [
            self._process(kind, lambda kind=kind: self._load_words(kind))
            for kind in ("native", "http")
        ]
        self._announcer: asyncio.Task[None] | None = None

    @property
    def _peers(self) -> tuple[str, ...]:
        return ("gateway", "native", *self.scale.names)

    @property
    def ledgers(self) -> list[Path]:
        """The submitters' ledgers."""
        return [self.folder / f"ledger-{process.name}.jsonl" for process in self.submitters]

    @property
    def ends(self) -> Ends:
        """Where sources and destinations are."""
        return Ends(**json.loads((self.folder / "ends.json").read_text()))

    @property
    def processes(self) -> list[Process]:
        """All of them, in the order in which they end without loss."""
        workers = [self.parts[name] for name in self.scale.names]
        return [*self.submitters, self.parts["gateway"], *workers, self.parts["broker"],
                self.ends_process]  # fmt: skip

    async def start(self) -> None:
        """Start the ends, then the service, then its submitters."""
        for wire in self.wires.values():
            await wire.start()
        self.ends_process.start()
        await _appears(self.folder / "ends.json")
        self._announcer = asyncio.create_task(self._announce())
        for part in self.parts.values():
            part.start()
        await _appears(self._peer_file("native"))
        for process in self.submitters:
            process.start()

    async def rest(self) -> None:
        """Let the submitters see the end of every job; no faults come any more."""
        self.armed = False
        for wire in self.wires.values():
            wire.heal()
        for part in self.parts.values():
            part.send(signal.SIGCONT)
        limit_s = self.scale.drain_s + 20
        await asyncio.gather(*(each.end(signal.SIGTERM, limit_s) for each in self.submitters))

    async def drain(self) -> dict[str, int | None]:
        """End every part as `imgserve stop` does; return the exit codes."""
        codes: dict[str, int | None] = {}
        workers = [self.parts[name] for name in self.scale.names]
        for group in ([self.parts["gateway"]], workers, [self.parts["broker"]]):
            ended = await asyncio.gather(*(part.end(signal.SIGTERM, GRACE_S) for part in group))
            codes |= {part.name: code for part, code in zip(group, ended, strict=True)}
        return codes

    async def kill(self) -> None:
        """End whatever still runs, at once."""
        if self._announcer is not None:
            self._announcer.cancel()
        await asyncio.gather(*(each.end(signal.SIGKILL, GRACE_S) for each in self.processes))
        for wire in self.wires.values():
            wire.close()
        self._listener.close()

    # --- command lines

    def _process(self, name: str, words: object, fds: Sequence[int] = ()) -> Process:
        log = self.folder / "logs" / f"{name}.log"
        again = name in ("broker", "gateway", *self.scale.names)
        return Process(name, words, log, pass_fds=fds, again=again)  # type: ignore[arg-type]

    def _part(self, name: str) -> Process:
        fds = (self._listener.fileno(),) if name == "gateway" else ()
        return self._process(name, lambda: self._part_words(name), fds)

    def _part_words(self, name: str) -> list[str]:
        part = name.partition("-")[0]
        point, nth = self._draw_point(part)
        scale = self.scale
        flags = {
            "broker": (
                f"--state={self.state}",
                f"--broker-port={self._base_port}",
                "--advertise=0.0.0.0",  # a worker then takes its lane's host from its own wire
                f"--lease-s={scale.lease_s}",
                f"--beat-s={scale.lease_s / 5}",
                "--retry-base-s=0.1",
                "--retry-max-s=2",
                "--drain-timeout-s=5",
            ),
            "gateway": (f"--listen-fd={self._listener.fileno()}", "--answer-timeout-s=10"),
            "worker": (
                "--processes=1",
                "--slots=12",
                "--allow-network=127.0.0.0/8",
                f"--file-root={self.folder / 'files'}",
                "--connect-timeout-s=5",
                "--fetch-timeout-s=10",
                "--upload-timeout-s=10",
                "--drain-timeout-s=8",
            ),
        }[part]
        if part != "broker":
            flags += (f"--connection={self._peer_file(name)}",)
        parent = f"--parent={os.getpid()}"
        return ["scripts.chaos_lib.part", str(self.trace), point, nth, part, parent, *flags]

    def _draw_point(self, part: str) -> tuple[str, str]:
        if not self.armed or self._chance.random() > POINT_SHARE:
            return "-", "0"
        name = self._chance.choice(names_of(part))
        latest = 1 if name.startswith("start:") else LATEST_PASSAGE
        nth = math.exp(self._chance.uniform(0, math.log(latest + 0.5)))
        return name, str(int(nth))

    def _ends_words(self) -> list[str]:
        return ["scripts.chaos_lib.ends", str(self.folder), str(os.getpid())]

    def _load_words(self, kind: str) -> list[str]:
        order = Order(
            name=kind[:1],
            where=str(self._peer_file("native")) if kind == "native" else self.url,
            rate=self.scale.rate / 2,
            seed=self.scale.seed,
            drain_s=self.scale.drain_s,
            ends=str(self.folder / "ends.json"),
            ledger=str(self.folder / f"ledger-{kind}.jsonl"),
            parent=os.getpid(),
        )
        return ["scripts.chaos_lib.load", kind, json.dumps(asdict(order))]

    # --- the broker's announcements

    def _wire(self, number: int, peer: str) -> Wire:
        port = self._base_port
        channels = {port: "jobs", port + 1: "reports", port + 2: "events"}
        if peer.startswith("worker"):
            channels |= dict.fromkeys(range(port + 3, port + 3 + LANE_PORTS), "lane")
        return Wire(f"127.0.1.{number}", channels)

    def _peer_file(self, peer: str) -> Path:
        return self.folder / "peers" / f"{peer}.json"

    async def _announce(self) -> None:
        """Give each peer the broker's connection file with the address of its own wire in it."""
        known = None
        while True:
            try:
                connection = Connection.read(self.state / "connection.json")
            except (OSError, ConfigError):
                connection = known
            if connection is not None and connection != known:
                known = connection
                for peer, wire in self.wires.items():
                    _through(connection, wire.host).write(self._peer_file(peer))
            await asyncio.sleep(LOOK_S)


def _through(connection: Connection, host: str) -> Connection:
    jobs, reports, events = (
        f"tcp://{host}:{endpoint.rpartition(':')[2]}"
        for endpoint in (connection.jobs, connection.reports, connection.events)
    )
    return replace(connection, jobs=jobs, reports=reports, events=events)


def _free_base_port(chance: random.Random) -> int:
    while True:
        port = chance.randrange(FIRST_BASE_PORT, LAST_BASE_PORT)
        try:
            for each in range(port, port + 3):
                socket.create_server(("127.0.0.1", each)).close()
        except OSError:
            continue
        return port


async def _appears(path: Path) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 (a file has no event)
            await asyncio.sleep(LOOK_S)
