"""A pixel process, once the template has forked it: lock yourself in, then serve frames."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from imgserve.errors import CodedError, ConfigError, PixelsFailed
from imgserve.picture_warnings import PictureWarning, WarningCollector
from imgserve.worker.pixels import sandbox
from imgserve.worker.pixels.decode import UNREADABLE
from imgserve.worker.pixels.families import Fonts, FontsChanged
from imgserve.worker.pixels.frames import (
    DETAIL_LIMIT_BYTES,
    OK,
    Fate,
    PixelOperation,
    Reply,
    Request,
    pack_warnings,
    result_kind,
)
from imgserve.worker.pixels.operations import OPERATIONS, Tools
from imgserve.worker.pixels.settings import PixelSettings, Role

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
# What `ps` and `top` show; they have the command line of the template. 15 bytes at most.
NAMES = {Role.WORK: b"imgserve-pixels", Role.DRAW: b"imgserve-draw"}
# Address space that is not the job's: what the allocator keeps of earlier jobs, and gaps.
MEMORY_MARGIN_BYTES = 192 * 1024 * 1024
# resvg recurses over nested groups: 200 to 400 of them overflow the usual 8 MB.
STACK_BYTES = 256 * 1024 * 1024
EXIT_NO_SANDBOX = 3
# Up to this many bytes of a result go out together with their header: one copy more is cheaper than
# a second system call, which may wake the worker for the header alone.
JOIN_LIMIT_BYTES = 64 * 1024
STATUS_BYTES = 4096
PEAK = re.compile(rb"^VmPeak:\s+(\d+) kB", re.MULTILINE)
# How Pillow's decoders say that they got no memory.
OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|cannot allocate", re.IGNORECASE)


def run(role: Role, tools: Tools) -> int:
    """Lock, say hello on descriptor 0, serve until the worker closes its end."""
    link = socket.socket(fileno=0)
    threading.stack_size(STACK_BYTES)
    ctypes.CDLL(None).prctl(PR_SET_NAME, NAMES[role], 0, 0, 0)
    memory = AddressSpace.of_this_process()
    try:
        report = sandbox.lock(
            memory_limit_bytes=tools.settings.memory_limit_bytes,
            readable=tools.fonts.files,
            require=tools.settings.require_sandbox,
        )
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_NO_SANDBOX
    tools = with_readable_fonts(tools, report)
    hello = json.dumps(report).encode()
    server = threading.Thread(target=serve, args=(link, role, tools, hello, memory), name="pixels")
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
    """The address space of this process, read through descriptors that outlive the lock."""

    statm: int
    status: int

    @classmethod
    def of_this_process(cls) -> AddressSpace:
        """Open what a locked process cannot."""
        flags = os.O_RDONLY | os.O_CLOEXEC
        return cls(os.open("/proc/self/statm", flags), os.open("/proc/self/status", flags))

    def size_bytes(self) -> int:
        """Return what the process holds now, the allocator's leftovers included."""
        pages = os.pread(self.statm, 32, 0).split()[0]
        return int(pages) * resource.getpagesize()

    def peak_bytes(self) -> int:
        """Return the most that the process has held."""
        found = PEAK.search(os.pread(self.status, STATUS_BYTES, 0))
        return int(found[1]) * 1024 if found else 0


def serve(
    link: socket.socket, role: Role, tools: Tools, hello: bytes, memory: AddressSpace
) -> None:
    """Send hello, then answer one request after the other until the stream ends.

    A job's limit counts from what the process holds when the job begins. Counted from the start of
    the process, what the allocator kept of one large job would be missing in every later one.
    """
    send(link, Reply.hello(hello), hello)
    fresh_bytes = memory.size_bytes()
    fonts_bytes = tools.fonts.largest_bytes
    jobs = 0
    while header := link.recv(Request.FORMAT.size, socket.MSG_WAITALL):
        asked = Request.unpack(header)
        data = link.recv(asked.size_bytes, socket.MSG_WAITALL) if asked.size_bytes else b""
        if len(data) < asked.size_bytes:
            return
        limit_cpu(tools.settings)
        limit_bytes = limit_memory(
            memory.size_bytes() + MEMORY_MARGIN_BYTES + asked.memory_bytes + fonts_bytes
        )
        started_s = time.perf_counter()
        answer = perform(data, asked, role, tools)
        del data
        if answer.status == OK and asked.operation is PixelOperation.RASTERIZE:
            answer = hold_against_peak(answer, asked, memory, limit_bytes - fonts_bytes)
        seconds = time.perf_counter() - started_s
        jobs += 1
        worn = (
            jobs >= tools.settings.process_jobs
            or memory.size_bytes() - fresh_bytes > tools.settings.process_growth_bytes
        )
        warnings = pack_warnings(answer.warnings)
        reply = Reply(
            status=answer.status,
            kind=result_kind(asked),
            width_px=asked.width_px,
            height_px=asked.height_px,
            seconds=seconds,
            size_bytes=len(answer.data),
            fate=fate_after(answer, first=jobs == 1, worn=worn),
            warnings_bytes=len(warnings),
        )
        send(link, reply, answer.data + warnings)


