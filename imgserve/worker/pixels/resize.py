"""Resize: scale and crop a picture to exactly the size asked for, in the source's own format."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from imgserve.errors import PixelsFailed, SourceTooSmall
from imgserve.picture_warnings import WarningCollector, WarningName
from imgserve.request import ImageKind
from imgserve.worker.pixels.animation import is_animation, seek_first_full_frame
from imgserve.worker.pixels.damage import DamageReport
from imgserve.worker.pixels.decode import compares_upper_bits, open_source, orientation_of
from imgserve.worker.pixels.encode import encode
from imgserve.worker.pixels.frames import Request
from imgserve.worker.pixels.geometry import Box, Size, cover_box, stored_box, turned
from imgserve.worker.pixels.modes import color_to_rgb, resampling_mode
from imgserve.worker.pixels.png_color import png_color, to_srgb
from imgserve.worker.pixels.repair import jpeg_endings, jpeg_lacks_its_end
from imgserve.worker.pixels.settings import Damaged, PixelSettings

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


def resize(
    data: bytes, asked: Request, settings: PixelSettings, warnings: WarningCollector
) -> bytes:
    """Scale and crop to exactly the asked size.

    Args:
        data: a whole PNG, GIF or JPEG.
        asked: its kind and the result's size in pixels.
        settings: the limits.
        warnings: takes what of the source the result does not show.

    Returns:
        The result in the source's format: EXIF orientation applied, ICC profile and alpha kept,
        other metadata dropped.

    Raises:
        SourceTooSmall: when the source is smaller in either direction.
        SourceTooManyPixels: when it is over the limit.
        PixelsFailed: when it cannot be decoded.
    """
    if asked.kind is ImageKind.JPEG and jpeg_lacks_its_end(data):
        return resize_without_end(data, asked, settings, warnings)
    return resize_whole(data, asked, settings, warnings)


def resize_without_end(
    data: bytes, asked: Request, settings: PixelSettings, warnings: WarningCollector
) -> bytes:
    """Resize a JPEG that lacks its end marker, if every pixel is there.

    Raises:
        PixelsFailed: when pixels are missing: what follows the data then changes the picture.
    """
    whole, filled = jpeg_endings(data)
    result = resize_whole(whole, asked, settings, warnings)
    # What the filler makes a decoder say is not of the source.
    lenient = replace(settings, damaged=Damaged.WARN)
    if result != resize_whole(filled, asked, lenient, WarningCollector()):
        raise PixelsFailed("the JPEG is truncated: its last pixels are missing")
    return result


def resize_whole(
    data: bytes, asked: Request, settings: PixelSettings, warnings: WarningCollector
) -> bytes:
    """Do the work of `resize` on a file that is whole."""
    result = Size(asked.width_px, asked.height_px)
    source = open_source(data, asked.kind, settings)
    orientation = orientation_of(source)
    if compares_upper_bits(source, data):
        warnings.add(
            WarningName.COLOR_NOT_CONVERTED,
            "the transparent colour is compared with others in its upper 8 bits alone",
        )
    if is_animation(source):
        warnings.add(WarningName.ANIMATION_NOT_KEPT, "the result has one frame alone")
        seek_first_full_frame(source)
    shown = turned(Size(*source.size), orientation)
    require_downscaling(shown, result)
    box = stored_box(cover_box(shown, result), shown, orientation)
    stored_result = turned(result, orientation)
    box, whole = shrink_on_load(source, box, stored_result)
    report = DamageReport(Damaged(settings.damaged), warnings)
    image, info = resampling_mode(source, data, report), source.info
    if image.size != whole:
        image = image.crop((0, 0, *whole))
    # Each copy that is let go is 4 bytes a pixel: 400 MB for the largest pictures.
    del source
    mode = image.mode
    if mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[mode])
    image = resample(image, stored_result, box, mode)
    if orientation in TRANSPOSE:
        image = image.transpose(TRANSPOSE[orientation])
    color = png_color(data, warnings) if asked.kind is ImageKind.PNG else None
    own_profile = None if color and color.instead_of_profile else info.get("icc_profile")
    image, profile = color_to_rgb(image, own_profile)
    if color is not None:
        image = to_srgb(image, color)
    return encode(image, asked.kind, quality=asked.quality, profile=profile)


def require_downscaling(shown: Size, result: Size) -> None:
    """Refuse a source that would have to grow."""
    if shown.width_px < result.width_px or shown.height_px < result.height_px:
        raise SourceTooSmall(
            f"the source is {shown.width_px}x{shown.height_px} pixels; "
            f"at least {result.width_px}x{result.height_px} are needed"
        )


def shrink_on_load(source: Image.Image, box: Box, result: Size) -> tuple[Box, Size]:
    """Have libjpeg decode at 1/2, 1/4 or 1/8 where that leaves enough, and scale the box.

    libjpeg leaves the high frequencies out of the inverse DCT, so that most of the decoding that
    would be thrown away is never done. Other formats load whole.

    Returns:
        The box in the picture as it will load, and that picture's size without the last column
        and row where they lie partly outside of the source: the encoder's padding shines through.
    """
    width, height = source.size
    drafted = source.draft(
        source.mode, (result.width_px * SHRINK_GAP, result.height_px * SHRINK_GAP)
    )
    if drafted is None:
        return box, Size(width, height)
    _, (_, _, drafted_width, drafted_height) = drafted
    across, down = drafted_width / width, drafted_height / height
    whole = Size(int(drafted_width), int(drafted_height))
    return (
        Box(
            box.left * across,
            box.top * down,
            min(box.right * across, whole.width_px),
            min(box.bottom * down, whole.height_px),
        ),
        whole,
    )


def resample(image: Image.Image, result: Size, box: Box, mode: str) -> Image.Image:
    """Resample the box to the result with Lanczos, and give it the mode.

    Alpha comes premultiplied, or colours that cannot be seen would bleed over the edges. Pillow
    would do so itself, but forgets the gap then.
    """
    # Pillow cannot shrink 16-bit grey in whole steps first.
    gap = None if mode == "I;16" else float(SHRINK_GAP)
    small = image.resize(result, Image.Resampling.LANCZOS, box=box, reducing_gap=gap)
    return small.convert(mode) if mode in PREMULTIPLIED else small
