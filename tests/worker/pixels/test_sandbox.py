"""What code inside the sandbox can still do: tried from a process that locks itself in."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgserve.errors import ConfigError
from imgserve.worker.pixels import PixelSettings, sandbox, sandbox_report, seccomp
from imgserve.worker.pixels.families import Fonts
from imgserve.worker.pixels.operations import Tools
from imgserve.worker.pixels.process import with_readable_fonts
from tests.support import images

ROOT = Path(__file__).parents[3]

# Everything that the attempts need is imported before the lock, as in a pixel process.
PROLOGUE = """
import ctypes, fcntl, json, os, resource, signal, socket, subprocess, sys, threading, time
from imgserve.worker.pixels import sandbox
font, parent = sys.argv[1], os.getppid()
tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
sandbox.lock(memory_limit_bytes=2**31, readable=[font], require=False)
try:
    result = {attempt}
    print(json.dumps(["done", str(result)]))
except BaseException as exc:
    print(json.dumps([type(exc).__name__, str(exc)]))
sys.stdout.flush()
os._exit(0)
"""

FORBIDDEN = {
    "read a file": "open('/etc/passwd').read()",
    "read through a link": "open('/proc/self/exe', 'rb').read(1)",
    "read its memory map": "open('/proc/self/maps').read()",
    "read the worker's environment": "open(f'/proc/{parent}/environ').read()",
    "write a file": "open('/tmp/imgserve-escape', 'w')",
    "write the font": "open(font, 'a')",
    "write an anonymous file": "os.memfd_create('x')",
    "list a folder": "os.listdir('/etc')",
    "remove a file": "os.unlink(font)",
    "rename a file": "os.rename(font, font + 'x')",
    "make a link": "os.symlink('/etc', '/tmp/imgserve-escape')",
    "make a folder": "os.mkdir('/tmp/imgserve-escape')",
    "change its root": "os.chdir('/')",
    "open a TCP socket": "socket.socket()",
    "open a UDP socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "open a Unix socket": "socket.socket(socket.AF_UNIX)",
    "make a socket pair": "socket.socketpair()",
    "connect a TCP socket it has": "tcp.connect(('127.0.0.1', 1))",
    "bind a TCP socket it has": "tcp.bind(('127.0.0.1', 0))",
    "connect a UDP socket it has": "udp.connect(('127.0.0.1', 9))",
    "fork": "os.fork()",
    "spawn": "subprocess.run(['/bin/true'])",
    "execute": "os.execv('/bin/true', ['true'])",
    "kill the worker": "os.kill(parent, 0)",
    "kill all": "os.kill(-1, 0)",
    "trace the worker": "call('ptrace', 16, parent, 0, 0)",
    "read the worker's memory": "call('process_vm_readv', parent, 0, 0, 0, 0, 0)",
    "raise its limits": "resource.prlimit(parent, resource.RLIMIT_NOFILE, (1, 1))",
    "own a descriptor's signals": "fcntl.fcntl(0, fcntl.F_SETOWN, parent)",
    "mount": "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)",
    "unshare": "call('unshare', 0x10000000)",
    "ask the keyring": "call('syscall', 250, 0, 0, 0, 0, 0)",
    "use io_uring": "call('syscall', 425, 1, 0)",
    "use bpf": "call('syscall', 321, 0, 0, 0)",
}

ALLOWED = {
    "read the font": "open(font, 'rb').read(4)",
    "start a thread": "(t := threading.Thread(target=time.time), t.start(), t.join())",
    "take memory": "len(bytearray(50_000_000))",
    "read the clock": "time.time()",
    "sleep": "time.sleep(0.001)",
    "random bytes": "os.urandom(8)",
}


@pytest.fixture
def font(tmp_path: Path) -> Path:
    """A file that the sandbox leaves readable."""
    path = tmp_path / "font.ttf"
    path.write_bytes(b"font")
    return path


def attempt(expression: str, font: Path, before: str = "") -> tuple[str, str]:
    """Evaluate an expression in a locked process."""
    program = PROLOGUE.replace("{attempt}", expression)
    program = program.replace("sandbox.lock(", f"{before}\nsandbox.lock(", 1)
    done = subprocess.run(  # the program above
        [sys.executable, "-c", program, str(font)],
        cwd=ROOT, capture_output=True, timeout=30, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    kind, text = json.loads(done.stdout)
    return kind, text


def whole() -> bool:
    """Whether this kernel has what the attempts are stopped by."""
    report = sandbox_report()
    return report["seccomp"] is True and report["landlock_files"] is True


needs_kernel = pytest.mark.skipif(not whole(), reason="this kernel lacks Landlock or seccomp")


@needs_kernel
@pytest.mark.parametrize("what", FORBIDDEN)
def test_forbidden(what, font):
    """From inside, this fails with a permission error, and the process lives on to say so."""
    kind, text = attempt(FORBIDDEN[what], font)
    assert kind in ("PermissionError", "OSError"), text
    assert "ermi" in text, text
    assert font.read_bytes() == b"font"


@needs_kernel
@pytest.mark.parametrize("what", ALLOWED)
def test_allowed(what, font):
    """From inside, this works, for decoders and renderers need it."""
    kind, text = attempt(ALLOWED[what], font)
    assert kind == "done", text


EMBEDDED = ("PNG", "GIF", "JPEG", "WEBP", "AVIF", "BMP", "TIFF")
DECODE = """[
    Image.open(io.BytesIO(data), formats=(name,)).convert('RGB').getpixel((9, 9))
    for name, data in files.items()
]"""
# The files come from outside: what the process has not loaded before the lock it cannot decode.
WARM_UP = """
import io
from PIL import Image
from imgserve.worker.pixels.operations import warm_up_decoders
folder = os.path.dirname(font)
files = {name: open(f"{folder}/{name}", "rb").read() for name in NAMES}
warm_up_decoders()
"""


@needs_kernel
def test_every_decoder_works_in_a_locked_process(font):
    """Each of them, with threads where it starts some, as the one of AVIF does."""
    blue_picture = images.Image.new("RGB", (600, 400), (0, 0, 255))
    for name in EMBEDDED:
        (font.parent / name).write_bytes(images.encode(blue_picture, name))
    kind, text = attempt(DECODE, font, WARM_UP.replace("NAMES", repr(EMBEDDED)))
    assert kind == "done", text
    colors = ast.literal_eval(text)
    assert len(colors) == len(EMBEDDED)
    for red, green, blue in colors:
        assert max(red, green) <= 3
        assert blue >= 250


@needs_kernel
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user then")
def test_an_ordinary_user_can_lock_itself_in(font):
    """Neither part of the sandbox needs privileges."""
    font.chmod(0o644)
    for folder in (font.parent, *font.parents[1:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    before = "os.setgroups([]), os.setgid(65534), os.setuid(65534)"
    assert attempt("open(font, 'rb').read(4)", font, before)[0] == "done"
    assert attempt("open('/etc/passwd')", font, before)[0] == "PermissionError"
    assert attempt("os.fork()", font, before)[0] == "PermissionError"


@pytest.mark.parametrize(
    ("landlock_files", "seccomp_", "readable"),
    [(True, True, True), ("missing", "missing", True), ("missing", True, False)],
)
def test_fonts_that_cannot_be_read_are_left_out(landlock_files, seccomp_, readable):
    """Where only seccomp locks no file opens, and text must be refused, not dropped."""
    tools = Tools(PixelSettings(processes=1), Fonts(("/a.ttf",), {"serif": "A"}))
    report = {"landlock_files": landlock_files, "seccomp": seccomp_}
    assert bool(with_readable_fonts(tools, report).fonts.generic) is readable


@needs_kernel
def test_memory_is_limited(font):
    """More memory than the limit is refused, without the kernel's killer."""
    assert attempt("bytearray(2**31)", font)[0] == "MemoryError"


