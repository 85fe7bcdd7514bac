"""What the renderer does not draw as browsers do: mended where that is simple, else told."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Final

from imgserve.picture_warnings import WarningCollector, WarningName

ANIMATIONS: Final = frozenset(
    {"animate", "animateTransform", "animateMotion", "animateColor", "set"}
)
TEXT_ELEMENTS: Final = frozenset({"text", "tspan", "textPath"})
# Unicode, Emoji_Presentation by and large: pictographs, flags, and what a selector makes one.
EMOJI: Final = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b50\u2b55]\ufe0f|[\U0001f1e6-\U0001faff]"
)
OTHER_END: Final = {"start": "end", "end": "start"}
_ANCHOR: Final = re.compile(r"(?:^|;)\s*text-anchor\s*:\s*([a-z]+)")
_VERTICAL: Final = re.compile(r"(?:^|;)\s*writing-mode\s*:\s*(?:tb|vertical)")
_DIRECTION: Final = re.compile(r"(?:^|;)\s*direction\s*:\s*([a-z]+)")


def tell_limits(root: ET.Element, warnings: WarningCollector) -> None:
    """Mend the direction of texts in place, and warn of what is not drawn.

    Args:
        root: of a document whose styles are resolved.
        warnings: takes what a browser would show otherwise.
    """
    replaced = {
        child
        for element in root.iter()
        if _local(element) == "switch" and len(element) > 1
        for child in element
    }
    _turn_texts(root, "ltr", "start")
    for element in root.iter():
        name = _local(element)
        if name == "foreignObject" and element not in replaced and len(element):
            warnings.add(
                WarningName.ELEMENT_NOT_DRAWN, "HTML inside the SVG (foreignObject) is not drawn"
            )
        elif name in ANIMATIONS:
            warnings.add(WarningName.ANIMATION_NOT_KEPT, "the SVG is drawn without its animations")
        elif name == "text" and EMOJI.search("".join(element.itertext())):
            warnings.add(
                WarningName.TEXT_NOT_DRAWN,
                "emoji are drawn only where a font has them in outlines, and may change the font "
                "of the text around them",
            )


def _turn_texts(element: ET.Element, direction: str, anchor: str) -> None:
    """Turn anchors round in text from right to left: the renderer places all as from the left."""
    style = element.get("style", "")
    direction = _value(element, style, "direction", _DIRECTION) or direction
    if _VERTICAL.search(f"{style};writing-mode:{element.get('writing-mode', '')}"):
        direction = "ltr"  # of lines from top to bottom the start is the same
    own_anchor = _value(element, style, "text-anchor", _ANCHOR)
    anchor = own_anchor or anchor
    if direction == "rtl" and _local(element) in TEXT_ELEMENTS and anchor in OTHER_END:
        turned = OTHER_END[anchor]
        if own_anchor or _local(element) == "text":
            element.set("text-anchor", turned)
            if _ANCHOR.search(style):
                element.set("style", _ANCHOR.sub(f";text-anchor:{turned}", style))
    for child in element:
        _turn_texts(child, direction, anchor)


def _value(element: ET.Element, style: str, name: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(style)
    return found[1] if found else element.get(name, "").strip()


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
