"""Fork a sibling: a copy of this process whose parent is this process's own parent.

The worker can then wait for a pixel process that the template made, and the kernel ends that
process with the worker and not with the template. `os.fork` takes no flags, hence the system call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from pathlib import Path

from imgserve.errors import ConfigError

CLONE_PARENT = 0x00008000
# The number of clone in asm/unistd.h; its first argument is the flags on all of these.
CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "loongarch64": 220, "ppc64le": 120}


def require_machine() -> int:
    """Give the number of clone on this machine.

    Raises:
        ConfigError: when it is not known.
    """
    machine = platform.machine()
    if machine not in CLONE:
        raise ConfigError(
            f"pixel processes cannot be made on {machine}; {', '.join(CLONE)} are supported"
        )
    return CLONE[machine]


def fork_sibling() -> int:
    """Fork; return the new process's id, and 0 in the new process.

    The caller must have one thread, as with every fork. glibc's own fork would besides lock its
    allocator, which one thread need not, and run handlers that libraries registered; none of those
    that the template loads registers any.

    Raises:
        OSError: when the system has no process or memory left.
        RuntimeError: when there is more than one thread.

    Source: clone(2), CLONE_PARENT; Python/C API, PyOS_BeforeFork.
    """
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("a process with several threads must not fork")
    number = require_machine()
    # PyDLL keeps the interpreter's lock over the call; CDLL would let go of it.
    libc = ctypes.PyDLL(None, use_errno=True)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(libc.syscall(number, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    problem = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(problem, os.strerror(problem))
    return pid
