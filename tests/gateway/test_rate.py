"""The token bucket, without a clock."""

from __future__ import annotations

import pytest

from imgserve.gateway.rate import Bucket


def test_a_burst_passes_and_the_next_waits():
    """As long as one permit takes to come."""
    bucket = Bucket(rate_s=4, burst=3)
    assert [bucket.take(0), bucket.take(0), bucket.take(0)] == [0, 0, 0]
    assert bucket.take(0) == pytest.approx(0.25)


def test_after_the_wait_it_passes():
    """And being refused costs nothing."""
    bucket = Bucket(rate_s=4, burst=1)
    bucket.take(10)
    assert [bool(bucket.take(10)) for _ in range(5)] == [True] * 5
    assert bucket.take(10.25) == 0


def test_it_holds_no_more_than_its_burst():
    """However long nobody came."""
    bucket = Bucket(rate_s=100, burst=2)
    bucket.take(0)
    assert [bool(bucket.take(1e6)) for _ in range(3)] == [False, False, True]


def test_a_clock_that_goes_back_gives_nothing():
    """Nor does it take anything."""
    bucket = Bucket(rate_s=1, burst=1)
    assert bucket.take(100) == 0
    assert bucket.take(50) > 0


@pytest.mark.parametrize("rate_s", [0.1, 1, 7, 250])
def test_over_a_long_time_the_rate_is_what_passes(rate_s):
    """Asked ten times as often."""
    bucket = Bucket(rate_s=rate_s, burst=1)
    asked = 10_000
    passed = sum(not bucket.take(step / (10 * rate_s)) for step in range(asked))
    assert 0.9 * asked / 10 <= passed <= asked / 10 + 1
