"""The main program of a pixel process: lock yourself in, then serve frames from descriptor 0.

Started by the pool as `python -m imgserve.worker.pixels.process SETTINGS PARENT`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace

from imgserve.errors import CodedError, ConfigError, PixelsFailed
from imgserve.worker.pixels import sandbox
from imgserve.worker.pixels.decode import UNREADABLE
from imgserve.worker.pixels.families import Fonts, load_fonts
from imgserve.worker.pixels.frames import (
    DETAIL_LIMIT_BYTES,
    OK,
    Reply,
    Request,
    result_kind,
)
from imgserve.worker.pixels.operations import OPERATIONS, Tools, warm_up
from imgserve.worker.pixels.settings import PixelSettings

PR_SET_PDEATHSIG = 1
# Address space that is not the job's: what the allocator keeps of earlier jobs, and gaps.
MEMORY_MARGIN_BYTES = 192 * 1024 * 1024
# resvg recurses over nested groups: 200 to 400 of them overflow the usual 8 MB.
STACK_BYTES = 256 * 1024 * 1024
# A process that keeps more than this after a job is replaced: it holds memory that others need, and
# a fresh one is the same for every job. A large photo leaves 64 MB (child.py).
GROWTH_LIMIT_BYTES = 160 * 1024 * 1024
EXIT_NO_SANDBOX = 3
# Up to this many bytes of a result go out together with their header: one copy more is cheaper than
# a second system call, which may wake the worker for the header alone.
JOIN_LIMIT_BYTES = 64 * 1024


def main(settings: PixelSettings, parent: int) -> int:
    """Warm up, lock, say hello, serve until the worker closes its end."""
    die_with(parent)
    # A terminal and a service's stop signal reach the whole group; the worker decides when its
    # children end, so that a drain can finish its jobs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    link = socket.socket(fileno=0)
    threading.stack_size(STACK_BYTES)
    tools = Tools(settings, load_fonts(settings.font_dirs))
    warm_up(tools)
    # Opened now: a locked process cannot.
    memory = AddressSpace(os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC))
    try:
        report = sandbox.lock(
            memory_limit_bytes=settings.memory_limit_bytes,
            readable=tools.fonts.files,
            require=settings.require_sandbox,
        )
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_NO_SANDBOX
    tools = with_readable_fonts(tools, report)
    hello = json.dumps(report).encode()
    server = threading.Thread(target=serve, args=(link, tools, hello, memory), name="pixels")
    server.start()
    server.join()
    return 0


def with_readable_fonts(tools: Tools, report: sandbox.Report) -> Tools:
    """Leave the fonts out where seccomp alone locks, for then no file can be opened at all.

    resvg would drop text silently; without fonts an SVG with text is refused.
    """
    if report["landlock_files"] is True or report["seccomp"] is not True:
        return tools
    return replace(tools, fonts=Fonts((), {}))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the worker's thread that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(0)


@dataclass(slots=True)
class AddressSpace:
    """The address space of this process, read through a descriptor that outlives the lock."""

    descriptor: int

    def size_bytes(self) -> int:
        """Return what the process holds now, the allocator's leftovers included."""
        pages = os.pread(self.descriptor, 32, 0).split()[0]
        return int(pages) * resource.getpagesize()


def serve(link: socket.socket, tools: Tools, hello: bytes, memory: AddressSpace) -> None:
    """Send hello, then answer one request after the other until the stream ends.

    A job's limit counts from what the process holds when the job begins. Counted from the start of
    the process, what the allocator kept of one large job would be missing in every later one: font
    files fail to map then, and resvg leaves out the text.
    """
    send(link, Reply.hello(hello), hello)
    fresh_bytes = memory.size_bytes()
    while header := link.recv(Request.FORMAT.size, socket.MSG_WAITALL):
        asked = Request.unpack(header)
        data = link.recv(asked.size_bytes, socket.MSG_WAITALL) if asked.size_bytes else b""
        if len(data) < asked.size_bytes:
            return
        limit_cpu(tools.settings)
        held_bytes = memory.size_bytes()
        limit_memory(held_bytes + MEMORY_MARGIN_BYTES + asked.memory_bytes)
        started_s = time.perf_counter()
        status, result, broken = perform(data, asked, tools)
        del data
        grown_bytes = memory.size_bytes() - fresh_bytes
        reply = Reply(
            status=status,
            kind=result_kind(asked),
            width_px=asked.width_px,
            height_px=asked.height_px,
            seconds=time.perf_counter() - started_s,
            size_bytes=len(result),
            retiring=broken or grown_bytes > GROWTH_LIMIT_BYTES,
        )
        send(link, reply, result)


def perform(data: bytes, asked: Request, tools: Tools) -> tuple[int, bytes, bool]:
    """Do the job; turn each failure into a code and a sentence.

    Returns: status, result or sentence, and whether the process may be left in a bad state.
    """
    broken = False
    try:
        operation = OPERATIONS[asked.operation]
        return OK, operation(data, asked, tools), broken
    except CodedError as exc:
        return exc.code, detail_bytes(exc.detail), broken
    except MemoryError:
        # Libraries keep what a failed allocation left half made.
        broken = True
        limit_mb = asked.memory_bytes // 1_000_000
        detail = f"the image needs more than the {limit_mb} MB of memory allowed"
    except UNREADABLE as exc:
        detail = f"the image could not be decoded: {exc}"
    except Exception as exc:  # noqa: BLE001
        # A fault of this program, not of the image; still only this job may suffer from it.
        sys.excepthook(type(exc), exc, exc.__traceback__)
        detail = f"the image could not be processed: {type(exc).__name__}"
        broken = True
    return PixelsFailed.code, detail_bytes(detail), broken


def detail_bytes(detail: str) -> bytes:
    """Fit a sentence into the limit of a frame."""
    return detail.encode("utf-8", "replace")[:DETAIL_LIMIT_BYTES]


def limit_cpu(settings: PixelSettings) -> None:
    """Give the next job twice its wall time of CPU, in case nobody is left to kill this process."""
    used_s = sum(os.times()[:2])
    limit_s = int(used_s + 2 * settings.pixel_timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, resource.RLIM_INFINITY))


def limit_memory(size_bytes: int) -> None:
    """Let the next job take so much address space, all else in the process included."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (min(size_bytes, hard), hard))


def send(link: socket.socket, reply: Reply, data: bytes) -> None:
    """Write one frame."""
    if len(data) <= JOIN_LIMIT_BYTES:
        link.sendall(reply.pack() + data)
    else:
        link.sendall(reply.pack())
        link.sendall(data)


if __name__ == "__main__":
    # Nothing is worth tearing down: leave without running what an image may have left behind.
    os._exit(main(PixelSettings.from_json(sys.argv[1]), int(sys.argv[2])))
