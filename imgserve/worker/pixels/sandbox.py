"""The sandbox of a pixel process: what holds when an image has taken the decoder over.

Landlock and seccomp together: Landlock says which files, but leaves UDP, stat and fork open;
seccomp closes those, but cannot see paths. Both work without privileges.
"""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterable

from imgserve.errors import ConfigError
from imgserve.worker.pixels import landlock, seccomp

PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 38, 4
# Descriptors that are open when the process is locked, a few fonts at a time, and room.
OPEN_FILES_LIMIT = 256

Report = dict[str, bool | str]


def sandbox_report() -> Report:
    """Say which parts of the sandbox this kernel has: True, or what is missing."""
    version = landlock.abi()
    missing = "the kernel has no Landlock, or it is not enabled"
    if version == 0:
        files: bool | str = missing
        tcp = scopes = files
    else:
        files = True
        tcp = version >= landlock.ABI_WITH_TCP or f"Landlock {version} cannot deny TCP"
        scopes = version >= landlock.ABI_WITH_SCOPES or f"Landlock {version} has no scopes"
    return {
        "landlock_files": files,
        "landlock_tcp": tcp,
        "landlock_scopes": scopes,
        "seccomp": seccomp.supported(),
        "limits": True,
    }


def missing_parts(report: Report) -> list[str]:
    """Say what the kernel lacks that would leave a hole.

    TCP and signals are denied by seccomp too, so that Landlock may lack them.
    """
    return [
        f"{name}: {report[name]}"
        for name in ("landlock_files", "seccomp")
        if report[name] is not True
    ]


def lock(*, memory_limit_bytes: int, readable: Iterable[str], require: bool) -> Report:
    """Lock this thread, and those it starts from now on, for good.

    Args:
        memory_limit_bytes: of address space.
        readable: files that may be opened for reading.
        require: whether a kernel that lacks a part is refused.

    Returns:
        What `sandbox_report` says.

    Raises:
        ConfigError: when a part is required and missing.
    """
    report = sandbox_report()
    missing = missing_parts(report)
    if require and missing:
        raise ConfigError(f"require_sandbox is set, and this kernel lacks {'; '.join(missing)}")
    limit_resources(memory_limit_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused no_new_privs")
    # Nobody but root may attach to it, read its memory or have it dumped.
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if report["landlock_files"] is True:
        landlock.restrict(readable)
    if report["seccomp"] is True:
        # Without Landlock no file can be opened at all: SVG text then fails instead.
        seccomp.install(files=report["landlock_files"] is True)
    return report


def limit_resources(memory_limit_bytes: int) -> None:
    """Set the limits that need no kernel feature."""
    for limit, value in (
        (resource.RLIMIT_AS, memory_limit_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES_LIMIT),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (lowered, lowered))
