"""A seccomp filter that allows a list of system calls and answers all others with EPERM."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PR_GET_SECCOMP, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 21, 22, 2
KILL_PROCESS, RETURN_ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000

# linux/bpf_common.h: load a word, jumps, return.
LOAD, JUMP_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
# struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits, little-endian.
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16

CLONE_THREAD = 0x00010000
# O_WRONLY, O_RDWR, O_CREAT, O_TRUNC; the same on both architectures.
WRITING_FLAGS = 0o1 | 0o2 | 0o100 | 0o1000
F_GETFD, F_SETFD, F_GETFL = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture: its audit number, and the numbers of the calls, by name."""

    audit: int
    calls: dict[str, int]


# asm/unistd_64.h and asm-generic/unistd.h.
MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        {
            "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10,
            "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
            "pread64": 17, "readv": 19, "writev": 20, "access": 21, "sched_yield": 24, "mremap": 25,
            "madvise": 28, "getpid": 39, "sendto": 44, "recvfrom": 45, "clone": 56, "exit": 60,
            "fcntl": 72, "gettimeofday": 96, "getrusage": 98, "times": 100, "sigaltstack": 131,
            "gettid": 186, "futex": 202, "sched_getaffinity": 204, "clock_gettime": 228,
            "clock_nanosleep": 230, "exit_group": 231, "openat": 257, "newfstatat": 262,
            "set_robust_list": 273, "prlimit64": 302, "getrandom": 318, "membarrier": 324,
            "statx": 332, "rseq": 334, "clone3": 435, "faccessat": 269, "faccessat2": 439,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        {
            "fcntl": 25, "faccessat": 48, "faccessat2": 439, "openat": 56, "close": 57, "lseek": 62,
            "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "newfstatat": 79,
            "fstat": 80, "exit": 93,
            "exit_group": 94, "futex": 98, "set_robust_list": 99, "clock_gettime": 113,
            "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124,
            "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
            "times": 153, "getrusage": 165, "gettimeofday": 169, "getpid": 172, "gettid": 178,
            "sendto": 206, "recvfrom": 207, "brk": 214, "munmap": 215, "mremap": 216,
            "clone": 220, "mmap": 222, "mprotect": 226, "madvise": 233, "prlimit64": 261,
            "getrandom": 278, "membarrier": 283, "statx": 291, "rseq": 293, "clone3": 435,
        },
    ),
}  # fmt: skip

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def supported() -> bool | str:
    """Say whether the filter can be used here: True, or why not."""
    if platform.machine() not in MACHINES:
        return f"no list of system calls for {platform.machine()}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return "the kernel has no seccomp"
    return True


def install(*, files: bool) -> None:
    """Confine this thread, and those it starts from now on; there is no way back.

    Args:
        files: whether files may be opened for reading; Landlock then says which.

    Raises:
        OSError: when the kernel refuses the filter; no_new_privs must be set before.
    """
    program = b"".join(
        struct.pack("=HBBI", *line) for line in build(platform.machine(), files=files)
    )
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a length of 16 bits, then a pointer, aligned to 8.
    filter_ = ctypes.create_string_buffer(
        struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused the seccomp filter")


def build(machine: str, *, files: bool) -> list[Instruction]:
    """Write the filter.

    Numbers of the x32 ABI on x86_64 are in no row, and so get EPERM.
    """
    target = MACHINES[machine]
    calls = dict(target.calls)
    lines = [
        (LOAD, 0, 0, ARCH_AT),
        (JUMP_EQUAL, 1, 0, target.audit),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER_AT),
    ]
    # glibc falls back to clone, whose flags can be read here; those of clone3 are in memory.
    lines += _row(calls.pop("clone3"), [_errno(errno.ENOSYS)])
    lines += _row(calls.pop("clone"), _if_any_bit(0, CLONE_THREAD, ALLOW, _EPERM))
    lines += _row(calls.pop("fcntl"), _if_one_of(1, (F_GETFD, F_SETFD, F_GETFL)))
    # Of other processes' limits: none.
    lines += _row(calls.pop("prlimit64"), _if_one_of(0, (0,)))
    opening = calls.pop("openat")
    if files:
        lines += _row(opening, _if_any_bit(2, WRITING_FLAGS, _EPERM, ALLOW))
    for number in calls.values():
        lines += _row(number, [(RETURN, 0, 0, ALLOW)])
    return [*lines, _errno(errno.EPERM)]


_EPERM = RETURN_ERRNO | errno.EPERM


def _errno(number: int) -> Instruction:
    return (RETURN, 0, 0, RETURN_ERRNO | number)


def _row(number: int, verdict: Sequence[Instruction]) -> list[Instruction]:
    """Run the verdict, which must end the filter, for one call; skip it for others."""
    return [(JUMP_EQUAL, 0, len(verdict), number), *verdict]


def _if_any_bit(argument: int, bits: int, then: int, otherwise: int) -> list[Instruction]:
    return [
        _load(argument),
        (JUMP_ANY_BIT, 0, 1, bits),
        (RETURN, 0, 0, then),
        (RETURN, 0, 0, otherwise),
    ]


def _if_one_of(argument: int, values: Iterable[int]) -> list[Instruction]:
    lines = [_load(argument)]
    for value in values:
        lines += [(JUMP_EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return [*lines, _errno(errno.EPERM)]


def _load(argument: int) -> Instruction:
    # The low half; the kernel takes these arguments as 32 bits.
    return (LOAD, 0, 0, ARGUMENTS_AT + 8 * argument)
