"""Resize: scale and crop a picture to exactly the size asked for, in the source's own format."""

from __future__ import annotations

from PIL import Image

from imgserve.errors import SourceTooSmall
from imgserve.worker.pixels.decode import open_source, orientation_of
from imgserve.worker.pixels.encode import encode
from imgserve.worker.pixels.frames import Request
from imgserve.worker.pixels.geometry import Box, Size, cover_box, stored_box, turned
from imgserve.worker.pixels.modes import color_to_rgb, resampling_mode
from imgserve.worker.pixels.settings import PixelSettings

# EXIF orientation: what to do with the pixels as stored to see them as meant.
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PREMULTIPLIED = {"LA": "La", "RGBA": "RGBa"}
# Twice the target leaves the resampler enough to work on, at a quarter of the cost of more.
SHRINK_GAP = 2


def resize(data: bytes, asked: Request, settings: PixelSettings) -> bytes:
    """Scale and crop to exactly the asked size.

    Args:
        data: a whole PNG, GIF or JPEG.
        asked: its kind and the result's size in pixels.
        settings: the limits.

    Returns:
        The result in the source's format: EXIF orientation applied, ICC profile and alpha kept,
        other metadata dropped.

    Raises:
        SourceTooSmall: when the source is smaller in either direction.
        SourceTooManyPixels: when it is over the limit.
        PixelsFailed: when it cannot be decoded.
    """
    result = Size(asked.width_px, asked.height_px)
    source = open_source(data, asked.kind, settings)
    orientation = orientation_of(source)
    shown = turned(Size(*source.size), orientation)
    require_downscaling(shown, result)
    box = stored_box(cover_box(shown, result), shown, orientation)
    stored_result = turned(result, orientation)
    box = shrink_on_load(source, box, stored_result)
    image, info = resampling_mode(source), source.info
    # Each copy that is let go is 4 bytes a pixel: 400 MB for the largest pictures.
    del source
    mode = image.mode
    if mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[mode])
    image = resample(image, stored_result, box, mode)
    if orientation in TRANSPOSE:
        image = image.transpose(TRANSPOSE[orientation])
    image, profile = color_to_rgb(image, info.get("icc_profile"))
    return encode(image, asked.kind, quality=asked.quality, profile=profile)


def require_downscaling(shown: Size, result: Size) -> None:
    """Refuse a source that would have to grow."""
    if shown.width_px < result.width_px or shown.height_px < result.height_px:
        raise SourceTooSmall(
            f"the source is {shown.width_px}x{shown.height_px} pixels; "
            f"at least {result.width_px}x{result.height_px} are needed"
        )


def shrink_on_load(source: Image.Image, box: Box, result: Size) -> Box:
    """Have libjpeg decode at 1/2, 1/4 or 1/8 where that leaves enough, and scale the box.

    libjpeg leaves the high frequencies out of the inverse DCT, so that most of the decoding that
    would be thrown away is never done. Other formats load whole.
    """
    width, height = source.size
    drafted = source.draft(
        source.mode, (result.width_px * SHRINK_GAP, result.height_px * SHRINK_GAP)
    )
    if drafted is None:
        return box
    _, (_, _, drafted_width, drafted_height) = drafted
    across, down = drafted_width / width, drafted_height / height
    return Box(box.left * across, box.top * down, box.right * across, box.bottom * down)


def resample(image: Image.Image, result: Size, box: Box, mode: str) -> Image.Image:
    """Resample the box to the result with Lanczos, and give it the mode.

    Alpha comes premultiplied, or colours that cannot be seen would bleed over the edges. Pillow
    would do so itself, but forgets the gap then.
    """
    # Pillow cannot shrink 16-bit grey in whole steps first.
    gap = None if mode == "I;16" else float(SHRINK_GAP)
    small = image.resize(result, Image.Resampling.LANCZOS, box=box, reducing_gap=gap)
    return small.convert(mode) if mode in PREMULTIPLIED else small