def test_without_landlock_no_file_can_be_opened():
    """The filter for kernels without Landlock has no row for openat."""
    for machine, target in seccomp.MACHINES.items():
        number = target.calls["openat"]
        row = [(seccomp.JUMP_EQUAL, number)]
        with_files = [(line[0], line[3]) for line in seccomp.build(machine, files=True)]
        without = [(line[0], line[3]) for line in seccomp.build(machine, files=False)]
        assert row[0] in with_files
        assert row[0] not in without


def test_no_system_call_twice():
    """Two names of one number would mean that one of them was mistyped."""
    for target in seccomp.MACHINES.values():
        assert len(set(target.calls.values())) == len(target.calls)
    # Calls that the younger architecture never had, such as access, stand in the older's alone.
    assert set(seccomp.MACHINES["x86_64"].calls) >= set(seccomp.MACHINES["aarch64"].calls)


def test_jumps_stay_inside():
    """Every jump of the filter lands on an instruction of it."""
    for machine in seccomp.MACHINES:
        program = seccomp.build(machine, files=True)
        for index, (_, jump_true, jump_false, _) in enumerate(program):
            assert index + 1 + max(jump_true, jump_false) <= len(program) - (
                0 if program[index][0] == seccomp.RETURN else 1
            )


def test_missing_parts_are_told():
    """A kernel without Landlock is told by name; TCP and scopes are closed by seccomp as well."""
    report = {"landlock_files": "none", "landlock_tcp": "none", "seccomp": True}
    assert sandbox.missing_parts(report) == ["landlock_files: none"]
    assert sandbox.missing_parts({**report, "landlock_files": True}) == []


def test_required_sandbox_refuses_a_lesser_kernel(monkeypatch):
    """With require_sandbox a kernel that lacks a part stops the process before it serves."""
    monkeypatch.setattr(sandbox.landlock, "abi", lambda: 0)
    with pytest.raises(ConfigError, match=r"require_sandbox.*landlock_files"):
        sandbox.lock(memory_limit_bytes=2**40, readable=[], require=True)
