"""What the machine and its operator do to a service."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

from scripts.redteam_lib.attack import Arena, Result, attack
from scripts.redteam_lib.attacks.tokens import SMALL, resize
from tests.support import images
from tests.support.http_server import HttpServer
from tests.support.service import Service, eventually, exchange


@attack("the machine", "a part that dies while the disk is full is started again")
def full_disk(arena: Arena) -> Result:
    """Let no file of the supervisor grow, kill the worker, and give the room back."""
    with Service(arena.folder / "service", *SMALL) as service:
        pid = service.record["pid"]
        (worker,) = service.record["parts"]["worker"]
        old = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        os.kill(worker, signal.SIGKILL)
        time.sleep(2)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, old)
        began_s = time.monotonic()
        with contextlib.suppress(AssertionError):
            eventually(
                lambda: service.record["parts"]["worker"] not in ([], [worker]),
                "a new worker",
                timeout_s=40,
            )
        took_s = time.monotonic() - began_s
        back = service.record["parts"]["worker"] not in ([], [worker])
    return Result(back, f"a new worker {took_s:.1f} s after there was room" if back else "never")


@contextlib.contextmanager
def daemon(arena: Arena) -> Iterator[Service]:
    """A service in the background, whose supervisor may be another one at its end."""
    with Service(arena.folder / "service", *SMALL, daemon=True) as service:
        try:
            yield service
        finally:
            service.run("stop")


def health(port: int) -> int:
    """Ask whether the gateway lives; return the status, or 0 when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        return exchange(connection, "GET", "/healthz").status
    except OSError:
        return 0
    finally:
        connection.close()


@attack("the operator", "`imgserve restart` refuses no connection and loses no request")
def restart_under_load(arena: Arena) -> Result:
    """Restart again and again while clients connect."""
    restarts = 20 if arena.long else 2
    seen: Counter[str] = Counter()
    over = threading.Event()
    with HttpServer() as web, daemon(arena) as service:
        port = service.record["port"]

        def connect() -> None:
            while not over.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", port), 10) as one:
                        one.settimeout(30)
                        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                        seen["answered" if b" 200 " in one.recv(200) else "unanswered"] += 1
                except ConnectionRefusedError:
                    seen["refused"] += 1
                except OSError:
                    seen["broken"] += 1
                over.wait(0.01)

        clients = [threading.Thread(target=connect) for _ in range(4)]
        for client in clients:
            client.start()
        codes = [service.run("restart").returncode for _ in range(restarts)]
        over.set()
        for client in clients:
            client.join()
        web.files["/photo.png"] = images.png()
        works = service.submit(resize(web.url("/photo.png"), web.url("/out.png")))["state"]
    held = not (seen["refused"] or seen["broken"] or seen["unanswered"])
    figure = f"{restarts} restarts, connections: {dict(seen)}"
    return Result(held and works == "done" and not any(codes), figure)


@attack("the operator", "a restart that cannot succeed leaves the service as it was")
def restart_that_cannot_start(arena: Arena) -> Result:
    """Restart with a port that is taken, and with a setting that is wrong."""
    answers = []
    with daemon(arena) as service, socket.create_server(("127.0.0.1", 0)) as taken:
        port = service.record["port"]
        for flag in (f"-port={taken.getsockname()[1]}", "--retry-limit=-1"):
            service.run("restart", flag)
            answers.append(health(port))
    return Result(answers == [200, 200], f"answers of the old service afterwards: {answers}")
