"""A gateway process's `serve`, run on a thread, and a plain HTTP client for it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from imgserve.config import Settings
from imgserve.gateway.app import serve

REQUEST = {
    "operationType": "resize",
    "srcURL": "http://there/a.png",
    "dstURL": "http://there/page:{$basename}.png",
    "args": {"width": 4, "height": 3, "field_name": "file"},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class GatewayRun:
    """Runs until the block ends; `stop` may be called before."""

    def __init__(
        self, connection: Path, *, listener: socket.socket | None = None, **settings: Any
    ) -> None:
        settings = {"host": "127.0.0.1"} | settings
        self._settings = Settings(connection=connection, state=connection.parent, **settings)
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self._listener.getsockname()[1]
        self._probes = socket.create_server(("127.0.0.1", 0))
        self.probe_port = self._probes.getsockname()[1]
        self.exit_code: int | None = None

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(started)))
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()
        self._listener.close()
        self._probes.close()

    def stop(self) -> None:
        """Ask it to end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    def join(self, timeout_s: float = 20) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()

    @property
    def draining(self) -> bool:
        """Whether it was asked to end and has seen it."""
        return self._stop.is_set()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        origin: str = "127.0.0.1",
        port: int = 0,
        **headers: str,
    ) -> Answer:
        """One request on a connection of its own, from an address; a mapping becomes JSON."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", port or self.port, timeout=30, source_address=(origin, 0)
        )
        try:
            data = json.dumps(body) if isinstance(body, dict) else body
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, data, named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, body: Any, path: str = "/", **headers: str) -> Answer:
        """Post to the gateway."""
        return self.ask("POST", path, body, **headers)

    async def _main(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        self.exit_code = await serve(
            self._settings,
            stop=self._stop,
            listen_fd=os.dup(self._listener.fileno()),
            probe_fd=os.dup(self._probes.fileno()),
        )
