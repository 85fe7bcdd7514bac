"""Requests for pixel work, made short."""

from __future__ import annotations

import numpy as np
from PIL import Image

from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels import PixelSettings, Text
from imgserve.worker.pixels.frames import PixelOperation, Request
from imgserve.worker.pixels.resize import resize
from tests.support import images

SETTINGS = PixelSettings(processes=1)


def request(
    operation: PixelOperation,
    kind: ImageKind,
    width_px: int = 0,
    height_px: int = 0,
    *,
    text: Text = Text.PROCESSING,
    renderer: Renderer = Renderer.RESVG,
) -> Request:
    """Make a request as the pool would."""
    return Request(
        operation=operation,
        kind=kind,
        width_px=width_px,
        height_px=height_px,
        text=text,
        renderer=renderer,
    )


def resized(
    data: bytes,
    kind: ImageKind,
    width_px: int,
    height_px: int,
    settings: PixelSettings = SETTINGS,
) -> Image.Image:
    """Resize in this process and decode the result."""
    asked = request(PixelOperation.RESIZE, kind, width_px, height_px)
    return images.decoded(resize(data, asked, settings, WarningCollector()))


def painted(source: tuple[int, int], result: tuple[int, int]) -> np.ndarray:
    """Paint what a resized scene must look like: the scene's own formula at the result's pixels.

    Nothing is resampled here; the crop is worked out anew from the contract's words.
    """
    (source_width, source_height), (width, height) = source, result
    scale = min(source_width / width, source_height / height)
    left = (source_width - width * scale) / 2
    top = (source_height - height * scale) / 3
    x = ((left + (np.arange(width) + 0.5) * scale) - 0.5) / (source_width - 1)
    y = ((top + (np.arange(height) + 0.5) * scale) - 0.5) / (source_height - 1)
    x, y = x[None, :], y[:, None]
    red = 40 + 170 * x + 0 * y
    green = 30 + 190 * y + 0 * x
    blue = 128 + 90 * np.sin(5 * x + 1) * np.cos(4 * y)
    return np.stack([red, green, blue], axis=-1)


def difference(image: Image.Image, expected: np.ndarray) -> tuple[float, float]:
    """Give the largest mean shift of a channel and the largest difference of a pixel, in levels.

    The outermost pixels are left out: resampling has nothing beyond them.
    """
    delta = (np.asarray(image, dtype=float) - expected)[2:-2, 2:-2]
    return float(np.abs(delta.mean(axis=(0, 1))).max()), float(np.abs(delta).max())
