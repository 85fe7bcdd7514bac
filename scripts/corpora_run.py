"""Run every file of public image corpora through a service, file to file, and count the ends.

`scripts/corpora DIR…`: nothing may crash the worker or hang, whatever the corpus holds. Each
picture is scaled to half its size, or to 1x1 where its size cannot be read; SVGs become 200x200.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from bench_lib.setting import running_service

from imgserve.client import Client, Outcome
from imgserve.errors import SourceUnreadable
from imgserve.request import KIND_OF_EXTENSION
from imgserve.worker.pixels import read_head

LARGEST_PX: Final = 1000
SVG_PX: Final = 200
SLOWEST: Final = 10
LOST: Final = re.compile(r"pixel process \d+ lost with a job: (\w+)")


@dataclass(slots=True)
class Tally:
    """What became of the files of one folder."""

    states: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    slowest: list[tuple[float, str]] = field(default_factory=list)

    def count(self, path: Path, outcome: Outcome) -> None:
        """Count one end, and keep one file as an example of each code."""
        code = f" {outcome.code}" if outcome.code else ""
        state = f"{outcome.state}{code}"
        self.states[state] += 1
        self.details.setdefault(state, f"{path}: {outcome.detail}")
        if outcome.reasons or outcome.code in (402, 405):
            print(f"    {path}: {state} {outcome.detail} {outcome.reasons}", flush=True)
        spent_s = sum(outcome.seconds.values())
        self.slowest = sorted([*self.slowest, (spent_s, str(path))], reverse=True)[:SLOWEST]


def pictures(folder: Path) -> list[Path]:
    """Return the files whose names promise a picture that some operation takes."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if path.suffix[1:].lower() in KIND_OF_EXTENSION]


def request(path: Path, number: int, out: Path) -> dict[str, Any]:
    """Ask for half the size, so that everything has to be decoded."""
    svg = path.suffix.lower() == ".svg"
    width, height = (SVG_PX, SVG_PX) if svg else half(path)
    suffix = ".png" if svg else path.suffix
    return {
        "operationType": "rasterize" if svg else "resize",
        "srcURL": path.as_uri(),
        "dstURL": f"{out.as_uri()}/{number}{suffix}",
        "args": {"width": width, "height": height},
    }


def half(path: Path) -> tuple[int, int]:
    """Return half of a picture's size, as far as its head says one."""
    try:
        head = read_head(path.read_bytes(), complete=True)
    except SourceUnreadable:
        return 1, 1
    if head is None:
        return 1, 1
    return (
        max(1, min(head.width_px // 2, LARGEST_PX)),
        max(1, min(head.height_px // 2, LARGEST_PX)),
    )


def run(folder: Path, client: Client, out: Path) -> Tally:
    """Run one folder's pictures through the service."""
    tally = Tally()
    paths = pictures(folder)
    asked = {f"{folder.name}-{number}": path for number, path in enumerate(paths)}

    def items() -> Iterator[tuple[str, dict[str, Any]]]:
        for number, (job_id, path) in enumerate(asked.items()):
            yield job_id, request(path, number, out)

    for outcome in client.map(items(), window=64):
        tally.count(asked[outcome.id], outcome)
    return tally


def main(words: Sequence[str]) -> int:
    """Print the counts; return 1 where the worker died."""
    parser = argparse.ArgumentParser(prog="scripts/corpora", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--processes", default="2")
    given = parser.parse_args(words)
    folders = [folder.resolve() for folder in given.folders]
    roots = [word for folder in folders for word in ("--file-root", str(folder))]
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        with running_service(top, "--processes", given.processes, *roots) as service:
            before = alive(service.pids)
            with Client(service.connection) as client:
                for folder in folders:
                    out = top / "out" / folder.name
                    show(folder, run(folder, client, out))
            # Pixel processes may be replaced; all others must be the ones that began.
            log = (top / "state" / "imgserve.log").read_text(errors="replace")
            lost = Counter(LOST.findall(log))
            print(f"pixel processes lost: {dict(lost) or 'none'}")
            gone = [process for process in before if not process.is_running()]
            print(f"parts that died: {gone or 'none'}")
            unexpected = log.count("unexpected error") + log.count("Traceback")
            print(f"unexpected errors in the log: {unexpected}")
            return 1 if gone or unexpected else 0


def alive(pids: Sequence[int]) -> list[psutil.Process]:
    """Return the parts, without the pixel processes, which are the worker's children."""
    processes = [psutil.Process(pid) for pid in pids]
    return [each for each in processes if "imgserve.worker.pixels.template" not in each.cmdline()]


def show(folder: Path, tally: Tally) -> None:
    """Print a folder's counts, an example of each code, and the slowest."""
    print(f"{folder.name}: {sum(tally.states.values())} files")
    for state, count in tally.states.most_common():
        example = "" if state == "done" else f"  e.g. {tally.details[state][:200]}"
        print(f"  {count:6d} {state}{example}")
    for spent_s, path in tally.slowest[:3]:
        print(f"  {spent_s:6.2f} s {path}")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
