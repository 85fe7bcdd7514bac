"""Warnings of a picture: what of a source was not drawn or not kept, though the job is done.

A pixel process finds them; they travel with the result through the worker and the broker to
whoever asks for the job's outcome. docs/fidelity.md says when each of them comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

WARNINGS_LIMIT: Final = 8
"""Warnings of one job: what is wrong with a picture in words, not a list of its elements."""

DETAIL_LIMIT_CHARS: Final = 200


class WarningName(StrEnum):
    """Stable names for programs; the detail beside each is for people."""

    SOURCE_DAMAGED = "source_damaged"
    IMAGE_NOT_DRAWN = "image_not_drawn"
    TEXT_NOT_DRAWN = "text_not_drawn"
    ELEMENT_NOT_DRAWN = "element_not_drawn"
    STYLE_NOT_APPLIED = "style_not_applied"
    COLOR_NOT_CONVERTED = "color_not_converted"
    ANIMATION_NOT_KEPT = "animation_not_kept"


class PictureWarning(NamedTuple):
    """One warning, as it travels."""

    name: str
    detail: str

    def as_json(self) -> dict[str, str]:
        """Return it as programs read it."""
        return {"warning": self.name, "detail": self.detail}


class WarningCollector:
    """Collects the warnings of one job, each once, and of each name the first few details."""

    def __init__(self) -> None:
        self._found: dict[PictureWarning, None] = {}

    def add(self, name: WarningName, detail: str) -> None:
        """Note one; further ones beyond the limit are left out.

        Args:
            name: what kind it is.
            detail: one sentence; what is not printable in it is replaced.
        """
        if len(self._found) < WARNINGS_LIMIT:
            shown = "".join(char if char.isprintable() else "?" for char in detail)
            self._found[PictureWarning(name, shown[:DETAIL_LIMIT_CHARS])] = None

    def __iter__(self) -> Iterator[PictureWarning]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
