"""What a process writes to its stderr: line by line, bounded, without control characters."""

from __future__ import annotations

import asyncio
import os

from imgserve.worker.pixels.words import LINE_LIMIT_CHARS, LINES_LIMIT, Words


def logged(caplog, data: bytes) -> tuple[list[str], Words]:
    """Write it to a pipe of words; return what was logged."""

    async def scenario() -> Words:
        words = Words("process 7")
        for start in range(0, len(data), 4096):
            os.write(words.writer, data[start : start + 4096])
            await asyncio.sleep(0)
        words.close()
        return words

    words = asyncio.run(scenario())
    return [record.getMessage() for record in caplog.records], words


def test_each_line_is_one_of_the_log(caplog):
    """The last one also without its end, and empty ones are none."""
    lines, words = logged(caplog, b"one\n\n  two\nthree")
    assert lines == [f"process 7 says: {word}" for word in ("one", "two", "three")]
    assert words.last == "three"


def test_no_line_is_made_up(caplog):
    """Control characters and bytes that are no text reach no terminal and begin no line."""
    lines, _ = logged(caplog, b"a\rb\x1b[31mc\x00\xff\xe2\x80\xa8d\n")
    assert lines == ["process 7 says: a?b?[31mc?\N{REPLACEMENT CHARACTER}?d"]


def test_lines_are_bounded(caplog):
    """In number, and the log says that there were more; all of it is read nevertheless."""
    lines, _ = logged(caplog, b"x\n" * 50_000)
    assert len(lines) == LINES_LIMIT + 1
    assert f"more than {LINES_LIMIT} lines" in lines[-1]


def test_length_of_a_line_is_bounded(caplog):
    """Also where its end never comes."""
    lines, _ = logged(caplog, b"x" * 300_000 + b"\n" + b"y" * 100_000)
    assert [line[-LINE_LIMIT_CHARS:] for line in lines] == [
        "x" * LINE_LIMIT_CHARS,
        "y" * LINE_LIMIT_CHARS,
    ]
    assert all(len(line) < LINE_LIMIT_CHARS + 30 for line in lines)