def hold_against_peak(
    answer: Answer, asked: Request, memory: AddressSpace, bound_bytes: int
) -> Answer:
    """Take no picture for whole in which a font may not have been mapped.

    The renderer leaves the text out then, and says nothing. It cannot have happened as long as the
    process never held so much that the largest font no longer fitted below the limit.
    """
    return answer if memory.peak_bytes() <= bound_bytes else lacking_memory(asked)


@dataclass(slots=True)
class Answer:
    """A result, or a code with its sentence, and what it says about the process."""

    status: int
    data: bytes
    warnings: Iterable[PictureWarning] = ()
    # What was tried may have been left half done.
    broken: bool = False
    # A process that has done nothing before may answer otherwise.
    lacked_memory: bool = False
    fonts_changed: bool = False


def fate_after(answer: Answer, *, first: bool, worn: bool) -> Fate:
    """Say what becomes of the process."""
    if answer.fonts_changed or (answer.lacked_memory and not first):
        return Fate.RETIRE_AND_RETRY
    if answer.lacked_memory or answer.broken or worn:
        return Fate.RETIRE
    return Fate.KEEP


def perform(data: bytes, asked: Request, role: Role, tools: Tools) -> Answer:
    """Do the job; turn each failure into a code and a sentence."""
    try:
        require_role(role, asked.operation)
        warnings = WarningCollector()
        result = OPERATIONS[asked.operation](data, asked, tools, warnings)
        return Answer(OK, result, warnings)
    except CodedError as exc:
        return Answer(exc.code, detail_bytes(exc.detail), lacked_memory=says_no_memory(exc))
    except FontsChanged as exc:
        return Answer(PixelsFailed.code, detail_bytes(str(exc)), fonts_changed=True)
    except UNREADABLE as exc:  # MemoryError among them
        if isinstance(exc, MemoryError) or says_no_memory(exc):
            return lacking_memory(asked)
        detail, broken = f"the image could not be decoded: {exc}", False
    except Exception as exc:  # noqa: BLE001
        # A fault of this program, not of the image; still only this job may suffer from it.
        sys.excepthook(type(exc), exc, exc.__traceback__)
        detail, broken = f"the image could not be processed: {type(exc).__name__}", True
    return Answer(PixelsFailed.code, detail_bytes(detail), broken=broken)


def require_role(role: Role, operation: PixelOperation) -> None:
    """Keep the process that draws away from all that a stranger sent."""
    if (role is Role.DRAW) != (operation is PixelOperation.PLACEHOLDER):
        raise RuntimeError(f"{operation.name} was asked of a process for {role.name}")


def says_no_memory(exc: Exception) -> bool:
    """Tell whether a library says in words that an allocation failed."""
    return OUT_OF_MEMORY.search(str(exc)) is not None


def lacking_memory(asked: Request) -> Answer:
    """Answer that the memory was not enough; libraries keep what was left half made."""
    limit_mb = asked.memory_bytes // 1_000_000
    detail = f"the image needs more than the {limit_mb} MB of memory allowed"
    return Answer(PixelsFailed.code, detail_bytes(detail), lacked_memory=True)


def detail_bytes(detail: str) -> bytes:
    """Fit a sentence into the limit of a frame."""
    return detail.encode("utf-8", "replace")[:DETAIL_LIMIT_BYTES]


def limit_cpu(settings: PixelSettings) -> None:
    """Give the next job twice its wall time of CPU, in case nobody is left to kill this process."""
    used_s = sum(os.times()[:2])
    limit_s = int(used_s + 2 * settings.pixel_timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, resource.RLIM_INFINITY))


def limit_memory(size_bytes: int) -> int:
    """Let the next job take so much address space, all else in the process included.

    Returns: the limit that is in force.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit_bytes = size_bytes if hard == resource.RLIM_INFINITY else min(size_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard))
    return limit_bytes


def send(link: socket.socket, reply: Reply, data: bytes) -> None:
    """Write one frame."""
    if len(data) <= JOIN_LIMIT_BYTES:
        link.sendall(reply.pack() + data)
    else:
        link.sendall(reply.pack())
        link.sendall(data)
