"""Resizing keeps what a picture is made of: channels, depth, alpha, palette and profile."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from imgserve.request import ImageKind
from tests.support import images
from tests.worker.pixels.asking import difference, painted, resized

SOURCE, RESULT = (200, 150), (50, 30)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "LA"),
        ("P", "RGB"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("I;16", "I;16"),
    ],
)
def test_png_keeps_its_channels(stored, expected):
    """Greyscale stays grey, alpha stays, 16-bit grey stays; palettes and bits get in-betweens."""
    image = resized(images.png(*SOURCE, stored), ImageKind.PNG, *RESULT)
    assert image.mode == expected
    assert image.size == RESULT


def test_sixteen_bit_grey_keeps_its_depth():
    """16-bit grey comes out with its levels, not with 8 of its bits."""
    image = resized(images.png(*SOURCE, "I;16"), ImageKind.PNG, *RESULT)
    grey = painted(SOURCE, RESULT) @ [0.299, 0.587, 0.114] * 257
    delta = (np.asarray(image, float) - grey)[2:-2, 2:-2]
    assert np.abs(delta).max() < 1.5 * 257
    assert len(np.unique(np.asarray(image) % 257)) > 50


def test_sixteen_bit_color():
    """16-bit RGB, which Pillow reads as 8-bit, is resized to 8-bit RGB."""
    image = resized(images.rgb16_png(*SOURCE), ImageKind.PNG, *RESULT)
    assert image.mode == "RGB"
    assert difference(image, painted(SOURCE, RESULT))[0] <= 0.7


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_hidden_colors_do_not_bleed(mode):
    """Beside a red that is fully transparent, white stays white: alpha is premultiplied."""
    pixels = np.zeros((120, 120, 4), np.uint8)
    pixels[:, :, :3] = (255, 0, 0)
    pixels[:, 61:] = 255
    data = images.encode(Image.fromarray(pixels).convert(mode), "PNG")
    image = resized(data, ImageKind.PNG, 20, 20)
    seen = np.asarray(image.convert("RGBA")).astype(int)
    edge = seen[:, 10]
    assert ((edge[:, 3] > 0) & (edge[:, 3] < 255)).all()
    assert seen[seen[:, :, 3] > 8][:, :3].min() >= 250


def test_alpha_is_resampled():
    """Alpha falls from left to right in the result as in the source."""
    image = resized(images.png(*SOURCE, "RGBA"), ImageKind.PNG, *RESULT)
    expected = 255 * (1 - ((np.arange(50) + 0.5) * 4 - 0.5) / 199)
    assert np.abs(np.asarray(image)[15, 2:-2, 3] - expected[2:-2]).max() <= 1.5


@pytest.mark.parametrize(
    ("mode", "key", "expected"), [("RGB", (255, 0, 0), "RGBA"), ("L", 7, "LA"), ("I;16", 999, "LA")]
)
def test_transparent_color_becomes_alpha(mode, key, expected):
    """A PNG whose transparency is one colour comes out with alpha, clear where that colour was."""
    pixels = np.array(images.picture(120, 120, mode))
    pixels[:, :60] = key
    data = images.encode(Image.fromarray(pixels), "PNG", transparency=key)
    result = resized(data, ImageKind.PNG, 20, 20)
    assert result.mode == expected
    alpha = np.asarray(result.getchannel("A"))
    assert alpha[:, :9].max() <= 2
    assert alpha[:, 11:].min() >= 253


def test_palette_png_with_transparency():
    """A palette PNG with a transparent entry comes out as RGBA."""
    image = images.picture(120, 120, "P")
    image.paste(63, (0, 0, 60, 120))
    result = resized(images.encode(image, "PNG", transparency=63), ImageKind.PNG, 20, 20)
    assert result.mode == "RGBA"
    assert np.asarray(result)[:, :9, 3].max() <= 8


def test_gif_keeps_its_transparency():
    """A transparent half of a GIF is transparent in the result, and the rest keeps its colours."""
    result = resized(images.gif_with_hole(*SOURCE), ImageKind.GIF, *RESULT)
    assert result.mode == "P"
    assert "transparency" in result.info
    seen = np.asarray(result.convert("RGBA")).astype(float)
    assert seen[:, :24, 3].max() == 0
    assert seen[:, 26:, 3].min() == 255
    delta = (seen[:, :, :3] - painted(SOURCE, RESULT))[2:-2, 27:-2]
    assert np.abs(delta.mean(axis=(0, 1))).max() < 6


def test_grey_gif_stays_grey():
    """A GIF of greys comes out as a GIF of greys."""
    result = resized(
        images.encode(images.picture(*SOURCE, "L"), "GIF"), ImageKind.GIF, *RESULT
    ).convert("RGB")
    channels = np.asarray(result)
    assert (channels[:, :, 0] == channels[:, :, 2]).all()


@pytest.mark.parametrize(("kind", "make"), [("jpeg", images.jpeg), ("png", images.png)])
def test_profile_is_kept(kind, make):
    """An ICC profile that fits the result goes with it, byte for byte."""
    profile = images.srgb_profile()
    result = resized(make(*SOURCE, icc_profile=profile), ImageKind(kind), *RESULT)
    assert result.info["icc_profile"] == profile


def test_profile_of_other_channels_is_dropped():
    """A profile for RGB in a greyscale file would only mislead."""
    data = images.jpeg(*SOURCE, "L", icc_profile=images.srgb_profile())
    assert "icc_profile" not in resized(data, ImageKind.JPEG, *RESULT).info


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("png", "PNG"), ("gif", "GIF")])
def test_metadata_is_dropped(kind, name):
    """Comments, EXIF and XMP do not reach the result."""
    options = {
        "JPEG": {"comment": b"secret", "exif": images.exif(1), "xmp": b"secret"},
        "PNG": {"exif": images.exif(1)},
        "GIF": {"comment": b"secret"},
    }[name]
    picture = images.picture(*SOURCE)
    data = images.encode(picture.quantize(64) if name == "GIF" else picture, name, **options)
    result = resized(data, ImageKind(kind), *RESULT)
    assert not {"comment", "exif", "xmp"} & set(result.info)


def test_cmyk_without_profile():
    """A CMYK JPEG becomes RGB by plain subtraction."""
    image = resized(images.jpeg(*SOURCE, "CMYK"), ImageKind.JPEG, *RESULT)
    assert image.mode == "RGB"
    assert difference(image, painted(SOURCE, RESULT))[0] <= 2.5


def test_cmyk_goes_through_its_profile():
    """A CMYK JPEG with a profile comes out as littleCMS says, not as plain subtraction says."""
    profile = images.cmyk_profile()
    data = images.jpeg(*SOURCE, "CMYK", icc_profile=profile)
    image = resized(data, ImageKind.JPEG, *RESULT)
    assert image.mode == "RGB"
    assert "icc_profile" not in image.info
    plain = resized(images.jpeg(*SOURCE, "CMYK"), ImageKind.JPEG, *RESULT)
    expected = ImageCms.profileToProfile(
        images.picture(*SOURCE, "CMYK"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    middle = np.asarray(expected, float)[40:110, 50:150].mean(axis=(0, 1))
    seen = np.asarray(image, float)[7:21, 12:38].mean(axis=(0, 1))
    plainly = np.asarray(plain, float)[7:21, 12:38].mean(axis=(0, 1))
    assert np.abs(seen - middle).max() < 8
    assert np.abs(seen - plainly).max() > 20


def test_broken_cmyk_profile_is_ignored():
    """A profile that claims CMYK and cannot be read leaves the plain conversion."""
    broken = b"\0" * 16 + b"CMYK" + b"\0" * 108
    data = images.jpeg(*SOURCE, "CMYK", icc_profile=broken)
    assert resized(data, ImageKind.JPEG, *RESULT).mode == "RGB"
