"""Thumbnails of animations: the first frame that shows anything."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind
from imgserve.worker.pixels.frames import PixelOperation
from imgserve.worker.pixels.resize import resize
from tests.support import images
from tests.worker.pixels.asking import SETTINGS, request

GREEN, RED, CLEAR = (0, 170, 0, 255), (200, 0, 0, 255), (0, 0, 0, 0)
KINDS = {"GIF": ImageKind.GIF, "PNG": ImageKind.PNG}


def animation(kind: str, *colors: tuple[int, ...], **options: object) -> bytes:
    """Frames of one colour each."""
    frames = [Image.new("RGBA", (40, 30), color) for color in colors]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, kind, save_all=True, append_images=frames[1:], duration=50, disposal=2, **options
    )
    return buffer.getvalue()


def shown(data: bytes, kind: str) -> tuple[int, ...]:
    """Make it smaller; return the pixel in the middle. It is told that it does not move."""
    warnings = WarningCollector()
    asked = request(PixelOperation.RESIZE, KINDS[kind], 20, 15)
    result = images.decoded(resize(data, asked, SETTINGS, warnings)).convert("RGBA")
    assert [warning.name for warning in warnings] == ["animation_not_kept"]
    assert result.size == (20, 15)
    return result.getpixel((10, 7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blank", [0, 1, 3])
def test_blank_frames_are_passed_over(kind: str, blank: int):
    """The first of any colour is shown."""
    pixel = shown(animation(kind, *[CLEAR] * blank, GREEN, RED), kind)
    assert max(abs(a - b) for a, b in zip(pixel, GREEN, strict=True)) <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_animation_of_nothing_stays_nothing(kind: str):
    """More blank frames than are looked at: the first is shown."""
    colors = [CLEAR if number % 2 else (1, 2, 3, 0) for number in range(14)]
    frames = animation(kind, *colors, GREEN)
    assert shown(frames, kind)[3] == 0


def test_dot_before_the_animation_is_passed_over():
    """A first frame of one pixel, transparent or not, that covers nothing of the screen."""
    frames = [Image.new("P", (40, 30), 0), Image.new("P", (40, 30), 1)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 0, 170, 0])
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=50)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\x2c")  # the first image descriptor: left, top, width, height
    data[at + 5 : at + 9] = b"\1\0\1\0"
    # One pixel of index 0, with codes of three bits: clear, 0, end.
    end = data.index(b"\0", at + 11 + 1)
    data[at + 10 : end + 1] = b"\2\2\x44\1\0"
    assert shown(bytes(data), "GIF")[:3] == (0, 170, 0)


def test_default_image_that_is_no_frame_is_left_out():
    """As browsers that play the animation."""
    data = animation("PNG", RED, GREEN, RED, default_image=True)
    assert shown(data, "PNG") == GREEN
