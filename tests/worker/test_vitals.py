"""Vitals are what /proc says."""

from __future__ import annotations

import os
import subprocess
import sys

from imgserve.worker.vitals import vitals


def test_vitals_add_up_the_worker_and_its_processes():
    """Another process's memory counts; one that has ended does not."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd="/"
    ) as child:
        alone, both = vitals([]), vitals([child.pid])
        assert alone["rss_bytes"] < both["rss_bytes"]
        assert alone["cpu_s"] > 0
        child.kill()
    assert vitals([child.pid])["rss_bytes"] < both["rss_bytes"]
    assert vitals([os.getpid()])["cpu_s"] > alone["cpu_s"]
