"""The attacks of `scripts/redteam`, in their short form; those that are timed run there alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.redteam_lib.attack import Arena
from scripts.redteam_lib.run import load_attacks

# Not held off yet; docs/security.md says so ("What does not hold").
OPEN = {
    "many-subscriptions",
}
ATTACKS = [entry for entry in load_attacks().values() if not entry.timed and entry.name not in OPEN]


@pytest.mark.parametrize("entry", ATTACKS, ids=lambda entry: entry.name)
def test_attack_is_held_off(entry, tmp_path: Path):
    """What must hold holds; the figure says what was seen."""
    result = entry.run(Arena(tmp_path, long=False))
    assert result.held, f"{entry.must_hold}: {result.figure}"
