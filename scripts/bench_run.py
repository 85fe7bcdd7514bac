"""Measure imgserve beside the bare pixel loop, in one run, as ratios.

Each round runs the bare loop and then the service, so that a noisy machine touches both. The table
shows minimum, median and maximum over the rounds; the figures also go to bench-output/bench.json.
A work whose rounds lie too far apart, or one with a failed job, is not reported, and says why.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_lib.outcome import Work, measure
from bench_lib.peers.work import ABOUT, NAME, Peers
from bench_lib.setting import Setting
from bench_lib.works import dispatch, fleet, growth, large, latency, queue, resize, tiny

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "bench-output"
CHARTS = ROOT / "docs" / "charts"

WORKS: dict[str, tuple[str, Work]] = {
    "W1": ("2 MP JPEG to 200x120, HTTP in, placeholder and result PUT out", resize.run),
    "W2": ("durable jobs through the broker, stub worker", dispatch.run),
    "W3": ("64x64 PNG, file to file", tiny.run),
    "W4": ("latency of POST / on an idle service, 250 kB source", latency.run),
    "W5": ("1,000 stub workers", fleet.run),
    "W6": ("a long queue, 1,000,000 jobs with --full", queue.run),
    "W7": ("large pictures and SVG icons, beside the bare loop", large.run),
    "W8": ("growth: cost over many jobs, throughput over pixel processes", growth.run),
}


def main() -> int:
    """Run the works asked for; exit 1 when one has no figures."""
    listing = "\n".join(f"  {name}  {about}" for name, (about, _) in WORKS.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"works:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("works", nargs="*", help="the works to run, by name; default: all")
    parser.add_argument("--full", action="store_true", help="ten times the jobs, for the report")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each work (3)")
    parser.add_argument(
        "--peers",
        action="store_true",
        help="install Celery, thumbor, sharp and pyvips below bench-output and measure them beside "
        "imgserve; where no work is named, nothing else",
    )
    parser.add_argument("--noisy", action="store_true", help="report however noisy it was")
    parser.add_argument(
        "--charts", action="store_true", help="only draw docs/charts from the last run's figures"
    )
    options = parser.parse_args()
    if options.charts:
        return draw_charts()
    names = [name.upper() for name in options.works] or ([] if options.peers else list(WORKS))
    unknown = [name for name in names if name not in WORKS]
    if unknown:
        parser.error(f"there is no work {', '.join(unknown)}; there are {', '.join(WORKS)}")
    if options.peers:
        return run([*names, NAME], options, WORKS | {NAME: (ABOUT, Peers(options.noisy))})
    return run(names, options)


def draw_charts(source: Path = OUTPUT / "bench.json", folder: Path = CHARTS) -> int:
    """Draw the charts of docs/performance.md; return 1 when one is missing."""
    from bench_lib.charts import draw_all  # noqa: PLC0415 (the works need no matplotlib)

    if not source.exists():
        print("there are no figures yet: run scripts/bench --full", file=sys.stderr)
        return 1
    missing = draw_all(source, folder)
    for sentence in missing:
        print(sentence, file=sys.stderr)
    return 1 if missing else 0


def run(
    names: list[str],
    options: argparse.Namespace,
    works: dict[str, tuple[str, Work]] = WORKS,
    output: Path = OUTPUT,
) -> int:
    """Measure works one after the other; what one has told is kept whatever the next one does.

    Args:
        names: the works to run.
        options: full, rounds, noisy.
        works: what they are about and who measures them, by name.
        output: the folder of bench.json; figures there of works that are not run now stay.

    Returns:
        The exit code: 1 when a work has no figures.
    """
    facts = {"full": options.full, "rounds": options.rounds, "cores": len(os.sched_getaffinity(0))}
    document = known(output / "bench.json")
    silent = 0
    with tempfile.TemporaryDirectory(prefix="imgserve-bench-") as folder:
        for name in names:
            about, work = works[name]
            print(f"{name}: {about}", file=sys.stderr)
            place = Path(folder) / name
            place.mkdir()
            setting = Setting(folder=place, rounds=options.rounds, full=options.full)
            outcome = measure(name, about, work, setting, noisy=options.noisy)
            if isinstance(work, Peers):
                outcome = work.completed(outcome)
            outcome.show()
            silent += not outcome.reported
            document[name] = outcome.as_dict() | {"run": facts}
            output.mkdir(exist_ok=True)
            (output / "bench.json").write_text(json.dumps(document, indent=2) + "\n")
    return 1 if silent else 0


def known(path: Path) -> dict[str, Any]:
    """Return what former runs have told, by work; nothing when there is no such file."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    entries = document.items() if isinstance(document, dict) else ()
    return {name: each for name, each in entries if isinstance(each, dict) and "run" in each}


if __name__ == "__main__":
    sys.exit(main())
