"""`imgserve submit`: JSON Lines in, JSON Lines out, over the native client."""

from __future__ import annotations

import argparse
import codecs
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

from imgserve.client import Client, Outcome
from imgserve.commands.exit_codes import CommandFailed, ExitCode
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.parser import Command
from imgserve.commands.progress import Progress
from imgserve.config import Settings
from imgserve.errors import ServiceUnavailable

DESCRIPTION: Final = """\
Submit a request per line of FILE (- is standard input) and print an outcome per line as each job
ends, with the number of its input line. Requests have the keys of the JSON that POST / takes.
A progress bar is shown when standard error is a terminal. The exit code is 1 when a job failed.

examples:
  imgserve submit requests.jsonl > outcomes.jsonl
  generate | imgserve submit - --window 2000 --connection /srv/imgserve/connection.json
  imgserve submit --name monday requests.jsonl     again: jobs that are done are not done twice"""

HELLO_TIMEOUT_S: Final = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FILE, --window, --name and the settings that say where the broker is."""
    parser.add_argument("file", metavar="FILE", help="JSON Lines; - is standard input")
    parser.add_argument(
        "--window", type=int, default=1000, metavar="N", help="jobs under way (default: 1000)"
    )
    parser.add_argument(
        "--name",
        metavar="TEXT",
        help="names the batch: the same name and line again is the same job, for as long as the "
        "broker remembers it (default: a new name each time)",
    )
    add_settings(parser, ["connection", "state", "key"])


def run(namespace: argparse.Namespace) -> int:
    """Submit every line; return JOBS_FAILED when at least one is not done.

    Raises: CommandFailed when the file or the broker cannot be reached.
    """
    settings = settings_from(namespace)
    if namespace.window < 1:
        raise CommandFailed("--window must be at least 1", ExitCode.USAGE)
    name = namespace.name or os.urandom(8).hex()
    with ExitStack() as stack:
        lines, total = _open(namespace.file, stack)
        client = stack.enter_context(connect(settings))
        return _submit(client, lines, name, namespace.window, total)


def requests(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Number the lines from 1 and name their jobs; blank lines count but are no requests.

    Editors put a byte order mark before the first line (RFC 8259, 8.1, lets readers ignore it).

    Raises: CommandFailed when the mark is that of another encoding.
    """
    for number, line in enumerate(lines, start=1):
        if number == 1:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise CommandFailed(
                    "the input is UTF-16, by its byte order mark; save it as UTF-8", ExitCode.USAGE
                )
            line = line.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901 (the rest of the line)
        if line.strip():
            yield f"{name}-{number}", line.strip()


def shown(outcome: Outcome) -> dict[str, Any]:
    """Return the output line of an outcome."""
    document: dict[str, Any] = {
        "line": int(outcome.id.rpartition("-")[2]),
        "id": outcome.id,
        "state": str(outcome.state),
        "dstURL": outcome.dst_url,
    }
    if outcome.state == "done":
        sizes = {"width": outcome.width_px, "height": outcome.height_px}
        return (
            document
            | sizes
            | {
                "bytes": outcome.size_bytes,
                "seconds": dict(outcome.seconds),
                "warnings": [warning.as_json() for warning in outcome.warnings],
            }
        )
    return document | {"code": outcome.code, "detail": outcome.detail}


def _submit(
    client: Client, lines: Iterable[bytes], name: str, window: int, total: int | None
) -> int:
    counts: Counter[str] = Counter()
    warned = 0
    began_s = time.monotonic()
    with Progress(total) as progress:
        for outcome in client.map(requests(lines, name), window=window):
            counts[str(outcome.state)] += 1
            warned += bool(outcome.warnings)
            print(json.dumps(shown(outcome)), flush=True)
            progress.show(counts)
    took_s = time.monotonic() - began_s
    summary = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    warnings = f" ({warned} of them with warnings)" if warned else ""
    print(f"imgserve: {summary or 'no requests'}{warnings} in {took_s:.1f} s", file=sys.stderr)
    return ExitCode.OK if counts.total() == counts["done"] else ExitCode.JOBS_FAILED


def _open(file: str, stack: ExitStack) -> tuple[BinaryIO, int | None]:
    """Open the input; count its lines when it can be read twice."""
    if file == "-":
        return sys.stdin.buffer, None
    try:
        lines = stack.enter_context(Path(file).open("rb"))  # noqa: SIM115 (the stack closes it)
    except OSError as exc:
        raise CommandFailed(f"{file}: {exc.strerror}", ExitCode.NO_INPUT) from exc
    if not lines.seekable():
        return lines, None
    total = sum(1 for line in lines if line.strip())
    lines.seek(0)
    return lines, total


def connect(settings: Settings) -> Client:
    """Return a client that has heard from the broker."""
    connection_file = settings.connection_file
    if not connection_file.exists():
        raise CommandFailed(
            f"{connection_file}: there is no such file, so no broker runs there; start one with "
            "`imgserve start`, or name its file with --connection",
            ExitCode.NO_INPUT,
        )
    client = Client(settings)
    try:
        client.stats(timeout_s=HELLO_TIMEOUT_S)
    except ServiceUnavailable:
        client.close()
        raise CommandFailed(
            f"the broker of {connection_file} does not answer", ExitCode.UNAVAILABLE
        ) from None
    return client


COMMAND: Final = Command(
    "submit", "submit a file of requests, one per line", DESCRIPTION, add_arguments, run, "FILE|-"
)
