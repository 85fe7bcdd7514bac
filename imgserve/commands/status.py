"""`imgserve status`: what runs, for people or as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.listening import http_status
from imgserve.commands.parser import Command
from imgserve.commands.pid_file import running_pid
from imgserve.commands.pixel_report import pixel_report
from imgserve.commands.service_file import ServiceRecord, service_file
from imgserve.commands.status_view import show
from imgserve.config import Settings

DESCRIPTION: Final = """\
Show the service with this state folder: its processes, every worker that is connected to its
broker (those on other hosts too), and the queue. The exit code is 0 when it runs, 3 when not.

examples:
  imgserve status
  imgserve status --json --state /srv/imgserve
  imgserve status --connection connection.json      a broker that runs elsewhere"""

BROKER_TIMEOUT_S: Final = 2.0
"""A broker that hangs must not make status hang."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What could be found out.

    Args:
        running: the supervisor lives.
        record: what it says of itself, if it does.
        figures: the broker's, if it answered.
        ready: HTTP says that jobs can be taken.
        asks_for_tokens: HTTP takes no request without one.
    """

    running: bool
    record: ServiceRecord | None
    figures: Mapping[str, Any] | None
    ready: bool
    asks_for_tokens: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --json and the settings that say which service."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_settings(parser, ["state", "connection", "key"])


def run(namespace: argparse.Namespace) -> int:
    """Print what runs; return NOT_RUNNING when nothing does."""
    settings = settings_from(namespace)
    seen = look(settings)
    if namespace.json:
        print(json.dumps(document(seen, settings), indent=2))
    else:
        show(document(seen, settings))
    return ExitCode.OK if seen.running or seen.figures is not None else ExitCode.NOT_RUNNING


def look(settings: Settings) -> Seen:
    """Ask the pid file, the supervisor's record, the gateway and the broker."""
    running = running_pid(settings.pid_file) is not None
    record = ServiceRecord.read(service_file(settings.state_dir)) if running else None
    figures = None
    if running or settings.connection is not None:
        figures = ask_broker(settings)
    ready = asks = False
    if record is not None:
        url = record.probe_url or record.url
        ready = asyncio.run(http_status(url, "/readyz")) == 200
        asks = asyncio.run(http_status(url, "/metrics")) == 401
    return Seen(running, record, figures, ready, asks)


def ask_broker(settings: Settings) -> Mapping[str, Any] | None:
    """Return the broker's figures, or None when it does not answer in time."""
    from imgserve.client import Client  # noqa: PLC0415 (only what needs ZeroMQ loads it)

    answers: list[Mapping[str, Any]] = []

    def ask() -> None:
        try:
            with Client(settings) as client:
                answers.append(client.stats(timeout_s=BROKER_TIMEOUT_S))
        except Exception:  # noqa: BLE001, S110 (whatever it is: the broker did not answer)
            pass

    if not settings.connection_file.exists():
        return None
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(BROKER_TIMEOUT_S + 0.5)
    return answers[0] if answers else None


def document(seen: Seen, settings: Settings) -> dict[str, Any]:
    """Return the answer of `status --json`."""
    record, figures = seen.record, seen.figures or {}
    parts = record.parts if record else {}
    gateways = parts.get("gateway", [])
    return {
        "running": seen.running,
        "ready": seen.ready,
        "phase": record.phase if record else "stopped",
        "pid": record.pid if record else None,
        "version": record.version if record else None,
        "url": record.url if record else None,
        "asks_for_tokens": seen.asks_for_tokens,
        "probe_url": record.probe_url if record else None,
        "host": record.host if record else None,
        "port": record.port if record else None,
        "started_at": record.started_at if record else None,
        "restarts": record.restarts if record else 0,
        "machine": pixel_report(),
        "state_dir": str(settings.state_dir),
        "log_file": str(settings.log_file),
        "connection_file": str(settings.connection_file),
        "gateway": gateways[0] if gateways else None,
        "gateways": gateways,
        "broker": next(iter(parts.get("broker", [])), None),
        "broker_answers": seen.figures is not None,
        "epoch": figures.get("epoch"),
        "uptime_s": figures.get("uptime_s"),
        "descriptors": figures.get("descriptors", {}),
        "workers": [dict(worker) for worker in figures.get("workers", ())],
        "departed": [dict(worker) for worker in figures.get("departed", ())],
        "queue": {
            "jobs_total": figures.get("jobs_total", {}),
            "queue_length": figures.get("queue_length", 0),
            "in_flight": figures.get("in_flight", 0),
            "credit": figures.get("credit", 0),
            "full": figures.get("full", False),
            "waiting_tags": figures.get("waiting_tags", {}),
        },
    }


COMMAND: Final = Command(
    "status", "show what runs, its workers and its queue", DESCRIPTION, add_arguments, run
)
