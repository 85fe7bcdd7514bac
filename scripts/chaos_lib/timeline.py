"""The plot of a run as SVG: jobs done a second, and what was done to the service meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH_PX: Final = 1400
LEFT_PX: Final = 150
RIGHT_PX: Final = 20
TOP_PX: Final = 46
CURVE_PX: Final = 260
ROW_PX: Final = 18

COLOURS: Final = {
    "kill gateway": "#d62728",
    "kill broker": "#8c1c13",
    "kill worker": "#ff7f0e",
    "kill pixels": "#e6b800",
    "crash point": "#c2185b",
    "stop": "#1f77b4",
    "term": "#2ca02c",
    "delay": "#7f7f7f",
    "hold": "#4b0082",
    "reset": "#9467bd",
    "refuse": "#17becf",
    "deaf": "#5d4037",
    "half-open": "#bc8f6f",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done, from begin to end, in seconds since the start."""

    kind: str
    begin_s: float
    end_s: float


def draw(*, title: str, done_s: Sequence[float], marks: Sequence[Mark], duration_s: float) -> str:
    """Return an SVG.

    Args:
        title: the line above.
        done_s: when jobs ended well, in seconds since the start.
        marks: what was done; each kind gets a row.
        duration_s: of the whole run.
    """
    rows = [kind for kind in COLOURS if any(mark.kind == kind for mark in marks)]
    height = TOP_PX + CURVE_PX + 36 + ROW_PX * len(rows) + 16
    plot = _Plot(duration_s=max(duration_s, 1.0))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}"',
        f'width="{WIDTH_PX}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH_PX}" height="{height}" fill="white"/>',
        f'<text x="{LEFT_PX}" y="24" font-size="15" fill="#222">{escape(title)}</text>',
        *plot.curve(done_s),
        *plot.axis(TOP_PX + CURVE_PX),
    ]
    for number, kind in enumerate(rows):
        y = TOP_PX + CURVE_PX + 36 + ROW_PX * number
        parts += plot.row(kind, [mark for mark in marks if mark.kind == kind], y)
    return "\n".join([*parts, "</svg>"])


@dataclass(frozen=True, slots=True)
class _Plot:
    duration_s: float

    def x(self, at_s: float) -> float:
        share = min(max(at_s / self.duration_s, 0.0), 1.0)
        return round(LEFT_PX + share * (WIDTH_PX - LEFT_PX - RIGHT_PX), 1)

    def curve(self, done_s: Sequence[float]) -> list[str]:
        bin_s = max(1.0, round(self.duration_s / 600))
        counts = Counter(int(at_s // bin_s) for at_s in done_s)
        most = max(counts.values(), default=1) / bin_s
        bottom = TOP_PX + CURVE_PX
        points = [f"{self.x(0)},{bottom}"]
        for number in range(int(self.duration_s // bin_s) + 1):
            y = round(bottom - counts[number] / bin_s / most * CURVE_PX, 1)
            points.append(f"{self.x(number * bin_s)},{y} {self.x((number + 1) * bin_s)},{y}")
        points.append(f"{self.x(self.duration_s)},{bottom}")
        lines = []
        for share in (0.25, 0.5, 0.75, 1.0):
            y = bottom - share * CURVE_PX
            lines.append(
                f'<path d="M{LEFT_PX} {y}H{WIDTH_PX - RIGHT_PX}" stroke="#ddd"/>'
                f'<text x="{LEFT_PX - 8}" y="{y + 4}" text-anchor="end">{share * most:.0f}</text>'
            )
        label = f'<text x="10" y="{TOP_PX + 60}">done a second</text>'
        area = f'<polygon points="{" ".join(points)}" fill="#9ecae1" stroke="#3182bd"/>'
        return [*lines, label, area]

    def axis(self, y: float) -> list[str]:
        steps = (5, 10, 30, 60, 120, 300, 600, 1800)
        step = next((each for each in steps if self.duration_s / each <= 16), 3600)
        return [
            f'<path d="M{self.x(at_s)} {y}v5" stroke="#222"/><text x="{self.x(at_s)}" '
            f'y="{y + 18}" text-anchor="middle">{at_s // 60}:{at_s % 60:02d}</text>'
            for at_s in range(0, int(self.duration_s) + 1, step)
        ]

    def row(self, kind: str, marks: Sequence[Mark], y: float) -> list[str]:
        colour = COLOURS[kind]
        label = f"{kind} ({len(marks)})"
        parts = [
            f'<text x="{LEFT_PX - 8}" y="{y + 12}" text-anchor="end">{escape(label)}</text>',
            f'<path d="M{LEFT_PX} {y + 8}H{WIDTH_PX - RIGHT_PX}" stroke="#eee"/>',
        ]
        for mark in marks:
            x, width = self.x(mark.begin_s), self.x(mark.end_s) - self.x(mark.begin_s)
            parts.append(
                f'<rect x="{x}" y="{y + 2}" width="{max(round(width, 1), 2)}" height="12" '
                f'fill="{colour}"/>'
            )
        return parts
