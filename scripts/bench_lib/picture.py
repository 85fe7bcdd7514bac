"""Pictures to measure with: made by code, with the statistics of a photo."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SEED = 7


def photo(width_px: int, height_px: int) -> Image.Image:
    """Return an RGB picture whose amplitudes fall as 1/f, as those of natural images do.

    Source: D. J. Field, Relations between the statistics of natural images and the response
    properties of cortical cells, JOSA A 4 (1987).
    """
    random = np.random.default_rng(SEED)
    frequency_y = np.fft.fftfreq(height_px)[:, None]
    frequency_x = np.fft.rfftfreq(width_px)[None, :]
    falloff = 1 / np.maximum(np.hypot(frequency_y, frequency_x), 1 / max(width_px, height_px))
    shared = _field(random, falloff, (height_px, width_px))
    channels = [0.8 * shared + 0.2 * _field(random, falloff, shared.shape) for _ in range(3)]
    pixels = np.clip(128 + 24 * np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels, "RGB")


def _field(random: np.random.Generator, falloff: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    noise = np.fft.rfft2(random.standard_normal(shape)) * falloff
    field = np.fft.irfft2(noise, s=shape)
    return field / field.std()


def jpeg(width_px: int, height_px: int, *, size_bytes: int | None = None) -> bytes:
    """Return a photo as JPEG: quality 85, or the quality that comes nearest to a size."""
    picture = photo(width_px, height_px)
    if size_bytes is None:
        return _encoded(picture, 85)
    return min(
        (_encoded(picture, quality) for quality in range(40, 100, 5)),
        key=lambda data: abs(len(data) - size_bytes),
    )


def _encoded(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(width_px: int, height_px: int) -> bytes:
    """Return a photo as PNG."""
    buffer = io.BytesIO()
    photo(width_px, height_px).save(buffer, "PNG")
    return buffer.getvalue()
