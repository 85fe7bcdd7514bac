"""Pixel modes: what a source becomes for resampling, and what its colours become after it."""

from __future__ import annotations

import io

from PIL import Image, ImageCms
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile

from imgserve.worker.pixels.damage import DamageReport, load

# What Pillow can resample well as it is.
READY = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "I;16"})
WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
# ICC.1:2022, 7.2.6: the colour space of the data, at byte 16 of a profile.
PROFILE_SPACES = {
    "L": b"GRAY",
    "LA": b"GRAY",
    "I;16": b"GRAY",
    "RGB": b"RGB ",
    "RGBA": b"RGB ",
    "CMYK": b"CMYK",
}


def resampling_mode(source: ImageFile, data: bytes, report: DamageReport) -> Image.Image:
    """Load the picture and give it a mode that can be resampled without loss.

    Palettes and single bits have no values in between; a transparent colour must become alpha
    before its neighbours are mixed into it.
    """
    covered = first_frame_box(source)
    loaded = load(source, data, report)
    if covered is not None:
        return _on_clear_screen(source, covered)
    if loaded is not source:
        return loaded
    transparent = "transparency" in source.info
    if source.mode == "1":
        return source.convert("LA" if transparent else "L")
    if source.mode in ("P", "PA"):
        return source.convert("RGBA" if transparent or source.mode == "PA" else "RGB")
    if transparent and source.mode == "I;16":
        return _clear_color(source, source.info["transparency"])
    mode = WITH_ALPHA.get(source.mode, source.mode) if transparent else source.mode
    mode = mode if mode in READY else "RGB"
    return source if mode == source.mode else source.convert(mode)


def first_frame_box(source: Image.Image) -> tuple[int, int, int, int] | None:
    """Give the part of a GIF's screen that its first frame covers, when it is only a part.

    Ask before loading: the tiles are gone then.
    """
    if not isinstance(source, GifImageFile) or not source.tile or source.tell():
        return None
    box = source.tile[0].extents
    return None if box in (None, (0, 0, *source.size)) else box


def _on_clear_screen(source: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Make all but the box transparent, as browsers show it: Pillow fills it with colour 0.

    Only the box is converted: a small file may claim a screen of 100 MP.
    """
    shown = Image.new("RGBA", source.size)
    shown.paste(source.crop(box).convert("RGBA"), box)
    return shown


def _clear_color(source: Image.Image, value: int) -> Image.Image:
    """Make the 16-bit grey `value` transparent; the rest keeps its upper 8 bits, as LA has 8."""
    grey = source.convert("I")
    alpha = [255] * 65_536
    alpha[value] = 0
    image = grey.point([level >> 8 for level in range(65_536)], "L")
    image.putalpha(grey.point(alpha, "L"))
    return image


def color_to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Turn CMYK into RGB, through the profile where there is one; keep fitting profiles.

    Returns:
        The image, and the profile that describes it: none once it has become sRGB.
    """
    fits = profile is not None and profile[16:20] == PROFILE_SPACES.get(image.mode)
    if image.mode != "CMYK":
        return image, profile if fits else None
    if profile is not None and fits:
        try:
            return _through_profile(image, profile), None
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken profile: the plain conversion is what viewers show then
    return image.convert("RGB"), None


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.PERCEPTUAL,
        outputMode="RGB",
    )
    if converted is None:  # only when it is converted in place
        raise ValueError("no image came out of the colour transform")
    return converted
