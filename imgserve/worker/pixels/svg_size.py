"""Give an SVG the viewport it is to be rendered in, as a browser does for <img width height>."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

LENGTH = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)(px|pt|pc|mm|cm|in|Q)?\s*")
# CSS Values 4, 6.2: absolute units in px.
UNITS_PX = {
    "px": 1.0,
    "pt": 96 / 72,
    "pc": 16.0,
    "in": 96.0,
    "cm": 96 / 2.54,
    "mm": 96 / 25.4,
    "Q": 96 / 101.6,
}


def set_size(root: ET.Element, width_px: int, height_px: int) -> None:
    """Set the root's viewport; its viewBox and preserveAspectRatio then place the drawing.

    Without a viewBox browsers stretch the drawing's own size over the viewport, and so does this:
    as if there were a viewBox of that size with preserveAspectRatio="none". Without a size
    either, user units are pixels.
    """
    if not _has_view_box(root):
        root.attrib.pop("viewBox", None)
        width, height = _length_px(root.get("width")), _length_px(root.get("height"))
        if width and height:
            root.set("viewBox", f"0 0 {width:.9g} {height:.9g}")
            root.set("preserveAspectRatio", "none")
    root.set("width", str(width_px))
    root.set("height", str(height_px))


def _has_view_box(root: ET.Element) -> bool:
    numbers = re.split(r"[\s,]+", root.get("viewBox", "").strip())
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        return False
    return len(values) == 4 and all(map(math.isfinite, values)) and min(values[2:]) > 0


def _length_px(text: str | None) -> float | None:
    """Read an absolute length; None for relative ones, zero and nonsense."""
    match = LENGTH.fullmatch(text or "")
    if match is None:
        return None
    length = float(match[1]) * UNITS_PX[match[2] or "px"]
    return length if 0 < length < math.inf else None
