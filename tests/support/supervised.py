"""A supervisor in the test's own process, with its parts as real child processes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.handover import Sockets
from imgserve.commands.origin import Origin
from imgserve.commands.supervisor import Announcement, Supervisor
from imgserve.config import Settings


def supervise(
    settings: Settings,
    listener: socket.socket,
    announce: Callable[[Announcement], None],
    log_file: Path,
    timeout_s: float = 60,
) -> ExitCode:
    """Run it to its end; return its exit code. The listener is closed then."""

    async def run() -> ExitCode:
        with listener, socket.create_server(("127.0.0.1", 0)) as probes:
            supervisor = Supervisor(
                settings,
                sockets=Sockets(listener, probes),
                origin=Origin(),
                log_file=log_file,
                announce=announce,
            )
            return await supervisor.run()

    return asyncio.run(asyncio.wait_for(run(), timeout_s))
