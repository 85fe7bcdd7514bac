"""Run chaos: `scripts/chaos --minutes N --seed S`; docs/chaos.md says how to read the outcome."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from scripts.chaos_lib.catalog import versions
from scripts.chaos_lib.faults import Faults
from scripts.chaos_lib.judgement import Judgement, judge
from scripts.chaos_lib.plan import draw
from scripts.chaos_lib.report import print_report, write_report
from scripts.chaos_lib.service import Scale, Service
from scripts.chaos_lib.timeline import Mark
from scripts.chaos_lib.timeline import draw as draw_timeline

WARM_UP_S: Final = 2.0
"""Work flows before the first fault comes."""

CALM_S: Final = 1.0


def main() -> int:
    """Run, judge, report; 0 when every promise was kept."""
    words = _arguments()
    console = Console(highlight=False, soft_wrap=True)
    try:
        return asyncio.run(_run(words, console))
    except KeyboardInterrupt:
        console.print("stopped; every process that it started has been ended")
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults come")
    parser.add_argument("--seed", type=int, default=1, help="draws faults, jobs and crash points")
    parser.add_argument("--rate", type=float, default=30.0, help="jobs a second")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lease-s", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path("chaos-output"), help="emptied first")
    return parser.parse_args()


async def _run(words: argparse.Namespace, console: Console) -> int:
    folder = words.out.absolute()
    _make_empty(folder)
    scale = Scale(seed=words.seed, rate=words.rate, workers=words.workers, lease_s=words.lease_s)
    catalog = await versions()
    duration_s = words.minutes * 60
    plan = draw(seed=words.seed, duration_s=duration_s, workers=scale.names, lease_s=words.lease_s)
    service = Service(folder, scale)
    faults = Faults(service, plan, seed=words.seed)
    begin_s = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
    ) as progress:
        task = progress.add_task("starting", total=duration_s, figures="")
        watcher = asyncio.create_task(_show(progress, task, service, faults))
        try:
            codes = await _live(
                service, faults, lambda text: progress.update(task, description=text)
            )
        finally:
            watcher.cancel()
            await service.kill()
    end_s = time.monotonic()
    outcome = judge(service, catalog, faults.deeds, codes)
    _plot(folder, words, outcome, begin_s, end_s)
    write_report(folder, outcome, vars(words), end_s - begin_s)
    print_report(console, outcome, folder, scale.lease_s)
    return 1 if outcome.violations else 0


def _make_empty(folder: Path) -> None:
    """Empty the folder, if it is of an earlier run; never one with other things in it."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "trace.jsonl").exists():
            sys.exit(f"{folder} is not empty and of no earlier run: name another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trace.jsonl").touch()


async def _live(service: Service, faults: Faults, say: Any) -> dict[str, int | None]:
    await service.start()
    say("warming up")
    await asyncio.sleep(WARM_UP_S)
    say("chaos")
    await faults.run()
    say("coming to rest")
    await asyncio.sleep(CALM_S)
    await service.rest()
    say("draining")
    return await service.drain()


async def _show(progress: Progress, task: Any, service: Service, faults: Faults) -> None:
    begin_s, tails = time.monotonic(), dict.fromkeys(service.ledgers, 0)
    begun = done = 0
    while True:
        await asyncio.sleep(1)
        for path, offset in tails.items():
            if path.exists():
                with path.open("rb") as file:
                    file.seek(offset)
                    news = file.read()
                tails[path] = offset + len(news)
                begun += news.count(b'"what": "submit"')
                done += news.count(b'"state": "done"')
        kills = sum(deed.kind == "kill" for deed in faults.deeds)
        figures = f"{begun} jobs, {done} said done, {kills} kills, {len(faults.deeds)} faults"
        progress.update(task, completed=time.monotonic() - begin_s, figures=figures)


def _plot(
    folder: Path, words: argparse.Namespace, outcome: Judgement, begin_s: float, end_s: float
) -> None:
    marks = [Mark(deed.row, deed.begin_s - begin_s, deed.end_s - begin_s) for deed in outcome.deeds]
    marks += [Mark("crash point", t - begin_s, t - begin_s) for t in outcome.crash_times]
    done_s = []
    for history in outcome.histories.values():
        first = next((t for t, state, _ in history.told() if state == "done"), None)
        done_s += [] if first is None else [first - begin_s]
    title = (
        f"imgserve under chaos: seed {words.seed}, {words.workers} workers, "
        f"{len(outcome.histories)} jobs, {sum(outcome.kills.values())} kills, "
        f"{len(outcome.violations)} violations"
    )
    svg = draw_timeline(title=title, done_s=done_s, marks=marks, duration_s=end_s - begin_s)
    (folder / "timeline.svg").write_text(svg)


if __name__ == "__main__":
    sys.exit(main())
