"""The families of the installed fonts, and which of them stand for the generic ones.

resvg drops text silently when no family fits, so the generic families are always mapped to ones
that exist, and a file with text is refused where there is no font at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

from imgserve.worker.pixels.fonts import FontsSeen, font_files, see_files

# The first that is installed is taken; metric twins of the usual defaults come first.
PREFERRED = {
    "serif": ("Times New Roman", "Liberation Serif", "DejaVu Serif", "Noto Serif"),
    "sans-serif": ("Arial", "Liberation Sans", "DejaVu Sans", "Noto Sans"),
    "monospace": ("Courier New", "Liberation Mono", "DejaVu Sans Mono", "Noto Sans Mono"),
    "cursive": ("Comic Sans MS", "Comic Neue"),
    "fantasy": ("Impact",),
}


class FontsChanged(Exception):
    """Raised when a font is no longer the file that it was when this process was locked."""


@dataclass(frozen=True, slots=True)
class Fonts:
    """The fonts that a pixel process may read, and a family for each generic name."""

    files: tuple[str, ...]
    generic: dict[str, str]
    seen: FontsSeen = ()

    @property
    def largest_bytes(self) -> int:
        """The size of the largest file: what is mapped at once at most."""
        return max((size for _, _, _, size, _ in self.seen), default=0)

    def require_unchanged(self) -> None:
        """See whether the files are those that this process may read.

        A renderer that cannot open a font leaves the text out and says nothing.

        Raises:
            FontsChanged: when one was removed or replaced.
        """
        if see_files(self.files) != self.seen:
            raise FontsChanged(
                "the installed fonts changed while the image was worked on, and again when it "
                "was tried anew"
            )


def load_fonts(folders: Sequence[Path]) -> Fonts:
    """Read the family names of the fonts; fonts that cannot be read are left out."""
    files: list[str] = []
    families: dict[str, None] = {}
    paths = font_files(folders)
    seen = see_files(paths)  # before they are read
    for path in paths:
        try:
            family, _ = ImageFont.truetype(path, 16).getname()
        except (OSError, ValueError):
            continue
        files.append(path)
        if family:
            families[family] = None
    readable = frozenset(files)
    return Fonts(
        tuple(files),
        choose_generic(list(families)),
        tuple(file for file in seen if file[0] in readable),
    )


def choose_generic(families: Sequence[str]) -> dict[str, str]:
    """Map each generic name to an installed family; empty when there is none."""
    if not families:
        return {}
    chosen: dict[str, str] = {}
    for generic, preferred in PREFERRED.items():
        last_resort = chosen.get("sans-serif", families[0])
        chosen[generic] = next((name for name in preferred if name in families), last_resort)
    return chosen
