"""What the charts show of the figures."""

from __future__ import annotations

import pytest
from bench_lib.chart_data import Ratio, cpu_bars, goal_of, growth, ratios
from bench_lib.outcome import Outcome
from bench_lib.report import BenchError, Figure

from tests.bench import made_up


def test_w1_tells_the_cpu_of_each_part_and_their_sum_is_the_total():
    """Each way has a row for each part, in milliseconds a job."""
    rows = {row.name: row.values for row in made_up.w1()}
    assert rows["native client: broker, CPU a job"] == pytest.approx((3.0,) * 3)
    assert rows["native client: client, CPU a job"] == pytest.approx((1.0,) * 3)
    assert rows["POST /: gateway, CPU a job"] == pytest.approx((5.0,) * 3)
    for way in ("native client", "POST /"):
        parts = [values[0] for name, values in rows.items() if name.startswith(f"{way}: ")]
        assert sum(parts) == pytest.approx(rows[f"{way}, CPU a job"][0])


def test_the_bars_are_the_bare_loop_and_the_parts_of_both_ways():
    """Goals are where the bare loop's CPU times the goal lies."""
    bare, native, post = cpu_bars(made_up.document(W1=made_up.w1()))
    assert (bare.name, bare.parts_ms, bare.goal_ms) == ("bare loop", {"pixels alone": 16}, None)
    assert native.parts_ms == pytest.approx(
        {"supervisor": 0, "gateway": 1, "broker": 3, "worker": 4, "pixel processes": 15.9}
        | {"client": 1}
    )
    assert native.goal_ms == pytest.approx(16 * 1.15)
    assert "client" not in post.parts_ms
    assert post.goal_ms == pytest.approx(16 * 1.2)


def test_growth_is_told_where_each_batch_ended():
    """The first thousand jobs are not measured; the last batch ends at 100,000."""
    shown = growth(made_up.document(W8=made_up.w8()))
    assert shown.jobs[0] == 10_000
    assert shown.jobs[-1] == 100_000
    assert shown.ratios[0] == 1
    assert shown.ratios[-1] == pytest.approx(1.2)
    assert shown.goal == (0.9, 1.1)


def test_growth_is_held_to_its_goal_where_it_ends():
    """The median of all batches would hide what the last ones cost."""
    (last,) = ratios(made_up.document(W8=made_up.w8()))
    assert last.middle == pytest.approx(1.18 / 1.02)
    assert not last.met


def test_a_ratio_without_a_goal_and_a_goal_of_no_ratio_are_not_shown():
    """Only what can be held beside a goal is."""
    figures = [
        Figure("shown", "x", (1.0, 1.2, 1.1), "<= 1.15"),
        Figure("no goal", "x", (1.0,)),
        Figure("no ratio", "ms", (1.0,), "<= 12"),
    ]
    assert ratios(made_up.document(W9=figures)) == [Ratio("W9: shown", 1.0, 1.1, 1.2, None, 1.15)]


def test_noisy_figures_are_marked():
    """Whoever sees the ratio sees that it says little."""
    figures = (Figure("ratio", "x", (1.0,), "<= 1"),)
    noisy = Outcome("W9", "about", figures, noisy="it spread")
    assert ratios(made_up.document(W9=noisy))[0].name == "W9 (noisy): ratio"


@pytest.mark.parametrize(
    ("words", "goal"),
    [
        ("<= 1.15", (None, 1.15)),
        (">= 0.80", (0.8, None)),
        ("< 5", (None, 5)),
        ("0.9 to 1.1", (0.9, 1.1)),
        ("", (None, None)),
        ("480 where the goals were set", (None, None)),
    ],
)
def test_goals_are_read_as_they_are_written(words, goal):
    """A goal is a bound, a range, or only words."""
    assert goal_of(words) == goal


@pytest.mark.parametrize(
    ("middle", "met"), [(0.89, False), (0.9, True), (1.1, True), (1.11, False)]
)
def test_a_goal_is_met_by_the_median(middle, met):
    """Both ends of a range belong to it."""
    assert Ratio("ratio", 0, middle, 2, 0.9, 1.1).met is met


def test_rows_of_a_former_bench_are_asked_for_again():
    """A row that is not there is no crash: the chart is not drawn, and says what to run."""
    with pytest.raises(BenchError, match="run that work again"):
        growth(made_up.document(W8=made_up.w8()[:2]))
    with pytest.raises(BenchError, match="run that work again"):
        cpu_bars(made_up.document(W1=made_up.w1()[1:]))


@pytest.mark.parametrize(
    ("works", "why"),
    [
        ({}, "W1 was not run"),
        ({"W1": Outcome("W1", "about", refused="W1 was noisy")}, "W1 was noisy"),
        ({"W1": Outcome("W1", "about", failed="W1 failed")}, "W1 failed"),
    ],
)
def test_without_figures_there_is_a_reason(works, why):
    """It is the one that the work itself gave."""
    with pytest.raises(BenchError, match=why):
        cpu_bars(made_up.document(**works))
    with pytest.raises(BenchError, match="no work"):
        ratios(made_up.document(**works))
