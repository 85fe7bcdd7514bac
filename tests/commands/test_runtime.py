"""What a part does to its interpreter and allocator before it serves."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from pathlib import Path

import imgserve.worker.agent
from imgserve.commands import runtime


def faults():
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[7])


def photos():
    before = faults()
    for _ in range(50):
        bytearray(1_000_000)
    return faults() - before


runtime.settle()
photos()
print(gc.get_freeze_count(), gc.get_threshold()[0], photos())
"""


def test_a_settled_process_keeps_its_memory_and_leaves_its_modules_alone():
    """Modules are looked at no more, and a photo's pages are not given back and faulted in anew."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    frozen, threshold, faults = map(int, done.stdout.split())
    assert frozen > 10_000
    assert threshold > 700
    assert faults < 500  # of 12,200 pages
