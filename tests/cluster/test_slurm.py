"""`scripts/cluster/slurm` against a real Slurm of one node."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.cluster import ROOT
from tests.cluster.local import local_broker, local_store, wrapper
from tests.support.service import eventually
from tests.support.slurm import Slurm, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

JOIN_S = 60


def test_cancelled_and_requeued_workers_lose_nothing(tmp_path_factory):
    """Of an array of two one is cancelled and one requeued under load: every job is done."""
    folder = tmp_path_factory.mktemp("slurm")
    with Slurm(folder) as slurm, local_broker(folder) as broker, local_store(folder) as uploads:
        environment = slurm.environment | {
            "IMGSERVE": str(wrapper(folder)),
            "SBATCH_FLAGS": f"--parsable --output={folder}/task-%a.log --chdir={folder}",
        }
        flags = ("--allow-network", "127.0.0.0/8", "--slots", "4", "--state", str(folder))
        words = [ROOT / "scripts/cluster/slurm", broker.connection, "2", "10", "1", "--", *flags]
        array = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        before = {worker["incarnation"] for worker in broker.wait_for_workers(2)}
        batch = broker.submit(uploads, "slurm", 60, wait_s=0.5)
        batch.begun()
        slurm.call("scancel", f"{array}_1")
        eventually(lambda: len(broker.workers()) == 1, "one is gone", timeout_s=JOIN_S)
        assert broker.figures()["departed"][0]["reason"] == "asked to end"
        slurm.call("scontrol", "requeue", f"{array}_2")
        batch.assert_all_done(timeout_s=JOIN_S)
        [after] = broker.wait_for_workers(1)
        assert after["incarnation"] not in before
