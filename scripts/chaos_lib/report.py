"""The report of a run: a page on the terminal, report.json, and whole histories of bad jobs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from scripts.chaos_lib.judgement import Judgement, quantile
from scripts.chaos_lib.trace import read_lines

SHOWN: Final = 10
"""Bad jobs whose whole history is printed; the others are in violations.jsonl."""


def print_report(console: Console, outcome: Judgement, folder: Path, lease_s: float) -> None:
    """Print counts, figures and every violation."""
    table = Table(show_header=False, box=None)
    kills = sum(outcome.kills.values())
    table.add_row("jobs", f"{len(outcome.histories)}: {_listed(outcome.ends)}")
    table.add_row("kills", f"{kills}: {_listed(outcome.kills)}")
    table.add_row("crash points", _listed(outcome.crashes) or "none")
    table.add_row("other faults", _listed(outcome.troubles) or "none")
    answers = _listed(Counter({f"HTTP {key}": n for key, n in outcome.answers.items()}))
    table.add_row("answers", f"{answers}; {outcome.broken} connections broke as a gateway died")
    table.add_row("redelivery", _redelivery(outcome, lease_s))
    table.add_row("timeline", str(folder / "timeline.svg"))
    console.print(table)
    if not outcome.violations:
        console.print("[green]every accepted job is right; no promise was broken[/green]")
        return
    promises = Counter(violation.promise for violation in outcome.violations)
    console.print(f"[red]{len(outcome.violations)} violations[/red]: {_listed(promises)}")
    for violation in outcome.violations[:SHOWN]:
        console.print(f"\n{violation.job_id}: {violation.promise}: {violation.sentence}")
        for line in history_lines(folder, outcome, violation.job_id):
            console.print(f"    {line}", markup=False)
    if len(outcome.violations) > SHOWN:
        console.print(f"\nall of them: {folder / 'violations.jsonl'}")


def _listed(counts: Mapping[Any, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {name}" for name, count in ordered if count)


def _redelivery(outcome: Judgement, lease_s: float) -> str:
    clean = [each.seconds for each in outcome.redeliveries if each.clean]
    if not clean:
        return f"{len(outcome.redeliveries)} jobs, none without other trouble at the same time"
    return (
        f"{len(clean)} jobs of killed workers without other trouble: median "
        f"{quantile(clean, 0.5):.2f} s, longest {max(clean):.2f} s (lease {lease_s:g} s + 1 s); "
        f"{len(outcome.redeliveries) - len(clean)} amid other trouble"
    )


def history_lines(folder: Path, outcome: Judgement, job_id: str) -> list[str]:
    """Return everything that is known of one job, in order of time."""
    history = outcome.histories.get(job_id)
    if history is None:
        return []
    lines = [*history.lines]
    lines += [{"t": t, "what": "stored at the HTTP end", "is": c} for t, c in history.uploads]
    lines += [
        line
        for line in read_lines(folder / "trace.jsonl")
        if line.get("job") == job_id or job_id in line.get("url", "")
    ]
    lines.sort(key=lambda line: line["t"])
    end = [f"the destination holds: {history.content}", f"the journal: {history.record}"]
    return [*(json.dumps(line) for line in lines), *end]


def write_report(
    folder: Path, outcome: Judgement, words: Mapping[str, Any], seconds: float
) -> None:
    """Write report.json, faults.jsonl and violations.jsonl."""
    clean = [each.seconds for each in outcome.redeliveries if each.clean]
    document = {
        "arguments": {name: str(value) for name, value in words.items()},
        "seconds": round(seconds, 1),
        "jobs": len(outcome.histories),
        "ends": outcome.ends,
        "kills": outcome.kills,
        "kills_total": sum(outcome.kills.values()),
        "crash_points": outcome.crashes,
        "other_faults": outcome.troubles,
        "http_answers": {str(key): count for key, count in outcome.answers.items()},
        "connections_broken_by_gateway_kills": outcome.broken,
        "redelivery_s": {
            "clean": len(clean),
            "median": round(quantile(clean, 0.5), 3) if clean else None,
            "longest": round(max(clean), 3) if clean else None,
            "amid_other_trouble": len(outcome.redeliveries) - len(clean),
        },
        "violations": Counter(each.promise for each in outcome.violations),
    }
    (folder / "report.json").write_text(json.dumps(document, indent=2) + "\n")
    with (folder / "faults.jsonl").open("w") as file:
        for deed in outcome.deeds:
            file.write(json.dumps(asdict(deed)) + "\n")
    with (folder / "violations.jsonl").open("w") as file:
        for violation in outcome.violations:
            entry = {
                "job": violation.job_id,
                "promise": violation.promise,
                "sentence": violation.sentence,
            }
            file.write(json.dumps(entry) + "\n")
