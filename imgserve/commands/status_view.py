"""The status for people: a few lines and a table of workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from imgserve.commands.top_view import DEPARTED_SHOWN, warnings


def show(status: Mapping[str, Any]) -> None:
    """Print the answer of `status`."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(headline(status)))
    if not status["running"] and not status["broker_answers"]:
        return
    for line in details(status):
        console.print(Text(f"  {line}"))
    if status["workers"]:
        console.print(workers(status["workers"]))
    elif status["broker_answers"]:
        console.print(Text("  no worker is connected; `imgserve worker` starts one"))
    for line in last_words(status["departed"]):
        console.print(Text(f"  {line}"))


def headline(status: Mapping[str, Any]) -> str:
    """Return the one sentence that matters."""
    if not status["running"]:
        if status["broker_answers"]:
            return f"a broker answers through {status['connection_file']}"
        return (
            f"no imgserve runs with state {status['state_dir']}; "
            "`imgserve start` starts one, --state DIR shows another"
        )
    if status["phase"] == "running" and status["ready"]:
        return f"imgserve {status['version']} serves {status['url']} (pid {status['pid']})"
    phase = "not ready" if status["phase"] == "running" else status["phase"]
    return f"imgserve {status['version']} runs (pid {status['pid']}) and is {phase}"


def details(status: Mapping[str, Any]) -> list[str]:
    """Return the lines on parts and queue."""
    lines = []
    if status["running"]:
        gateways = ", ".join(map(str, status["gateways"])) or "down"
        lines.append(
            f"gateway {gateways}; broker {status['broker'] or 'down'}; "
            f"restarts of parts {status['restarts']}; since {status['started_at']}"
        )
        lines.append(f"state {status['state_dir']}, log {status['log_file']}")
        lines.append(
            "HTTP asks for tokens" if status["asks_for_tokens"] else "HTTP asks for no tokens"
        )
        lines += [f"{name}: {had}" for name, had in status["machine"].items() if had is not True]
    if not status["broker_answers"]:
        return [*lines, "the broker does not answer: workers and queue are unknown"]
    if status.get("descriptors", {}).get("low"):
        used = "{open} of {limit}".format(**status["descriptors"])
        lines.append(f"the broker has {used} descriptors in use: soon nobody can connect")
    queue = status["queue"]
    lines.append(
        f"queue {queue['queue_length']}, in flight {queue['in_flight']}, "
        f"free slots {queue['credit']}{', full' if queue['full'] else ''}"
    )
    total = ", ".join(f"{state} {count}" for state, count in queue["jobs_total"].items() if count)
    lines.append(f"jobs since the broker started: {total or 'none'}")
    lines += [
        f"{count} jobs wait for a worker with tag {tag}"
        for tag, count in queue["waiting_tags"].items()
    ]
    return lines + warnings(status["workers"])


def last_words(departed: list[Mapping[str, Any]]) -> list[str]:
    """Return who left last, and why."""
    return [
        f"worker {each['pid']} on {each['host']} left {each['left_s']:.0f} s ago: {each['reason']}"
        for each in departed[:DEPARTED_SHOWN]
    ]


def workers(rows: list[Mapping[str, Any]]) -> Table:
    """Return the table of workers."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("worker", "pid", "pixel processes", "busy", "slots", "version", "age"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            Text(str(row["host"])),
            str(row["pid"]),
            " ".join(map(str, row["pixel_pids"])),
            str(row["busy"]),
            str(row["slots"]),
            Text(str(row["version"])),
            f"{row['age_s']:.0f} s",
        )
    return table
