"""Frames between the worker and a process that answers as it likes, over a real socket pair."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys

import pytest

from imgserve.errors import ProtocolError
from imgserve.request import ImageKind
from imgserve.worker.pixels.child import SOCKET_BUFFER_BYTES, ChildProcess
from imgserve.worker.pixels.frames import PixelOperation, Request
from imgserve.worker.pixels.settings import PixelSettings
from imgserve.worker.pixels.words import Words

PROGRAM = """
import hashlib, socket, time
from imgserve.request import ImageKind
from imgserve.worker.pixels.frames import OK, Reply, Request
link = socket.socket(fileno=0)
link.sendall(Reply.hello(b"{}").pack() + b"{}")
asked = Request.unpack(link.recv(Request.FORMAT.size, socket.MSG_WAITALL))
time.sleep(0.2)
data = link.recv(asked.size_bytes, socket.MSG_WAITALL)
def frame(result):
    facts = dict(status=OK, kind=ImageKind.PNG, width_px=1, height_px=1, seconds=0.5)
    return Reply(size_bytes=len(result), **facts)
"""


def start(command: list[str], link: socket.socket, words: Words) -> subprocess.Popen:
    """Start a process with this end as its stdin."""
    return subprocess.Popen(command, stdin=link.fileno(), stderr=words.writer)


def call(answer: str, data: bytes = b"") -> bytes:
    """Start a process that runs the answer after it has read its job; return its result."""
    command = [sys.executable, "-c", PROGRAM + answer]

    async def scenario() -> bytes:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        words = Words("a process of the test")
        with theirs:
            process = start(command, theirs, words)
        words.close_writer()
        settings = PixelSettings(processes=1, pixel_timeout_s=20)
        child = ChildProcess(settings, pid=process.pid, link=ours, words=words)
        try:
            await child.ready()
            asked = Request(
                operation=PixelOperation.RESIZE,
                kind=ImageKind.PNG,
                width_px=1,
                height_px=1,
                size_bytes=len(data),
            )
            reply, result, _ = await child.call(asked, data)
            assert reply.size_bytes == len(result)
            return result
        finally:
            await child.close()
            process.returncode = 0  # the child's close has waited for it

    return asyncio.run(scenario())


@pytest.mark.parametrize("size_bytes", [0, 1, 4 * SOCKET_BUFFER_BYTES + 1])
def test_a_job_arrives_whole(size_bytes):
    """Also where the socket takes it in pieces: the process begins to read late."""
    data = os.urandom(size_bytes)
    answer = "link.sendall(frame(b'x' * 32).pack() + hashlib.sha256(data).digest())"
    assert call(answer, data) == hashlib.sha256(data).digest()


def test_a_reply_may_come_in_crumbs():
    """The header byte by byte, the data in three pieces."""
    answer = """
for byte in frame(b"x" * 3).pack() + b"abc":
    link.sendall(bytes([byte]))
    time.sleep(0.005)
"""
    assert call(answer) == b"abc"


def test_a_large_reply_arrives_whole():
    """Its header comes with the first of it."""
    answer = "link.sendall(frame(b'x' * 3_000_000).pack() + b'x' * 3_000_000)"
    assert call(answer) == b"x" * 3_000_000


def test_more_than_was_said_is_refused():
    """What came too much would be taken for the next job's reply."""
    with pytest.raises(ProtocolError, match="1 B more than it said"):
        call("link.sendall(frame(b'xyz').pack() + b'xyz!')")


@pytest.mark.parametrize("said", ["b''", "frame(b'xyz').pack()[:7]", "frame(b'xyz').pack() + b'x'"])
def test_a_process_that_ends_amid_its_reply_is_lost(said):
    """Wherever it ends."""
    with pytest.raises(ConnectionError):
        call(f"link.sendall({said})")
