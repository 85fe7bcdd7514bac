"""Fuzz the parsers that read what strangers wrote, each in this process, for some minutes.

`scripts/fuzz TARGET --minutes N`. With atheris (a coverage-guided fuzzer, `pip install atheris`)
inputs are grown towards new branches; without it Hypothesis makes them. What is found is written
to `--corpus DIR` as `crash-…`. A target may raise only the errors that its callers expect, and may
not take longer than a second for 64 kB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

try:
    import atheris
except ImportError:  # optional, and not made for every version of Python
    atheris = None

with atheris.instrument_imports(include=["imgserve"]) if atheris else contextlib.nullcontext():
    from imgserve.errors import CodedError, ProtocolError, RequestUnparsable
    from imgserve.protocol.codec import EVENTS, JOBS, LANE, REPORTS, decode_event
    from imgserve.request import parse
    from imgserve.worker.pixels.head import read_head
    from imgserve.worker.pixels.memory import of_resize
    from imgserve.worker.pixels.settings import PixelSettings
    from imgserve.worker.pixels.svg import clean_svg
    from imgserve.worker.transfers.form import find_form

from tests.protocol.test_golden import GOLDEN
from tests.support import images
from tests.support.hostile_images import svg_of

INPUT_LIMIT_BYTES: Final = 64 * 1024
SLOW_S: Final = 1.0
SETTINGS: Final = PixelSettings(processes=1)


def codec(data: bytes) -> None:
    """Decode a frame as every socket would; what is decoded must encode and decode to itself."""
    for socket in (JOBS, REPORTS, LANE, EVENTS):
        try:
            message = socket.decode(data)  # type: ignore[attr-defined]
        except ProtocolError:
            continue
        again = socket.decode(socket.encode(message))  # type: ignore[attr-defined]
        if repr(again) != repr(message):  # by text, for NaN is not equal to itself
            raise AssertionError(f"{message} became {again}")
    try:
        decode_event(data)
    except ProtocolError:
        pass


def svg(data: bytes) -> None:
    """Clean an SVG; the result must be clean, and cleaning it again must change nothing."""
    try:
        first = clean_svg(data, SETTINGS)
    except CodedError:
        return
    second = clean_svg(first.text.encode(), SETTINGS)
    if second.text != first.text:
        raise AssertionError(f"cleaning twice gave {second.text!r}, once {first.text!r}")


def head(data: bytes) -> None:
    """Read a head; what is said of a prefix must be said of the whole."""
    try:
        whole = read_head(data, complete=True)
    except CodedError:
        whole = None
    of_resize(data, 10, 10)
    for size in (16, len(data) // 2, len(data)):
        try:
            part = read_head(data[:size], complete=False)
        except CodedError:
            continue
        if part is not None and part != whole:
            raise AssertionError(f"{part} of {size} bytes, {whole} of {len(data)}")


def form(data: bytes) -> None:
    """Look for a form; nothing may be raised."""
    find_form(data, "utf-8", "http://example.com/page", "f")


def request(data: bytes) -> None:
    """Parse a request; what passes must resolve to URLs without control characters."""
    try:
        parsed = parse(data)
    except (CodedError, RequestUnparsable):
        return
    if any(ord(letter) < 0x20 for letter in parsed.src_url + parsed.destination.url):
        raise AssertionError(parsed)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    each.__name__: each for each in (codec, svg, head, form, request)
}


def seeds(target: str) -> list[bytes]:
    """Return good inputs to begin with."""
    body = '<g style="fill:url(#a)"><image href="{}"/><text>a</text></g><style>@import "a";</style>'
    url = "data:image/png;base64,iVBORw0KGgo="
    good = {
        "srcURL": "http://a/b.png?x#y",
        "dstURL": "http://a/{$width}.png",
        "operationType": "resize",
        "args": {"width": 1, "height": 1, "method": "PUT"},
    }
    return {
        "codec": [bytes.fromhex(frame) for _, _, frame in GOLDEN],
        "svg": [svg_of(body.format(url), before="<!DOCTYPE svg [<!ENTITY a 'b'>]>")],
        "head": [images.png(), images.gif(), images.jpeg(), images.oriented("JPEG", 6)],
        "form": [b"<!-- --><form method=post action=a><input type=file name='f'></form>"],
        "request": [json.dumps(good).encode()],
    }[target]


def timed(work: Callable[[bytes], None], counter: list[int]) -> Callable[[bytes], None]:
    """Count inputs, and take slowness for a fault."""

    def run(data: bytes) -> None:
        counter[0] += 1
        began_s = time.process_time()
        work(data)
        spent_s = time.process_time() - began_s
        if spent_s > SLOW_S:
            raise AssertionError(f"{len(data)} bytes took {spent_s:.1f} s")

    return run


def by_atheris(target: str, minutes: float, corpus: Path) -> None:
    """Let libFuzzer drive; it ends the process by itself."""
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = [
        sys.argv[0], str(corpus), f"-max_total_time={int(60 * minutes)}", "-timeout=20",
        f"-max_len={INPUT_LIMIT_BYTES}", f"-artifact_prefix={corpus}/", "-rss_limit_mb=2048",
    ]  # fmt: skip
    atheris.Setup(words, timed(TARGETS[target], [0]))
    atheris.Fuzz()


def by_hypothesis(target: str, minutes: float, corpus: Path) -> int:
    """Change good inputs at random places until the time is over."""
    from hypothesis import HealthCheck, given, settings  # noqa: PLC0415 (only here)
    from hypothesis import strategies as some  # noqa: PLC0415

    counter, end_s = [0], time.monotonic() + 60 * minutes
    run = timed(TARGETS[target], counter)
    change = some.tuples(some.integers(0, 5000), some.integers(0, 9), some.binary(max_size=12))

    @settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(some.sampled_from(seeds(target)), some.lists(change, max_size=20))
    def drive(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        data = seed
        for at, size, new in changes:
            place = at % (len(data) + 1)
            data = data[:place] + new + data[place + size :]
        try:
            run(data)
        except Exception:
            (corpus / "crash-hypothesis").write_bytes(data)
            raise

    while time.monotonic() < end_s:
        drive()
    print(f"{target}: {counter[0]} inputs in {minutes:g} minutes, nothing found")
    return 0


def main(words: Sequence[str]) -> int:
    """Fuzz until the time is over; a fault ends it with a trace and exit code 1 or more."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--corpus", type=Path, help="kept between runs; else a temporary folder")
    parser.add_argument("--hypothesis", action="store_true", help="also where atheris is installed")
    given = parser.parse_args(words)
    corpus = given.corpus or Path(tempfile.mkdtemp(prefix="imgserve-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    print(f"corpus in {corpus}", flush=True)
    if given.hypothesis or atheris is None:
        return by_hypothesis(given.target, given.minutes, corpus)
    by_atheris(given.target, given.minutes, corpus)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
