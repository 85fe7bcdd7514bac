"""`imgserve start`: check, become a daemon, say when it serves."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import daemon

from imgserve.commands import checks, logs
from imgserve.commands.exit_codes import CommandFailed, ExitCode
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.handover import Sockets
from imgserve.commands.listening import listen
from imgserve.commands.origin import Origin
from imgserve.commands.parser import Command
from imgserve.commands.pid_file import PidFile, running_pid
from imgserve.commands.service_file import ServiceRecord
from imgserve.commands.supervisor import MARGIN_S, START_TIMEOUT_S, Announcement, Supervisor
from imgserve.config import Settings

DESCRIPTION: Final = """\
Start gateway, broker and worker on this machine as a daemon, and return when they serve.

A part that dies is started again. Log, pid file and state are in ~/.imgserve; for root in
/var/log/imgserve, /var/run and /var/lib/imgserve; with --state DIR all in DIR.
Long options take one dash or two."""
EXAMPLES: Final = """

examples:
  imgserve start
  imgserve start -host 127.0.0.1 -port 8080
  imgserve start --state /srv/imgserve --file-root /srv/pictures --processes 4
  imgserve start --foreground --port 0"""


@dataclass(frozen=True, slots=True)
class Plan:
    """A start that was checked.

    Args:
        settings: of every part.
        origin: where they came from.
        foreground: stay in the terminal.
    """

    settings: Settings
    origin: Origin
    foreground: bool

    @classmethod
    def of(cls, namespace: argparse.Namespace) -> Self:
        """Check everything that can be checked without disturbing a service that runs.

        Raises:
            ConfigError: a setting is wrong.
            CommandFailed: a folder is missing or cannot be made.
        """
        settings = settings_from(namespace)
        checks.check_key(settings)
        checks.make_folders(settings)
        checks.check_file_roots(settings)
        checks.check_http(settings)
        return cls(settings, Origin.of(namespace, settings), namespace.foreground)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --foreground and every setting."""
    parser.add_argument(
        "--foreground", action="store_true", help="stay in the terminal and log to stderr"
    )
    add_settings(parser)


def run(namespace: argparse.Namespace) -> int:
    """Start the service of these settings.

    Raises:
        ConfigError: a setting is wrong.
        CommandFailed: something it needs is missing or taken, or a part did not start.
    """
    return begin(Plan.of(namespace))


def begin(plan: Plan, sockets: Sockets | None = None) -> int:
    """Start a service.

    Args:
        plan: the checked settings.
        sockets: what it listens on; None: it binds its own.

    Raises:
        CommandFailed: something it needs is missing or taken, or a part did not start.
    """
    settings = plan.settings
    pid_file = PidFile(settings.pid_file)
    if not pid_file.acquire():
        raise CommandFailed(
            f"imgserve runs already (pid {running_pid(settings.pid_file)}, "
            f"state {settings.state_dir}); `imgserve stop` ends it",
            ExitCode.ALREADY_RUNNING,
        )
    try:
        checks.check_broker_ports(settings)
        sockets = sockets or bind(settings)
    except CommandFailed:
        pid_file.release()
        raise
    if warning := checks.warning(sockets.http.getsockname()[0], settings):
        print(f"imgserve: {warning}", file=sys.stderr)
    if plan.foreground:
        return _foreground(plan, pid_file, sockets)
    return _daemonise(plan, pid_file, sockets)


def bind(settings: Settings) -> Sockets:
    """Bind what the service listens on.

    Raises: CommandFailed when an address cannot be had.
    """
    listener = listen(settings.host, settings.port, "-port")
    try:
        return Sockets(
            listener, listen(settings.probe_host, settings.probe_port or 0, "--probe-port")
        )
    except CommandFailed:
        listener.close()
        raise


def ready_line(record: ServiceRecord, settings: Settings) -> str:
    """Return the line that `start` prints."""
    return (
        f"imgserve {record.version} serves {record.url} "
        f"(pid {record.pid}, state {settings.state_dir}, log {settings.log_file})"
    )


def _foreground(plan: Plan, pid_file: PidFile, sockets: Sockets) -> int:
    logs.configure("supervisor")

    def announce(news: Announcement) -> None:
        if news.ready:
            print(ready_line(news.record, plan.settings), flush=True)
        else:
            print(f"imgserve: the service did not start: {news.reason}", file=sys.stderr)

    return _supervise(plan, pid_file, sockets, log_file=None, announce=announce)


def _supervise(
    plan: Plan,
    pid_file: PidFile,
    sockets: Sockets,
    *,
    log_file: Path | None,
    announce: Callable[[Announcement], None],
) -> int:
    pid_file.write()

    async def supervise() -> ExitCode:
        return await Supervisor(
            plan.settings,
            sockets=sockets,
            origin=plan.origin,
            log_file=log_file,
            announce=announce,
        ).run()

    try:
        return asyncio.run(supervise())
    finally:
        sockets.close()
        pid_file.release()


def _daemonise(plan: Plan, pid_file: PidFile, sockets: Sockets) -> int:
    """Fork the daemon; wait at a pipe for what it has to say."""
    settings = plan.settings
    log_start_bytes = settings.log_file.stat().st_size if settings.log_file.exists() else 0
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_daemon(plan, pid_file, sockets, writing)
    os.close(writing)
    sockets.close()
    pid_file.forget()
    os.waitpid(child, 0)  # it ends as soon as the daemon is detached from it
    news = _await_news(reading)
    if news is None:
        news = {"ready": False, "reason": "the supervisor ended without a word"}
    if not news["ready"]:
        lines = logs.last_lines(settings.log_file, log_start_bytes)
        shown = "".join(f"\n  {line}" for line in lines)
        raise CommandFailed(
            f"the service did not start: {news['reason']}; the end of {settings.log_file}:{shown}",
            ExitCode.UNAVAILABLE,
        )
    print(ready_line(ServiceRecord.of(news["record"]), settings))
    return ExitCode.OK


def _be_daemon(plan: Plan, pid_file: PidFile, sockets: Sockets, writing: int) -> None:
    """Detach, supervise, and leave without returning into the parent's code."""
    settings = plan.settings
    log = settings.log_file.open("a", encoding="utf-8")

    def announce(news: Announcement) -> None:
        document = {"ready": news.ready, "reason": news.reason, "record": asdict(news.record)}
        try:
            os.write(writing, json.dumps(document).encode() + b"\n")
        except BrokenPipeError:
            pass  # nobody waits any more
        os.close(writing)

    exit_code: int = ExitCode.SOFTWARE
    umask = os.umask(0o077)
    try:
        with daemon.DaemonContext(
            detach_process=True,  # also where the shell is process 1, as in containers
            files_preserve=[pid_file.descriptor, *sockets, writing, log],
            stdout=log,
            stderr=log,
            umask=umask,  # results at file: destinations get the modes the operator's shell gives
            signal_map={},
        ):
            logs.configure("supervisor", settings.log_file)
            exit_code = _supervise(
                plan, pid_file, sockets, log_file=settings.log_file, announce=announce
            )
    finally:
        os._exit(exit_code)


def _await_news(reading: int) -> dict[str, Any] | None:
    """Read the daemon's one line; None when it died or says nothing in time."""
    ready, _, _ = select.select([reading], [], [], START_TIMEOUT_S + 2 * MARGIN_S)
    with os.fdopen(reading) as pipe:
        line = pipe.readline() if ready else ""
    return json.loads(line) if line else None


COMMAND: Final = Command(
    "start",
    "start gateway, broker and worker on this machine",
    DESCRIPTION + EXAMPLES,
    add_arguments,
    run,
)
