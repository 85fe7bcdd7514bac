"""Resizing: crop, size, orientation, limits and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imgserve.errors import CodedError, PixelsFailed, SourceTooManyPixels, SourceTooSmall
from imgserve.request import ImageKind
from imgserve.worker.pixels import PixelSettings
from imgserve.worker.pixels.decode import UNREADABLE
from tests.support import images
from tests.worker.pixels.asking import difference, painted, resized

FILES = {
    "png": (ImageKind.PNG, images.png, 0.6, 2),
    "jpeg": (ImageKind.JPEG, images.jpeg, 1.0, 10),
    "gif": (ImageKind.GIF, images.gif, 4, 45),
}


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ((200, 150), (50, 30)),  # taller than the result
        ((300, 100), (50, 30)),  # wider
        ((100, 60), (50, 30)),  # of the same aspect
        ((1000, 700), (64, 48)),  # far larger: JPEG shrinks on load, others in whole steps
        ((203, 151), (51, 37)),  # no whole numbers anywhere
        ((50, 90), (50, 30)),  # nothing to scale, only to crop
    ],
)
@pytest.mark.parametrize("kind", FILES)
def test_result_is_the_part_that_the_contract_names(kind, source, result):
    """The result shows the source cropped to cover, a third of the surplus height cut above."""
    image_kind, make, shift, largest = FILES[kind]
    image = resized(make(*source), image_kind, *result)
    assert image.size == result
    assert image.format == kind.upper()
    mean, pixel = difference(image.convert("RGB"), painted(source, result))
    assert mean <= shift
    assert pixel <= largest


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind, orientation):
    """A picture stored turned comes out upright, cropped where its viewer sees the top."""
    data = images.oriented(kind, orientation, 200, 150)
    image = resized(data, ImageKind(kind.lower()), 60, 24)
    mean, pixel = difference(image, painted((200, 150), (60, 24)))
    assert image.size == (60, 24)
    assert mean <= 1.0
    assert pixel <= 8
    assert not image.getexif()


def test_sizes_are_compared_after_the_orientation():
    """A 200x150 picture stored as 150x200 is large enough for 180x100, and not for 100x180."""
    data = images.oriented("JPEG", 6, 200, 150)
    assert resized(data, ImageKind.JPEG, 180, 100).size == (180, 100)
    with pytest.raises(SourceTooSmall, match="200x150"):
        resized(data, ImageKind.JPEG, 100, 180)


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 49)])
def test_smaller_source_is_refused(width, height):
    """One pixel short in either direction is code 203."""
    with pytest.raises(SourceTooSmall) as caught:
        resized(images.png(64, 48), ImageKind.PNG, width, height)
    assert caught.value.code == 203


@pytest.mark.parametrize("kind", FILES)
def test_same_size_and_single_pixel(kind):
    """A source of exactly the result's size is resized, down to 1x1."""
    image_kind, make, *_ = FILES[kind]
    assert resized(make(64, 48), image_kind, 64, 48).size == (64, 48)
    assert resized(make(1, 1), image_kind, 1, 1).size == (1, 1)
    assert resized(make(64, 48), image_kind, 1, 1).size == (1, 1)


@pytest.mark.parametrize(("limit", "refused"), [(3071, True), (3072, False), (3073, False)])
@pytest.mark.parametrize("kind", FILES)
def test_pixel_limit(kind, limit, refused):
    """A source of one pixel over the limit is code 207, one at the limit is resized."""
    image_kind, make, *_ = FILES[kind]
    settings = PixelSettings(processes=1, source_limit_pixels=limit)
    if refused:
        with pytest.raises(SourceTooManyPixels) as caught:
            resized(make(64, 48), image_kind, 8, 8, settings)
        assert caught.value.code == 207
    else:
        assert resized(make(64, 48), image_kind, 8, 8, settings).size == (8, 8)


@pytest.mark.parametrize(("scans", "refused"), [(99, False), (100, False), (101, True)])
def test_scan_limit(scans, refused):
    """A progressive JPEG of more than 100 scans is refused before it is decoded."""
    data = images.jpeg_of_many_scans(scans)
    if refused:
        with pytest.raises(SourceTooManyPixels, match="101 scans"):
            resized(data, ImageKind.JPEG, 8, 8)
    else:
        assert resized(data, ImageKind.JPEG, 8, 8).size == (8, 8)


def test_scan_limit_of_a_sequential_jpeg():
    """One whose first scan lacks components is read to its end as well."""
    data = images.sequential_jpeg_of_many_scans(101, partial=True)
    with pytest.raises(SourceTooManyPixels, match="101 scans"):
        resized(data, ImageKind.JPEG, 8, 8)


@pytest.mark.parametrize("kind", FILES)
def test_truncated_source_fails_as_a_whole(kind):
    """A source cut anywhere before its last pixel never gives a half-grey result."""
    image_kind, make, *_ = FILES[kind]
    data = make(64, 48)
    for length in [*range(64), *range(64, len(data) - 64, 97)]:
        # The process turns each of these into code 401.
        with pytest.raises((CodedError, *UNREADABLE)):
            resized(data[:length], image_kind, 8, 8)


@pytest.mark.parametrize("kind", FILES)
def test_other_formats_are_not_opened(kind):
    """Bytes of another format fail even where Pillow could read them."""
    image_kind, *_ = FILES[kind]
    tiff = images.encode(images.picture(64, 48), "TIFF")
    with pytest.raises(PixelsFailed, match="not a readable"):
        resized(tiff, image_kind, 8, 8)


@pytest.mark.parametrize("kind", [ImageKind.GIF, ImageKind.PNG])
def test_animation_gives_its_first_frame(kind):
    """Of an animation the first frame is resized."""
    image = resized(images.animated(kind.value.upper(), 200, 150), kind, 50, 30)
    mean, _ = difference(image.convert("RGB"), painted((200, 150), (50, 30)))
    assert mean <= 6
    assert getattr(image, "n_frames", 1) == 1


def test_interlaced_png():
    """An interlaced PNG is resized like any other."""
    image = resized(images.interlaced_png(203, 151), ImageKind.PNG, 51, 37)
    mean, pixel = difference(image, painted((203, 151), (51, 37)))
    assert mean <= 0.6
    assert pixel <= 2


def test_jpeg_of_several_pictures():
    """A JPEG that holds several pictures gives its first."""
    first, second = images.picture(200, 150), Image.new("RGB", (200, 150))
    data = images.encode(first, "MPO", save_all=True, append_images=[second], quality=95)
    image = resized(data, ImageKind.JPEG, 50, 30)
    assert image.format == "JPEG"
    mean, _ = difference(image, painted((200, 150), (50, 30)))
    assert mean <= 1.0


def test_crop_offsets_are_exact():
    """Of 90 rows cropped to 30, the first 20 go; of 90 columns 30 go on each side."""
    rows = np.zeros((90, 30, 3), np.uint8)
    rows[20:50] = 255
    tall = resized(images.encode(Image.fromarray(rows), "PNG"), ImageKind.PNG, 30, 30)
    assert np.asarray(tall).min() == 255
    columns = np.zeros((30, 90, 3), np.uint8)
    columns[:, 30:60] = 255
    wide = resized(images.encode(Image.fromarray(columns), "PNG"), ImageKind.PNG, 30, 30)
    assert np.asarray(wide).min() == 255
