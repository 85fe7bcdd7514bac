"""A minute of chaos: real processes, killed again and again, and every history checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_LIMIT_S = 400.0


def test_a_minute_of_chaos_breaks_no_promise(tmp_path):
    """Parts are killed, stopped and cut off for 60 s, and every accepted job is right."""
    out = tmp_path / "chaos"
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.chaos_lib.run"),
            *("--minutes", "1", "--seed", "1", "--rate", "8", "--out", str(out)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["kills_total"] >= 15
    assert report["jobs"] >= 200
    assert report["ends"]["done"] >= 0.8 * report["jobs"]
    assert (out / "timeline.svg").read_text().startswith("<svg")
