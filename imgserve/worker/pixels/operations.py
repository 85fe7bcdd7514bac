"""The table of operations: what a pixel process does for each number in a frame."""

from __future__ import annotations

from collections.abc import Callable

from imgserve.worker.pixels.frames import PixelOperation, Request
from imgserve.worker.pixels.placeholder import placeholder
from imgserve.worker.pixels.resize import resize
from imgserve.worker.pixels.settings import PixelSettings

OPERATIONS: dict[PixelOperation, Callable[[bytes, Request, PixelSettings], bytes]] = {
    PixelOperation.RESIZE: resize,
    PixelOperation.PLACEHOLDER: placeholder,
}


def warm_up(settings: PixelSettings) -> None:
    """Load whatever is loaded lazily; once locked, nothing more can be."""
