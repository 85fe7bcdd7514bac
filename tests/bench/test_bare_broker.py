"""The bare broker loop that W2 is held against."""

from __future__ import annotations

import sqlite3

import pytest
from bench_lib import bare_broker


def test_every_job_is_carried_and_on_disk(tmp_path):
    """Else it would be no measure of durable jobs."""
    cost = bare_broker.run(tmp_path, 50)
    assert cost.jobs == 50
    assert cost.cpu_s > 0
    with sqlite3.connect(tmp_path / "bare.sqlite") as journal:
        assert journal.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall() == [
            ("done", 50)
        ]


def test_a_broker_that_dies_is_an_error(tmp_path):
    """Nobody waits for it: there is no folder for its journal."""
    with pytest.raises(EOFError):
        bare_broker.run(tmp_path / "missing", 5)
