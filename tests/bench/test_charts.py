"""The charts themselves."""

from __future__ import annotations

import json

import pytest
from defusedxml.ElementTree import parse

pytest.importorskip("matplotlib", reason="scripts/setup bench installs it")

from bench_lib.charts import draw_all
from bench_run import draw_charts

from tests.bench import made_up

NAMES = {"w1-cpu.svg", "w8-growth.svg", "ratios.svg"}
LARGEST_BYTES = 40_000


@pytest.fixture
def figures(tmp_path):
    """A bench.json with all that the charts need."""
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(made_up.document(W1=made_up.w1(), W8=made_up.w8())))
    return path


def texts(path):
    return {each.text.strip() for each in parse(path).iter("{http://www.w3.org/2000/svg}text")}


def test_every_chart_is_drawn_small_with_text_as_text(figures, tmp_path):
    """Each is an SVG whose labels can be read, and no fat one."""
    assert draw_charts(figures, tmp_path / "charts") == 0
    drawn = {path.name: path for path in (tmp_path / "charts").iterdir()}
    assert set(drawn) == NAMES
    assert all(path.stat().st_size < LARGEST_BYTES for path in drawn.values())
    assert {"bare loop", "native client", "POST /", "broker", "24.9"} <= texts(drawn["w1-cpu.svg"])
    assert "jobs done" in texts(drawn["w8-growth.svg"])
    assert "W1: POST /, CPU beside the bare loop" in texts(drawn["ratios.svg"])


def test_the_same_figures_make_the_same_bytes(figures, tmp_path):
    """Nothing in a chart is random or the date: a commit shows only what has changed."""
    for name in ("first", "second"):
        assert draw_all(figures, tmp_path / name) == []
    for name in NAMES:
        first, second = (tmp_path / each / name for each in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
        assert b"<dc:date>" not in first.read_bytes()


def test_a_chart_without_figures_stays_as_it_is(tmp_path, capsys):
    """The others are drawn; a sentence says which is not, and why; the exit code says it too."""
    source, folder = tmp_path / "bench.json", tmp_path / "charts"
    source.write_text(json.dumps(made_up.document(W1=made_up.w1())))
    folder.mkdir()
    (folder / "w8-growth.svg").write_text("the former one")
    assert draw_charts(source, folder) == 1
    assert capsys.readouterr().err == "w8-growth.svg is not drawn: W8 was not run\n"
    assert (folder / "w8-growth.svg").read_text() == "the former one"
    assert (folder / "w1-cpu.svg").exists()


def test_without_any_figures_it_says_how_to_get_them(tmp_path, capsys):
    """Nothing is drawn before the bench has run."""
    assert draw_charts(tmp_path / "bench.json", tmp_path / "charts") == 1
    assert "scripts/bench --full" in capsys.readouterr().err
