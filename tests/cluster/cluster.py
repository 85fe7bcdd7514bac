"""A cluster for tests: broker and gateway on one host, workers on three, a store on another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support import far_store
from tests.support.network import Host, Network
from tests.support.service import eventually

LEASE_S = 2.0
JOIN_S = 45.0
STORE_PORT = 8000
ROOT = Path(__file__).resolve().parents[2]
WORKERS = ("w1", "w2", "w3")


class Uploads:
    """What jobs fetch and what they have put.

    Args:
        url: of the store.
        puts: the folder where it keeps every version of everything.
    """

    def __init__(self, url: str, puts: Path) -> None:
        self._url = url
        self.puts = puts

    def request(self, name: str, wait_s: float = 0.0) -> dict[str, Any]:
        """Return the request of one job."""
        return {
            "operationType": "resize",
            "srcURL": f"{self._url}/red.jpg?wait={wait_s}",
            "dstURL": f"{self._url}/out/{name}.jpg",
            "args": {"width": 40, "height": 30, "method": "PUT"},
        }

    def history(self, batch: str) -> dict[str, list[tuple[float, str]]]:
        """Return when what was uploaded for each job: p for a placeholder, r for a result."""
        uploads: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for path in sorted(self.puts.glob(f"*-{batch}-*.jpg")):
            kind = "r" if is_result(path) else "p"
            uploads[path.stem.partition("-")[2]].append((path.stat().st_mtime, kind))
        return uploads


class Cluster:
    """The parts on their hosts, as they would be launched by hand.

    Args:
        network: where the hosts are made.
        folder: for state, logs and what is uploaded.
    """

    def __init__(self, network: Network, folder: Path) -> None:
        self._folder = folder
        puts = folder / "puts"
        puts.mkdir()
        self.hub, self.store = network.host("hub"), network.host("store")
        self.client = network.host("client")
        self.workers = {name: network.host(name) for name in WORKERS}
        self.connection = folder / "connection.json"
        self.uploads = Uploads(f"http://{self.store.address}:{STORE_PORT}", puts)
        self._batches = 0

    def start(self) -> None:
        """Start every part and wait until all workers have joined."""
        words = (self.store.address, str(STORE_PORT), str(self.uploads.puts))
        self.store.start(sys.executable, str(Path(far_store.__file__)), *words)
        self.start_broker()
        flags = (f"--host={self.hub.address}", "--port=8602")
        self.hub.start(*imgserve("gateway"), *self._connected(self.hub), *flags)
        for host in self.workers.values():
            self.start_worker(host)
        self.wait_for_workers(len(self.workers))

    def start_broker(self) -> subprocess.Popen[bytes]:
        """Start the broker, and hand its connection file around."""
        state = self._folder / "broker"
        state.mkdir(exist_ok=True)
        own = state / "connection.json"
        own.unlink(missing_ok=True)
        self.broker = self.hub.start(
            *imgserve("broker"),
            *("--state", str(state), "--broker-host", self.hub.address, "--insecure"),
            *("--broker-port", "8603", "--lease-s", str(LEASE_S), "--beat-s", "0.4"),
        )
        eventually(own.exists, "the broker's connection file", timeout_s=JOIN_S)
        shutil.copy(own, self.connection)
        return self.broker

    def start_worker(self, host: Host, *flags: str) -> subprocess.Popen[bytes]:
        """Start a worker on a host."""
        few = ("--processes=1", "--slots=4", "--fetch-timeout-s=5", "--connect-timeout-s=2")
        return host.start(*imgserve("worker"), *self._connected(host), *few, *flags)

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many workers are connected and live."""
        eventually(lambda: len(self.figures()["workers"]) == count, "workers", timeout_s=JOIN_S)

    def figures(self) -> Mapping[str, Any]:
        """Return what `imgserve status --json` says, asked on the client's host."""
        words = imgserve("status", "--json", "--state", str(self._folder / "client"))
        (self._folder / "client").mkdir(exist_ok=True)
        ended = subprocess.run(
            self.client.inside([*words, "--connection", str(self.connection)]),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        document: dict[str, Any] = json.loads(ended.stdout)
        return document

    def submit(self, count: int, wait_s: float = 0.0) -> Batch:
        """Begin a batch of jobs on the client's host."""
        self._batches += 1
        words = imgserve("submit", "-", "--connection", str(self.connection))
        name = f"b{self._batches}"
        return Batch(self.client.inside(words), self.uploads, name, count, wait_s)

    def _connected(self, host: Host) -> Iterator[str]:
        yield from ("--connection", str(self.connection))
        yield from ("--state", str(self._folder / host.name))


class Batch:
    """Jobs under way, submitted by `imgserve submit`.

    Args:
        words: the command line that submits what it reads.
        uploads: what they fetch and put.
        name: what the names of its uploads begin with.
        count: how many jobs.
        wait_s: how slow their source is.
    """

    def __init__(
        self, words: list[str], uploads: Uploads, name: str, count: int, wait_s: float
    ) -> None:
        self._uploads = uploads
        self.name = name
        self.count = count
        requests = [uploads.request(f"{name}-{each}", wait_s) for each in range(count)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        assert self._process.stdin is not None
        with self._process.stdin as lines:
            lines.write("".join(json.dumps(request) + "\n" for request in requests).encode())
        self._told: list[tuple[float, dict[str, Any]]] = []
        self._reader = threading.Thread(target=self._read, name=name)
        self._reader.start()

    def begun(self, uploads: int = 1) -> None:
        """Wait until its first uploads have been seen."""
        eventually(
            lambda: len(list(self._uploads.puts.glob(f"*-{self.name}-*"))) >= uploads, "uploads"
        )

    def assert_all_done(self, timeout_s: float = 60) -> None:
        """Wait for its end; check that every job is done, and that its result stands."""
        self._reader.join(timeout_s)
        assert self._process.poll() == 0, [outcome for _, outcome in self._told]
        assert len(self._told) == self.count
        self.assert_results_stand()

    def assert_results_stand(self) -> None:
        """Check that no placeholder came to a job's place once it was said to be done.

        Before that an attempt may have been done twice, placeholder and all: its worker could not
        say that it had succeeded.
        """
        history = self._uploads.history(self.name)
        for told_s, outcome in self._told:
            uploads = history[f"{self.name}-{outcome['line'] - 1}"]
            kinds = "".join(kind for _, kind in uploads)
            assert kinds.endswith("r"), f"{outcome}: {kinds}"
            late = [kind for put_s, kind in uploads if put_s > told_s and kind == "p"]
            assert not late, f"{outcome}: a placeholder over a result: {kinds}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._told.append((time.time(), json.loads(line)))
        self._process.wait()


def imgserve(*words: str) -> list[str]:
    """Return the command line of `imgserve`."""
    return [sys.executable, "-m", "imgserve", *words]


def is_result(path: Path) -> bool:
    """Tell the red result from the placeholder."""
    with Image.open(path) as image:
        red, green, blue = image.convert("RGB").resize((1, 1)).getpixel((0, 0))
    return red > 200 and green < 60 and blue < 60
