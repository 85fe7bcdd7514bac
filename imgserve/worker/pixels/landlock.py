"""Landlock: no files but those named, no TCP, no signals and no abstract sockets outward."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

# The same numbers on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
READ_FILE = 1 << 2

# linux/landlock.h: how many file rights each ABI knows; all that are known are denied.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
TCP_RIGHTS = 0b11  # bind, connect
SCOPES = 0b11  # abstract Unix sockets, signals
ABI_WITH_TCP, ABI_WITH_SCOPES = 4, 6


def abi() -> int:
    """Give the version of Landlock in this kernel; 0 when there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION)))


def restrict(readable: Iterable[str]) -> None:
    """Confine this thread, and those it starts from now on; there is no way back.

    Args:
        readable: files that may still be opened for reading; missing ones are left out.

    Raises:
        OSError: when the kernel refuses; no_new_privs must be set before.
    """
    version = abi()
    libc = ctypes.CDLL(None, use_errno=True)
    files = (1 << FILE_RIGHTS[min(version, max(FILE_RIGHTS))]) - 1
    # The kernel takes a shorter structure from programs older than itself.
    attributes = struct.pack("=Q", files)
    if version >= ABI_WITH_TCP:
        attributes += struct.pack("=Q", TCP_RIGHTS)
    if version >= ABI_WITH_SCOPES:
        attributes += struct.pack("=Q", SCOPES)
    ruleset = libc.syscall(CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "the kernel refused the Landlock ruleset")
    try:
        for path in readable:
            _allow_reading(libc, ruleset, path)
        if libc.syscall(RESTRICT_SELF, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refused to apply Landlock")
    finally:
        os.close(ruleset)


def _allow_reading(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # removed since it was listed
    try:
        rule = struct.pack("=Qi", READ_FILE, file)
        if libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0) != 0:
            raise OSError(ctypes.get_errno(), f"the kernel refused a Landlock rule for {path}")
    finally:
        os.close(file)
