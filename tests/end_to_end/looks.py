"""What a result should look like, computed by another route than the service's."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def covered(pixels: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """Scale and crop as the contract says: centred across, one third of the surplus cut above.

    By exact area averages (sums over the box of each result pixel, fractions of pixels included),
    where the service filters by Lanczos.
    """
    source_height, source_width = pixels.shape[:2]
    scale = min(source_width / width_px, source_height / height_px)
    left = (source_width - width_px * scale) / 2
    top = (source_height - height_px * scale) / 3
    across = averages(pixels.astype(float), left, scale, width_px, axis=1)
    return averages(across, top, scale, height_px, axis=0)


def averages(pixels: np.ndarray, start: float, scale: float, count: int, axis: int) -> np.ndarray:
    """Average along an axis over `count` boxes of `scale` pixels from `start` on."""
    line = np.moveaxis(pixels, axis, 0)
    sums = np.concatenate([np.zeros((1, *line.shape[1:])), np.cumsum(line, axis=0)])
    edges = np.clip(start + scale * np.arange(count + 1), 0, len(line))
    whole = np.minimum(edges.astype(int), len(line) - 1)
    part = (edges - whole).reshape(-1, *[1] * (line.ndim - 1))
    at = sums[whole] + part * line[whole]
    return np.moveaxis(np.diff(at, axis=0) / scale, 0, axis)


def difference(data: bytes, expected: np.ndarray) -> float:
    """Return the mean absolute difference of a picture's levels from those expected."""
    mode = "RGBA" if expected.shape[2] == 4 else "RGB"
    with Image.open(io.BytesIO(data)) as image:
        seen = np.asarray(image.convert(mode), dtype=float)
    assert seen.shape == expected.shape
    return float(np.abs(seen - expected).mean())


def form(data: bytes) -> tuple[str, tuple[int, int]]:
    """Return a picture's format and size."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.format or "", image.size


def is_placeholder(data: bytes, kind: str, size: tuple[int, int]) -> bool:
    """Whether this is a placeholder: of that format and size, white, with a little grey text."""
    if form(data) != (kind, size):
        return False
    with Image.open(io.BytesIO(data)) as image:
        levels = np.asarray(image.convert("RGB"), dtype=int)
    grey = int((levels.max(axis=2) - levels.min(axis=2)).max()) < 8
    edges = (levels[0], levels[-1], levels[:, 0], levels[:, -1])
    inked = float((levels[..., 0] < 200).mean())
    return grey and min(int(edge.min()) for edge in edges) > 240 and 0.002 < inked < 0.3
