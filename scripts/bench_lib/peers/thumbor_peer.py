"""thumbor: thumbnails on request, fetched from the source's server; it puts nothing anywhere."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle, islice
from urllib.parse import quote, urlsplit

from bench_lib.peers import install
from bench_lib.peers.kinds import CPUS, HEIGHT_PX, WIDTH_PX, WINDOW, Place, Round, Run
from bench_lib.peers.process import measured, running, wait_until
from bench_lib.report import BenchError

CONFIG = """
ALLOW_UNSAFE_URL = True
QUALITY = 85
PROGRESSIVE_JPEG = False
STORAGE = "thumbor.storages.no_storage"
NON_BLOCKING_SOCKETS = True
"""
"""As imgserve encodes; and nothing kept, so that each request is a job."""
CONNECTIONS = WINDOW // 2
BACKLOG = 1024


@contextmanager
def start(place: Place) -> Iterator[Run]:
    """Run one process per CPU, each with a port of its own and its share of the connections."""
    program = install.python("peers-thumbor").with_name("thumbor")
    config = place.folder / "thumbor.conf"
    config.write_text(CONFIG)
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(CPUS)]
        processes = []
        for each, listener in enumerate(listeners):
            listener.bind(("127.0.0.1", 0))
            listener.listen(BACKLOG)
            descriptor = listener.fileno()
            words = [program, "--fd", str(descriptor), "--conf", config, "-l", "error"]
            name = f"thumbor-{each}"
            own = running(name, words, place.folder, pass_fds=(descriptor,))
            processes.append(stack.enter_context(own))
        ports = [listener.getsockname()[1] for listener in listeners]
        for each, (port, process) in enumerate(zip(ports, processes, strict=True)):
            log = place.folder / f"thumbor-{each}.log"
            wait_until(partial(_healthy, port), process, log, "thumbor")

        def run(jobs: int, name: str) -> Round:
            paths = [_path(place, f"{name}-{number}") for number in range(jobs)]
            results: list[bytes] = []
            cost = measured(
                processes, jobs, lambda: results.extend(asyncio.run(_get_all(ports, paths)))
            )
            return Round(cost, results)

        yield run


def _path(place: Place, job: str) -> str:
    # Another query for each job, so that no cache could answer.
    source = quote(urlsplit(place.source_url).netloc + urlsplit(place.source_url).path, safe="/:")
    return f"/unsafe/{WIDTH_PX}x{HEIGHT_PX}/{source}%3F{job}"


def _healthy(port: int) -> bool:
    try:
        asyncio.run(asyncio.wait_for(_get_some(port, iter(["/healthcheck"]), []), 1))
    except (OSError, TimeoutError, BenchError, EOFError):
        return False
    return True


async def _get_all(ports: list[int], paths: list[str]) -> list[bytes]:
    waiting, results = iter(paths), list[bytes]()
    turns = islice(cycle(ports), CONNECTIONS)
    await asyncio.gather(*(_get_some(port, waiting, results) for port in turns))
    return results


async def _get_some(port: int, waiting: Iterator[str], results: list[bytes]) -> None:
    """GET over one kept connection what is still waiting."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for path in waiting:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200 "):
                raise BenchError(f"thumbor answered {head.splitlines()[0].decode()}")
            length = next(line for line in head.splitlines() if line.startswith(b"content-length:"))
            results.append(await reader.readexactly(int(length.partition(b":")[2])))
    finally:
        writer.close()
