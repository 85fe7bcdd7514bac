"""CPUs that this process may use, from whoever limits them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgserve.config import Settings
from imgserve.worker.capacity import (
    CpuReadings,
    available_cpus,
    default_processes,
    default_slots,
    read_cpus,
)
from imgserve.worker.parts import build_capacity


@pytest.mark.parametrize(
    ("readings", "cpus"),
    [
        (CpuReadings(affinity=4), 4),
        (CpuReadings(affinity=4, cgroup=2.0), 2),
        (CpuReadings(affinity=4, cgroup=1.5), 2),
        (CpuReadings(affinity=4, cgroup=0.1), 1),
        (CpuReadings(affinity=4, cgroup=64.0), 4),
        (CpuReadings(affinity=64, slurm=6), 6),
        (CpuReadings(affinity=64, cgroup=3.0, slurm=6), 3),
        (CpuReadings(affinity=0), 1),
    ],
)
def test_the_least_that_anybody_grants_counts(readings, cpus):
    """Affinity, quota and allocation all hold."""
    assert available_cpus(readings) == cpus


@pytest.mark.parametrize(("affinity", "processes"), [(1, 1), (7, 7), (8, 8), (9, 8)])
def test_one_worker_keeps_at_most_eight_processes(affinity, processes):
    """One loop feeds eight; more CPUs are for more workers."""
    assert default_processes(CpuReadings(affinity=affinity)) == processes
    assert default_slots(processes) == 8 * processes


def system(root: Path, files: dict[str, str]) -> Path:
    """Lay out files under a root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


GROUPS = [
    ({}, None),
    ({"proc/self/cgroup": "0::/\n"}, None),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
        },
        2.0,
    ),
    (
        {
            "proc/self/cgroup": "3:cpuset:/x\n2:cpu,cpuacct:/x\n",
            "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
        },
        3.0,
    ),
    (
        {
            "proc/self/cgroup": "2:cpu:/outside/name\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        0.5,
    ),
    (
        {
            "proc/self/cgroup": "2:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
]


@pytest.mark.parametrize(("files", "quota"), GROUPS)
def test_quotas_of_both_versions_are_read(tmp_path, files, quota):
    """The tightest quota of this group and those above it counts, in either version."""
    assert read_cpus(environment={}, root=system(tmp_path, files)).cgroup == quota


@pytest.mark.parametrize(
    ("environment", "slurm"),
    [
        ({}, None),
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "64"}, 3),
        ({"SLURM_CPUS_ON_NODE": "64"}, 64),
        ({"SLURM_CPUS_ON_NODE": "many"}, None),
        ({"SLURM_CPUS_PER_TASK": "0", "SLURM_CPUS_ON_NODE": "5"}, 5),
    ],
)
def test_slurm_says_what_the_task_has(tmp_path, environment, slurm):
    """The task's own CPUs go before the node's; nonsense is ignored."""
    assert read_cpus(environment=environment, root=tmp_path).slurm == slurm


def test_settings_go_before_what_is_found():
    """Processes and slots that are set are taken as they are."""
    capacity = build_capacity(Settings(processes=3))
    assert (capacity.processes, capacity.slots) == (3, 24)
    capacity = build_capacity(Settings(processes=3, slots=2))
    assert (capacity.processes, capacity.slots) == (3, 2)
    assert 1 <= build_capacity(Settings()).processes <= 8
