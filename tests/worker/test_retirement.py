"""When a worker leaves of its own accord."""

from __future__ import annotations

import pytest

from imgserve.config import load_settings
from imgserve.worker.retirement import EXIT_NO_BROKER, Condition, Retirement


def condition(**changed):
    """A worker that is well, born at 0, looked at after 10 seconds."""
    well = {"now_s": 10.0, "alone_since_s": None, "ended": 5, "rss_bytes": 1e6, "trouble": "t"}
    return Condition(**{**well, **changed})


def retirement(luck=0.0, **settings):
    """A retirement that began at 0."""
    return Retirement(load_settings(settings), born_s=0.0, luck=luck)


def test_without_limits_nobody_leaves():
    """The defaults keep a worker for ever, with a broker or without."""
    assert retirement().due(condition(now_s=1e9, alone_since_s=0.0, ended=10**9)) is None


@pytest.mark.parametrize(("now_s", "leaves"), [(59.9, False), (60.0, True)])
def test_the_lifetime_ends_when_it_says(now_s, leaves):
    """Without luck the whole lifetime is used, and not a moment more."""
    due = retirement(lifetime_s="1m", stagger_s="30s").due(condition(now_s=now_s))
    assert (due is not None) == leaves


def test_luck_spreads_the_ends_over_the_stagger():
    """The luckiest worker leaves a whole stagger before the unluckiest."""
    early = retirement(luck=1.0, lifetime_s="100", stagger_s="30")
    assert early.due(condition(now_s=69.9)) is None
    assert early.due(condition(now_s=70.0)).exit_code == 0


def test_half_of_a_short_life_is_for_work():
    """A stagger longer than the lifetime does not end a worker before it began."""
    short = retirement(luck=1.0, lifetime_s="10", stagger_s="1h")
    assert short.due(condition(now_s=4.9)) is None
    assert short.due(condition(now_s=5.0)) is not None


@pytest.mark.parametrize(("ended", "leaves"), [(9, False), (10, True), (11, True)])
def test_it_leaves_after_its_most_jobs(ended, leaves):
    """At the number of jobs that the setting names, not before."""
    due = retirement(max_jobs=10).due(condition(ended=ended))
    assert (due is not None) == leaves


@pytest.mark.parametrize(("rss_bytes", "leaves"), [(4e9 - 1, False), (4e9, True)])
def test_it_leaves_with_too_much_memory(rss_bytes, leaves):
    """At the memory that the setting names; the sentence says both numbers."""
    due = retirement(max_rss_bytes="4G").due(condition(rss_bytes=rss_bytes))
    assert (due is not None) == leaves
    if due is not None:
        assert "4000 MB" in due.reason


def test_it_gives_up_without_a_broker():
    """After the death timeout the exit code says so, and the reason what stood in the way."""
    lonely = retirement(death_timeout_s="10m")
    assert lonely.due(condition(now_s=700, alone_since_s=101.0)) is None
    gone = lonely.due(condition(now_s=700, alone_since_s=100.0, trouble="the file is missing"))
    assert gone.exit_code == EXIT_NO_BROKER
    assert gone.reason == "no broker for 600 s: the file is missing"


def test_a_broker_that_comes_back_counts_as_there():
    """With a broker the death timeout has no say, however long it was gone before."""
    assert retirement(death_timeout_s="1s").due(condition(now_s=1e6, alone_since_s=None)) is None
