"""What `imgserve top` shows, computed from two answers of the broker: pure but for the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

Figures = Mapping[str, Any]

CLOCK_OFF_S: Final = 5.0
"""From here on certificates and logs begin to suffer from a wrong clock."""

DEPARTED_SHOWN: Final = 5


def snapshot(figures: Figures, before: Figures | None, elapsed_s: float) -> dict[str, Any]:
    """Return one snapshot as `--json` prints it.

    Args:
        figures: the broker's answer now.
        before: its answer a while ago; without one no rate is known.
        elapsed_s: seconds between the two.
    """
    earlier = {each["incarnation"]: each for each in (before or {}).get("workers", ())}
    queued, running = figures.get("queue_length", 0), figures.get("in_flight", 0)
    return {
        "epoch": figures.get("epoch"),
        "uptime_s": figures.get("uptime_s", 0.0),
        "queue": {
            "queued": queued,
            "running": running,
            "credit": figures.get("credit", 0),
            "full": figures.get("full", False),
            "waiting_tags": dict(figures.get("waiting_tags", {})),
        },
        "jobs_total": dict(figures.get("jobs_total", {})),
        "jobs_s": _rate(_ended(figures), None if before is None else _ended(before), elapsed_s),
        "workers": [
            _worker(each, earlier.get(each["incarnation"]), elapsed_s)
            for each in figures.get("workers", ())
        ],
        "departed": [dict(each) for each in figures.get("departed", ())],
    }


def warnings(workers: list[Mapping[str, Any]]) -> list[str]:
    """Return what an operator should look at; status says the same."""
    return [
        f"the clock of {each['host']} is {abs(each['clock_off_s']):.0f} s "
        f"{'ahead of' if each['clock_off_s'] > 0 else 'behind'} the broker's: jobs and leases do "
        "not depend on it, but certificates and logs do; set it by NTP"
        for each in workers
        if abs(each.get("clock_off_s", 0)) > CLOCK_OFF_S
    ]


def render(seen: Mapping[str, Any]) -> Group:
    """Return the picture of one snapshot."""
    queue, total = seen["queue"], seen["jobs_total"]
    ended = "  ".join(f"{state} {count}" for state, count in total.items() if count)
    lines = [
        Text(
            f"imgserve broker {seen['epoch']}, up {_age(seen['uptime_s'])}   "
            f"workers {len(seen['workers'])}   {_number(seen['jobs_s'])} jobs/s"
        ),
        Text(
            f"queued {queue['queued']}  running {queue['running']}  free slots {queue['credit']}"
            f"{'  FULL' if queue['full'] else ''}"
        ),
        Text(f"since its start: {ended or 'no jobs'}"),
        *(
            Text(f"{count} jobs wait for a worker with tag {tag}", style="yellow")
            for tag, count in queue["waiting_tags"].items()
        ),
        *(Text(line, style="yellow") for line in warnings(seen["workers"])),
    ]
    return Group(*lines, Text(), _workers(seen["workers"]), *_last_words(seen["departed"]))


def _worker(now: Figures, before: Figures | None, elapsed_s: float) -> dict[str, Any]:
    vitals = now.get("vitals", {})
    cpu_s = None if before is None else before.get("vitals", {}).get("cpu_s", 0.0)
    cores = _rate(vitals.get("cpu_s", 0.0), cpu_s, elapsed_s)
    ended = None if before is None else before.get("jobs_ended", 0)
    return {
        **{key: now[key] for key in ("incarnation", "host", "pid", "version", "slots", "busy")},
        "tags": list(now.get("tags", ())),
        "jobs_s": _rate(now.get("jobs_ended", 0), ended, elapsed_s),
        "jobs_ended": now.get("jobs_ended", 0),
        "cpu_percent": None if cores is None else 100 * cores,
        "rss_bytes": vitals.get("rss_bytes", 0.0),
        "age_s": now["age_s"],
        "last_beat_s": now["last_beat_s"],
        "leaving": now.get("leaving", False),
        "clock_off_s": now.get("clock_off_s", 0.0),
    }


def _ended(figures: Figures) -> int:
    total = figures.get("jobs_total", {})
    return sum(total.get(state, 0) for state in ("done", "failed", "rejected", "cancelled"))


def _rate(now: float, before: float | None, elapsed_s: float) -> float | None:
    if before is None or elapsed_s <= 0:
        return None
    return max(0.0, (now - before) / elapsed_s)


def _workers(workers: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("host", "pid", "version", "tags"):
        table.add_column(column, no_wrap=True)
    for column in ("slots", "busy", "jobs/s", "CPU %", "MB", "age", "heard"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in sorted(workers, key=lambda each: (each["host"], each["pid"])):
        table.add_row(
            *(Text(str(each[key])) for key in ("host", "pid", "version")),
            Text(" ".join(each["tags"])),
            str(each["slots"]),
            str(each["busy"]),
            _number(each["jobs_s"]),
            _number(each["cpu_percent"]),
            f"{each['rss_bytes'] / 1e6:.0f}",
            _age(each["age_s"]),
            "leaving" if each["leaving"] else f"{each['last_beat_s']:.1f} s",
        )
    return table


def _last_words(departed: list[Mapping[str, Any]]) -> list[Text]:
    return [
        Text(
            f"{each['host']} {each['pid']} left {_age(each['left_s'])} ago after "
            f"{each['jobs_ended']} jobs: {each['reason']}",
            style="dim",
        )
        for each in departed[:DEPARTED_SHOWN]
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _age(seconds: float) -> str:
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"
