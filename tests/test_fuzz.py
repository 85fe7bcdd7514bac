"""Each parser of a stranger's bytes, fuzzed for seconds; `scripts/fuzz` does it for hours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("target", ["codec", "svg", "head", "form", "request"])
def test_a_few_seconds_of_fuzzing_find_nothing(target, tmp_path):
    """A parser raises only what its callers expect, and takes no longer than a second."""
    words = ["scripts.fuzz_run", target, "--minutes", "0.1", "--corpus", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
