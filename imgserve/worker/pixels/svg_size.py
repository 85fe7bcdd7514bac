"""Give an SVG the viewport it is to be rendered in, as a browser does for <img width height>."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

from imgserve.worker.pixels.css_lengths import UNITS_PX

LENGTH = re.compile(
    r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)(px|pt|pc|mm|cm|in|q|r?em|ex|ch)?\s*",
    re.IGNORECASE,
)
# Of the root, relative to what a browser gives a document without a style.
RELATIVE_PX = {"em": 16.0, "rem": 16.0, "ex": 8.0, "ch": 8.0}
# CSS 2.2, 10.3.2 and 10.6.2: what stands for a missing width and height.
MISSING_PX = (300.0, 150.0)


def set_size(root: ET.Element, width_px: int, height_px: int) -> None:
    """Set the root's viewport; its viewBox and preserveAspectRatio then place the drawing.

    Without a viewBox browsers stretch the drawing's own size over the viewport, and so does this:
    as if there were a viewBox of that size with preserveAspectRatio="none". Where only one side has
    a length the other is 300 or 150 pixels. Without a size either, user units are pixels.
    """
    if not _has_view_box(root):
        root.attrib.pop("viewBox", None)
        width, height = _length_px(root.get("width")), _length_px(root.get("height"))
        if width or height:
            width, height = width or MISSING_PX[0], height or MISSING_PX[1]
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
    """Read a length; None for percentages, zero and nonsense."""
    match = LENGTH.fullmatch(text or "")
    if match is None:
        return None
    unit = (match[2] or "px").lower()
    length = float(match[1]) * (RELATIVE_PX.get(unit) or UNITS_PX[unit])
    return length if 0 < length < math.inf else None


def size_symbols(root: ET.Element) -> None:
    """Give each use of a symbol that has a size of its own that size, which renderers overlook.

    Source: SVG 2, 5.5: a width or height of the symbol counts where the use has none.
    """
    symbols = {
        element.get("id"): element for element in root.iter() if element.tag.endswith("}symbol")
    }
    sized = {
        name: symbol
        for name, symbol in symbols.items()
        if name and (symbol.get("width") or symbol.get("height"))
    }
    if not sized:
        return
    for element in root.iter():
        if not element.tag.endswith("}use"):
            continue
        address = element.get("href") or element.get("{http://www.w3.org/1999/xlink}href") or ""
        symbol = sized.get(address.strip().removeprefix("#"))
        if symbol is not None:
            for side in ("width", "height"):
                if not element.get(side) and symbol.get(side):
                    element.set(side, symbol.get(side, ""))
