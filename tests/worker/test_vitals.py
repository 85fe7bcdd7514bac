"""Vitals are what /proc says."""

from __future__ import annotations

import os
import subprocess
import sys

from imgserve.worker.vitals import vitals


def test_vitals_add_up_the_worker_and_its_processes():
    """Another process's memory counts; one that has ended does not."""
    program = "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # a process that has only just begun may have no page to its name
        alone, both = vitals([]), vitals([child.pid])
        assert alone["rss_bytes"] < both["rss_bytes"]
        assert alone["cpu_s"] > 0
        child.kill()
    assert vitals([child.pid])["rss_bytes"] < both["rss_bytes"]
    assert vitals([os.getpid()])["cpu_s"] > alone["cpu_s"]
