"""`scripts/redteam`: run the attacks one after the other and print what each of them got."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.redteam_lib.attack import Entry

MODULES = ("tokens", "browsers", "connections", "peers", "pictures", "broker", "system")


def main(words: Sequence[str] | None = None) -> int:
    """Run the attacks asked for; return 1 when one of them got through."""
    options = parse(words)
    logging.basicConfig(level=logging.CRITICAL)  # of the servers that attacks need
    if options.checkout:
        use_checkout(options.checkout)
    attacks = load_attacks()
    if options.list:
        for entry in attacks.values():
            print(f"{entry.name:28} {entry.who}: {entry.must_hold}")
        return 0
    unknown = set(options.names) - attacks.keys()
    if unknown:
        print(f"no such attack: {', '.join(sorted(unknown))}; --list names all", file=sys.stderr)
        return 2
    chosen = [attacks[name] for name in options.names or attacks]
    through = 0
    for number, entry in enumerate(chosen, start=1):
        if sys.stderr.isatty():
            print(f"[{number}/{len(chosen)}] {entry.name} …", end="\r", file=sys.stderr)
        through += not report(entry, long=options.long, as_json=options.json)
    if not options.json:
        print(f"{len(chosen) - through} of {len(chosen)} attacks were held off")
    return 1 if through else 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/redteam",
        description="Attack a service that this command starts, through its public interfaces "
        "alone. Exit code 0: everything held; 1: an attack got through.",
    )
    parser.add_argument("names", nargs="*", metavar="ATTACK", help="which ones (default: all)")
    parser.add_argument("--list", action="store_true", help="name the attacks and end")
    parser.add_argument("--long", action="store_true", help="more of each: minutes, not seconds")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each")
    parser.add_argument(
        "--checkout", type=Path, metavar="DIR", help="attack another version of imgserve"
    )
    return parser.parse_args(words)


def use_checkout(folder: Path) -> None:
    """Take the package from elsewhere, and everything else from here."""
    sys.path.insert(0, str(folder.resolve()))
    importlib.import_module("imgserve")
    del sys.path[0]
    # `python -m imgserve` looks into the working folder first.
    os.chdir(folder)


def load_attacks() -> dict[str, Entry]:
    """Import every module of attacks; return the list in their order."""
    for module in MODULES:
        importlib.import_module(f"scripts.redteam_lib.attacks.{module}")
    from scripts.redteam_lib.attack import ATTACKS  # noqa: PLC0415 (after --checkout is in force)

    return ATTACKS


def report(entry: Entry, *, long: bool, as_json: bool) -> bool:
    """Run one attack and print its line; return whether everything held."""
    from scripts.redteam_lib.attack import Arena, Result  # noqa: PLC0415

    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="imgserve-redteam-") as folder:
        try:
            result = entry.run(Arena(Path(folder), long))
        except Exception as exc:  # noqa: BLE001 (one attack that breaks must not hide the others)
            traceback.print_exc()
            result = Result(held=False, figure=f"{type(exc).__name__}: {exc}"[:500])
    took_s = time.monotonic() - began_s
    if as_json:
        line = {"attack": entry.name, "held": result.held, "figure": result.figure}
        print(json.dumps(line | {"seconds": round(took_s, 1)}), flush=True)
    else:
        verdict = "held   " if result.held else "THROUGH"
        print(f"{verdict} {entry.name:28} {result.figure} ({took_s:.0f} s)", flush=True)
    return result.held


if __name__ == "__main__":
    sys.exit(main())
