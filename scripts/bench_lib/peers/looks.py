"""Whether a peer made the picture that imgserve makes, or did other work."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from bench_lib.report import BenchError

LIMIT = 7.0
"""Mean absolute difference, in steps of 255, up to which two pictures are the same. The photo is
full of detail: JPEG at quality 85 alone takes 3.6 away, and two encoders lose differently; libvips
comes to 5.5. A crop 2 pixels off makes 11, a blank picture 12."""
CONTRAST = 5.0
"""Standard deviation below which a picture is blank; the thumbnail of the photo has 16."""


def require_same(
    results: Sequence[bytes], jobs: int, reference: bytes, size: tuple[int, int], kind: str = "JPEG"
) -> float:
    """Look at every result of a round.

    Args:
        results: encoded pictures.
        jobs: how many there should be.
        reference: the right picture, encoded.
        size: (width, height) in pixels.
        kind: the format.

    Returns:
        The largest mean absolute difference from the reference.

    Raises:
        BenchError: when a job is missing, or a picture is not the right one.
    """
    if len(results) != jobs:
        raise BenchError(f"{jobs} jobs left {len(results)} results")
    right = pixels(reference, size, kind)
    # The same bytes, as most results are, need one look only.
    return max(_difference(each, right, size, kind) for each in set(results))


def _difference(data: bytes, right: np.ndarray, size: tuple[int, int], kind: str) -> float:
    own = pixels(data, size, kind)
    if own.std() < CONTRAST:
        raise BenchError("a result is blank")
    difference = float(np.abs(own - right).mean())
    if difference > LIMIT:
        raise BenchError(f"a result differs from the right one by {difference:.1f} of 255 a pixel")
    return difference


def pixels(data: bytes, size: tuple[int, int], kind: str) -> np.ndarray:
    """Decode a result to RGB, refusing another size or format."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format != kind or image.size != size:
                made = f"{image.format} of {image.width}x{image.height}"
                raise BenchError(f"a result is a {made} and not a {kind} of {size[0]}x{size[1]}")
            return np.asarray(image.convert("RGB"), dtype=np.float32)
    except OSError as error:
        raise BenchError(f"a result is no picture: {error}") from error


def centred(source: bytes, width_px: int, height_px: int) -> bytes:
    """Cut rows off the top so that imgserve's crop, a third from there, is the whole's middle.

    The source is too tall for the size by s rows. With c of them cut away, (s - c) / 3 lie above
    the crop; with c = s / 4 those, and the rows cut, are s / 2.
    """
    with Image.open(io.BytesIO(source)) as image:
        spare_px = image.height - image.width * height_px / width_px
        cut = image.crop((0, round(spare_px / 4), image.width, image.height))
        buffer = io.BytesIO()
        cut.save(buffer, "JPEG", quality=97)
    return buffer.getvalue()
