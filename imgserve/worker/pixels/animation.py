"""Which frame of an animation its thumbnail shows: the first that shows anything."""

from __future__ import annotations

from typing import Final

from PIL.ImageFile import ImageFile

# A JPEG of several pictures is no animation.
ANIMATED: Final = frozenset({"GIF", "PNG"})
# Blank ones at the beginning are a loader's trick; each costs the decoding of a frame.
FRAMES_LIMIT: Final = 10
# A frame that covers less of the screen is a placeholder for what follows.
LEAST_SHARE: Final = 0.01


def is_animation(source: ImageFile) -> bool:
    """Tell whether there are several frames."""
    return source.format in ANIMATED and bool(getattr(source, "is_animated", False))


def seek_first_full_frame(source: ImageFile) -> None:
    """Go to the first frame that is neither blank nor a dot, if it is among the first.

    The default image of an APNG that is no part of its animation is left out, as browsers do.
    """
    start = 1 if getattr(source, "default_image", False) else 0
    for number in range(start, start + FRAMES_LIMIT):
        try:
            source.seek(number)
        except EOFError:
            break
        if not _is_blank(source):
            return
    source.seek(start)


def _is_blank(source: ImageFile) -> bool:
    if source.tell() == 0 and source.tile:
        box = source.tile[0].extents
        if box is not None:
            left, top, right, bottom = box
            area = (right - left) * (bottom - top)
            if area < LEAST_SHARE * source.width * source.height:
                return True
    if "transparency" not in source.info and source.mode not in ("RGBA", "LA", "PA"):
        return False
    alpha = source.convert("RGBA").getchannel("A")
    return bool(alpha.getextrema()[1] == 0)
