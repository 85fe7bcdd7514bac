"""Draw the charts of docs/performance.md from bench.json, the same bytes for the same figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench_lib.chart_data import Document, cpu_bars, growth, mark, ratios
from bench_lib.report import BenchError

WIDTH_IN = 7.5
STYLE = {
    "svg.hashsalt": "imgserve",  # ids are random without
    "svg.fonttype": "none",  # text stays text: a tenth of the size
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
UNDATED = {"Date": None, "Creator": None}
COLOURS = {
    "pixels alone": "#8c8c8c",
    "pixel processes": "#4c78a8",
    "worker": "#f58518",
    "broker": "#54a24b",
    "gateway": "#b279a2",
    "client": "#e45756",
    "supervisor": "#9d755d",
}
"""From the bottom up, so that the pixels of all bars stand side by side."""

MET, MISSED, GOAL = "#54a24b", "#e45756", "#222222"


def draw_all(source: Path, folder: Path) -> list[str]:
    """Draw every chart that the figures allow; one that they do not is left as it is.

    Args:
        source: bench.json.
        folder: where the charts belong; made when missing.

    Returns:
        A sentence for each chart that was not drawn.
    """
    document: Document = json.loads(source.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for name, draw in CHARTS.items():
        try:
            with mpl.rc_context(STYLE):
                figure = draw(document)
                figure.savefig(folder / name, format="svg", metadata=UNDATED, bbox_inches="tight")
        except BenchError as exc:
            missing.append(f"{name} is not drawn: {exc}")
    return missing


def draw_cpu(document: Document) -> Figure:
    """Draw W1: a bar for the bare loop and one for each way, stacked by part."""
    bars = cpu_bars(document)
    figure, axes = _empty(1 + 0.5 * len(bars))
    left = [0.0] * len(bars)
    names = [bar.name for bar in bars]
    for part, colour in COLOURS.items():
        widths = [bar.parts_ms.get(part, 0.0) for bar in bars]
        if not any(widths):
            continue
        axes.barh(names, widths, left=left, color=colour, label=part, height=0.6)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, bar in enumerate(bars):
        axes.annotate(f" {left[place]:.1f}", (left[place], place), va="center")
        if bar.goal_ms is not None:
            axes.vlines(bar.goal_ms, place - 0.42, place + 0.42, color=GOAL, linewidth=1.5)
    axes.plot([], [], color=GOAL, label="goal")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(left))
    axes.set_xlabel("CPU a job, ms")
    axes.set_title(f"W1{mark(document, 'W1')}: 2 MP JPEG to 200x120, by part", loc="left")
    axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.28))
    return figure


def draw_growth(document: Document) -> Figure:
    """Draw W8: what a job costs beside the first batch, over the jobs done."""
    shown = growth(document)
    figure, axes = _empty(2.6)
    axes.axhspan(*shown.goal, color=MET, alpha=0.15, linewidth=0, label="goal")
    axes.plot(shown.jobs, shown.ratios, marker="o", color=COLOURS["pixel processes"])
    axes.set_xlim(0)
    axes.set_ylim(0, max(1.3, 1.1 * max(shown.ratios)))
    axes.set_xlabel("jobs done")
    axes.set_ylabel("CPU a job, first batch = 1")
    axes.set_title(f"W8{mark(document, 'W8')}: 64x64 PNG, file to file", loc="left")
    axes.legend(loc="lower right")
    return figure


def draw_ratios(document: Document) -> Figure:
    """Draw each ratio that has a goal: minimum, median and maximum, and the goal."""
    shown = ratios(document)
    figure, axes = _empty(1 + 0.3 * len(shown))
    for place, ratio in enumerate(shown):
        colour = MET if ratio.met else MISSED
        axes.hlines(place, ratio.low, ratio.high, color=colour, linewidth=2)
        axes.plot(ratio.middle, place, marker="o", color=colour)
        for goal in (ratio.at_least, ratio.at_most):
            if goal is not None:
                axes.vlines(goal, place - 0.35, place + 0.35, color=GOAL, linewidth=1.5)
    axes.plot([], [], "o-", color=MET, label="reached")
    axes.plot([], [], "o-", color=MISSED, label="missed")
    axes.plot([], [], color=GOAL, label="goal")
    axes.set_yticks(range(len(shown)), [ratio.name for ratio in shown])
    axes.invert_yaxis()
    axes.set_xlim(0)
    axes.set_xlabel("ratio: minimum, median and maximum over the rounds")
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _empty(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height_in))
    return figure, figure.add_subplot()


CHARTS: dict[str, Callable[[Document], Figure]] = {
    "w1-cpu.svg": draw_cpu,
    "w8-growth.svg": draw_growth,
    "ratios.svg": draw_ratios,
}
