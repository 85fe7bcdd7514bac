"""Run a command as on a kernel that lacks something: `python lesser_kernel.py LACKS COMMAND…`.

LACKS is `landlock` or `seccomp`. A seccomp filter answers in the kernel's place as one without
them would; whatever the command starts inherits it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path

NO_NEW_PRIVS, GET_SECCOMP, SET_SECCOMP, FILTER = 38, 21, 22, 2
ALLOW, ANSWER = 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16
LANDLOCK_CREATE_RULESET = 444
PRCTL = {"x86_64": 157, "aarch64": 167}

# linux/bpf_common.h: code, jump if true, jump if false, operand.
FILTERS = {
    # Built without CONFIG_SECURITY_LANDLOCK.
    "landlock": [
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_EQUAL, 0, 1, LANDLOCK_CREATE_RULESET),
        (RETURN, 0, 0, ANSWER | errno.ENOSYS),
        (RETURN, 0, 0, ALLOW),
    ],
    # Built without CONFIG_SECCOMP.
    "seccomp": [
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_EQUAL, 0, 3, PRCTL.get(platform.machine(), -1 & 0xFFFFFFFF)),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (JUMP_EQUAL, 0, 1, GET_SECCOMP),
        (RETURN, 0, 0, ANSWER | errno.EINVAL),
        (RETURN, 0, 0, ALLOW),
    ],
}


def launcher(lacks: str) -> tuple[str, ...]:
    """Return what goes before a command line to run it so; `lacks` is one of `FILTERS`."""
    return sys.executable, str(Path(__file__)), lacks


def as_ordinary_user(user: int) -> tuple[str, ...]:
    """Return what goes before a command line to run it as a user with this number (needs root).

    The user may read what root may, for Python itself may lie in root's home; what a sandbox
    could be built with (CAP_SYS_ADMIN) it has not.
    """
    read = "-all,+dac_read_search"
    who = (f"--reuid={user}", f"--regid={user}", "--clear-groups")
    return "setpriv", *who, f"--inh-caps={read}", f"--ambient-caps={read}"


def install(lacks: str) -> None:
    """Put the filter before the kernel, for this process and what it becomes."""
    lines = b"".join(struct.pack("=HBBI", *line) for line in FILTERS[lacks])
    code = ctypes.create_string_buffer(lines, len(lines))
    program = ctypes.create_string_buffer(
        struct.pack("@HP", len(FILTERS[lacks]), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SET_SECCOMP, FILTER, program, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refused the filter")


def main(lacks: str, *command: str) -> None:
    """Become the command."""
    install(lacks)
    os.execv(command[0], command)  # noqa: S606 (the tests' own command)


if __name__ == "__main__":
    main(*sys.argv[1:])
