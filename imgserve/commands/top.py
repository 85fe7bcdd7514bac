"""`imgserve top`: the cluster as a live table in the terminal, or one snapshot as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from imgserve.client import Client
from imgserve.commands.exit_codes import CommandFailed, ExitCode
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.parser import Command
from imgserve.commands.top_view import render, snapshot
from imgserve.config import Settings
from imgserve.errors import ServiceUnavailable

DESCRIPTION: Final = """\
Show the queue and every worker, on whatever host: what it has, does and uses, and the last words
of those that left. It refreshes in place; q or Ctrl-C ends it. With --json, or when the output is
no terminal, it prints one snapshot.

examples:
  imgserve top
  imgserve top --connection connection.json --interval 5
  imgserve top --json | jq '.workers | length'"""

ASK_TIMEOUT_S: Final = 3.0
BETWEEN_S: Final = 1.0
"""For `--json`: rates need two answers, and workers say what they use once a second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --json, --interval and the settings that say which broker."""
    parser.add_argument("--json", action="store_true", help="print one snapshot as JSON")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="between two (default: 1)"
    )
    add_settings(parser, ["state", "connection", "key"])


def run(namespace: argparse.Namespace) -> int:
    """Show the cluster until told to end.

    Raises: CommandFailed when no broker answers.
    """
    settings = settings_from(namespace)
    if not settings.connection_file.exists():
        raise CommandFailed(
            f"{settings.connection_file}: there is no such file, so no broker runs there; name "
            "its file with --connection",
            ExitCode.NO_INPUT,
        )
    with Client(settings, flush_s=0) as client:
        if namespace.json:
            print(json.dumps(_once(client, settings), indent=2))
        elif not sys.stdout.isatty():
            Console(width=160).print(render(_once(client, settings)))
        else:
            _live(client, settings, max(0.2, namespace.interval))
    return ExitCode.OK


def _once(client: Client, settings: Settings) -> dict[str, Any]:
    before, began_s = _ask(client, settings), time.monotonic()
    time.sleep(BETWEEN_S)
    return snapshot(_ask(client, settings), before, time.monotonic() - began_s)


def _live(client: Client, settings: Settings, interval_s: float) -> None:
    before: Mapping[str, Any] | None = None
    asked_s = time.monotonic()
    with _keys() as quit_asked, Live(screen=True, auto_refresh=False) as live:
        while True:
            figures, now_s = _ask(client, settings), time.monotonic()
            live.update(render(snapshot(figures, before, now_s - asked_s)), refresh=True)
            before, asked_s = figures, now_s
            if quit_asked(interval_s):
                return


def _ask(client: Client, settings: Settings) -> Mapping[str, Any]:
    try:
        return client.stats(timeout_s=ASK_TIMEOUT_S)
    except ServiceUnavailable:
        raise CommandFailed(
            f"the broker of {settings.connection_file} does not answer", ExitCode.UNAVAILABLE
        ) from None


class _Keys:
    """Waits for q; without a keyboard it only waits."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __call__(self, seconds: float) -> bool:
        if self._descriptor is None:
            time.sleep(seconds)
            return False
        ends_s = time.monotonic() + seconds
        while (left_s := ends_s - time.monotonic()) > 0:
            if select.select([self._descriptor], [], [], left_s)[0]:
                key = sys.stdin.read(1)
                if key in ("q", "Q", ""):
                    return True
        return False


@contextlib.contextmanager
def _keys() -> Iterator[_Keys]:
    if not sys.stdin.isatty():
        yield _Keys(None)
        return
    descriptor = sys.stdin.fileno()
    former = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, former)


COMMAND: Final = Command(
    "top", "watch the queue and every worker live", DESCRIPTION, add_arguments, run
)
