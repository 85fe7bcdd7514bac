"""What the bench refuses to report, and what it makes of a work that fails."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import NamedTuple

import pytest
from bench_lib.noise import spread, too_noisy
from bench_lib.outcome import stolen
from bench_lib.report import BenchError, Figure
from bench_run import run

QUIET = Figure("quiet ratio", "x", (1.0, 1.1, 1.2), "<= 1.15", 0.25)
NOISY = Figure("noisy ratio", "x", (1.0, 1.2, 1.6), "<= 1.15", 0.25)


class Times(NamedTuple):
    """Seconds that the cores spent, as /proc/stat counts them."""

    user: float
    idle: float
    steal: float


def test_the_spread_is_a_part_of_the_median():
    """It is the distance of the outer values beside the one in the middle."""
    assert spread((3.0, 2.0, 2.5)) == pytest.approx(0.4)


def test_one_value_does_not_spread():
    """A single round has no spread; nor have values that are all the same, nought included."""
    assert spread((2.0,)) == 0
    assert spread((0.0, 0.0)) == 0


def test_values_around_nought_spread_without_end():
    """A median of nought is no measure: it refuses."""
    assert spread((-1.0, 0.0, 1.0)) == float("inf")


def test_four_rounds_count_to_the_last():
    """No value of four is left out."""
    assert spread((1.0, 1.0, 1.0, 2.0)) == pytest.approx(1.0)


def test_one_bad_round_of_five_is_left_out():
    """Of five rounds the outer two do not count, on whichever side; of two bad ones one does."""
    assert spread((1.0, 1.0, 1.0, 1.0, 9.0)) == 0
    assert spread((0.1, 1.0, 1.0, 1.0, 1.0)) == 0
    assert spread((1.0, 1.0, 1.0, 9.0, 9.0)) == pytest.approx(8.0)


def test_a_spread_at_the_bound_is_reported_and_one_above_is_not():
    """The bound belongs to what is allowed."""
    at = Figure("ratio", "x", (1.0, 1.0, 1.25), spread_most=0.25)
    above = Figure("ratio", "x", (1.0, 1.0, 1.2501), spread_most=0.25)
    assert too_noisy([at]) == ""
    assert "'ratio' spread over 0.25 of the median" in too_noisy([at, above])


def test_a_figure_without_a_bound_may_spread():
    """What a work does not stand by refuses nothing."""
    assert too_noisy([Figure("rate", "jobs/s", (1.0, 5.0, 50.0))]) == ""


@pytest.fixture
def ran(tmp_path, capsys):
    """Run made-up works; return exit code, bench.json and what was printed."""

    def go(*, noisy=False, **works):
        options = Namespace(full=False, rounds=3, noisy=noisy)
        table = {name: (f"about {name}", work) for name, work in works.items()}
        code = run(list(works), options, table, tmp_path)
        return code, json.loads((tmp_path / "bench.json").read_text()), capsys.readouterr().out

    return go


def test_a_noisy_work_is_refused_and_the_others_are_reported(ran):
    """The refused one has a sentence in place of figures; the exit code says one is missing."""
    code, document, said = ran(A=lambda _: [NOISY], B=lambda _: [QUIET])
    assert code == 1
    assert document["A"].keys() == {"about", "stolen", "run", "refused"}
    assert document["A"]["refused"].startswith(
        "A is not reported: its figure 'noisy ratio' spread over 0.50 of the median; more than"
        " 0.25 says nothing. Run it again on a quiet machine"
    )
    assert document["B"]["figures"][0]["median"] == 1.1
    assert document["A"]["refused"] in said
    assert "quiet ratio" in said
    assert "1.6" not in said


def test_noisy_figures_are_shown_marked_when_asked_for(ran):
    """With --noisy they are there, in the table and in the JSON, and say what they are."""
    code, document, said = ran(noisy=True, A=lambda _: [NOISY], B=lambda _: [QUIET])
    assert code == 0
    assert document["A"]["figures"][0]["values"] == [1.0, 1.2, 1.6]
    assert "spread over 0.50" in document["A"]["noisy"]
    assert "noisy" not in document["B"]
    assert said.count("NOISY") == 1


@pytest.mark.parametrize("trouble", [BenchError("a job ended failed"), RuntimeError("no service")])
def test_a_work_that_fails_takes_no_other_work_away(ran, trouble):
    """The works before and after it are reported; it says why it has none."""

    def fails(_):
        raise trouble

    code, document, said = ran(A=lambda _: [QUIET], B=fails, C=lambda _: [QUIET])
    assert code == 1
    assert document["B"].keys() == {"about", "stolen", "run", "failed"}
    assert str(trouble) in document["B"]["failed"]
    assert "B could not be measured" in said
    assert "figures" in document["A"]
    assert "figures" in document["C"]


def test_what_cannot_be_measured_is_told_in_a_sentence(ran):
    """A failed job is no crash of the bench: its sentence stands as it was said."""

    def fails(_):
        raise BenchError("a job ended failed: 405")

    _, document, _ = ran(A=fails)
    assert document["A"]["failed"] == "A could not be measured: a job ended failed: 405."


def test_an_interrupted_run_keeps_what_was_measured(ran, tmp_path):
    """What the first work told is in the file when the second one is broken off."""

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(A=lambda _: [QUIET], B=interrupted)
    assert json.loads((tmp_path / "bench.json").read_text())["A"]["figures"]


def test_time_that_the_host_gave_to_others_is_a_part_of_what_passed():
    """A second of ten on both cores is a tenth; no time at all is none of it."""
    before, after = Times(user=5, idle=5, steal=2), Times(user=9, idle=10, steal=3)
    assert stolen(before, after) == pytest.approx(0.1)
    assert stolen(before, before) == 0


def test_stolen_time_is_said_where_it_is_worth_saying(ran, monkeypatch):
    """In the table from a hundredth on, and in the JSON always."""
    readings = iter(
        [Times(0, 0, 0), Times(9, 0, 1), Times(9, 0, 1), Times(1008, 0, 2)]  # 10 %, then 0.1 %
    )
    monkeypatch.setattr("bench_lib.outcome.psutil.cpu_times", lambda: next(readings))
    _, document, said = ran(A=lambda _: [QUIET], B=lambda _: [QUIET])
    assert document["A"]["stolen"] == pytest.approx(0.1)
    assert document["B"]["stolen"] == pytest.approx(0.001)
    assert said.count("to others meanwhile") == 1


def test_all_reported_ends_well(ran):
    """The exit code is 0 when every work has its figures."""
    code, document, _ = ran(A=lambda _: [QUIET])
    assert code == 0
    assert document["A"]["run"]["rounds"] == 3


def test_a_work_that_is_run_again_leaves_the_others_figures(ran):
    """Who runs a refused work again does not lose the rest; what it says now is what counts."""
    ran(A=lambda _: [NOISY], B=lambda _: [QUIET])
    code, document, _ = ran(A=lambda _: [QUIET])
    assert code == 0
    assert "refused" not in document["A"]
    assert document["B"]["figures"][0]["median"] == 1.1


@pytest.mark.parametrize("former", ["{", "[]", '{"A": [], "run": {}}'])
def test_a_file_that_is_no_former_run_is_written_anew(ran, tmp_path, former):
    """Half a file, or one of another form, is nobody's figures."""
    (tmp_path / "bench.json").write_text(former)
    _, document, _ = ran(B=lambda _: [QUIET])
    assert set(document) == {"B"}
