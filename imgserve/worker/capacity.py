"""How many CPUs this process may use: the default number of pixel processes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

PROCESSES_LIMIT: Final = 8
"""One event loop feeds about this many; a larger host runs several workers."""

SLOTS_PER_PROCESS: Final = 8
"""While one job's pixels are worked on, the others' transfers wait for servers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReadings:
    """What each authority grants; None where it says nothing.

    Args:
        affinity: CPUs that the scheduler may put this process on.
        cgroup: the quota of the control group, in CPUs.
        slurm: the CPUs of this task, or else of this node's allocation.
    """

    affinity: int
    cgroup: float | None = None
    slurm: int | None = None


def available_cpus(readings: CpuReadings) -> int:
    """Return the least that any authority grants; part of a CPU still feeds one process."""
    granted = [readings.affinity]
    granted += [math.ceil(readings.cgroup)] if readings.cgroup is not None else []
    granted += [readings.slurm] if readings.slurm is not None else []
    return max(1, min(granted))


def default_processes(readings: CpuReadings) -> int:
    """Return the number of pixel processes for `processes = auto`."""
    return min(PROCESSES_LIMIT, available_cpus(readings))


def default_slots(processes: int) -> int:
    """Return how many jobs a worker with so many pixel processes holds at once."""
    return SLOTS_PER_PROCESS * max(1, processes)


def read_cpus(*, environment: Mapping[str, str], root: Path = Path("/")) -> CpuReadings:
    """Read what this system says.

    Args:
        environment: for the variables of Slurm.
        root: where /proc and /sys are.
    """
    return CpuReadings(
        affinity=len(os.sched_getaffinity(0)),
        cgroup=min(_cgroup_quotas(root), default=None),
        slurm=_slurm(environment),
    )


def _slurm(environment: Mapping[str, str]) -> int | None:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        value = environment.get(name, "")
        if value.isascii() and value.isdigit() and int(value) > 0:
            return int(value)
    return None


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each group that holds this process; groups inherit their parents'."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: the one hierarchy
            for group in _groups(root / "sys/fs/cgroup", path):
                yield from _quota_v2(group)
        elif "cpu" in controllers.split(","):
            for mount in {controllers, "cpu"}:
                for group in _groups(root / "sys/fs/cgroup" / mount, path):
                    yield from _quota_v1(group)


def _groups(mount: Path, path: str) -> Iterator[Path]:
    """A container may see its own group as the mount's root, whatever its path is outside."""
    group = PurePosixPath(path.lstrip("/"))
    for part in (group, *group.parents):
        if ".." not in part.parts:
            yield mount / part


def _quota_v2(group: Path) -> Iterator[float]:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return


def _quota_v1(group: Path) -> Iterator[float]:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return
    if quota > 0 and period > 0:  # -1: no quota
        yield quota / period
