"""Frames: they come out as they went in, and a lying process is caught."""

from __future__ import annotations

import random

import pytest

from imgserve.errors import CODES, ProtocolError
from imgserve.picture_warnings import PictureWarning, WarningCollector, WarningName
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels import PixelSettings, Text
from imgserve.worker.pixels.frames import (
    DETAIL_LIMIT_BYTES,
    ERRORS,
    OK,
    RESULT_BYTES_PER_PIXEL,
    RESULT_OVERHEAD_BYTES,
    PixelOperation,
    Reply,
    Request,
    pack_warnings,
    require_picture,
    unpack_warnings,
)
from tests.support import images

ASKED = Request(operation=PixelOperation.RESIZE, kind=ImageKind.JPEG, width_px=20, height_px=10)
LIMIT = 200 * RESULT_BYTES_PER_PIXEL + RESULT_OVERHEAD_BYTES


def reply(**changes: object) -> Reply:
    """Make a right reply to `ASKED`, but for the changes."""
    right = {
        "status": OK, "kind": ImageKind.JPEG, "width_px": 20, "height_px": 10, "seconds": 0.5,
        "size_bytes": 99,
    }  # fmt: skip
    return Reply(**right | changes)


def test_request_survives():
    """Every field of a request arrives."""
    asked = Request(
        operation=PixelOperation.RASTERIZE,
        kind=ImageKind.SVG,
        width_px=20_000,
        height_px=1,
        quality=61,
        text=Text.FAILED,
        renderer=Renderer.CAIROSVG,
        size_bytes=2**40,
        memory_bytes=3,
    )
    assert Request.unpack(asked.pack()) == asked
    assert asked.pack() == bytes.fromhex(
        "0203 3d01 01 00004e20 00000001 0000010000000000 0000000000000003"
    )


def test_reply_survives():
    """Every field of a reply arrives."""
    assert Reply.unpack(reply().pack(), asked=ASKED) == reply()
    assert len(reply().pack()) == Reply.FORMAT.size


@pytest.mark.parametrize(
    "changes",
    [
        {"width_px": 21},
        {"height_px": 9},
        {"size_bytes": LIMIT + 1},
        {"size_bytes": 2**63},
        {"status": 999},
        {"status": 405},
        {"status": 301},
        {"status": 401, "size_bytes": DETAIL_LIMIT_BYTES + 1},
    ],
)
def test_lying_reply_is_refused(changes):
    """A reply of another size, of too many bytes or of a code that is not its own is refused."""
    with pytest.raises(ProtocolError):
        Reply.unpack(reply(**changes).pack(), asked=ASKED)


@pytest.mark.parametrize("changes", [{"size_bytes": LIMIT}, {"status": 401, "size_bytes": 2000}])
def test_largest_reply_is_taken(changes):
    """What is just within the limits is taken."""
    assert Reply.unpack(reply(**changes).pack(), asked=ASKED) == reply(**changes)


def test_random_headers_raise_nothing_else():
    """Random bytes are a reply or a protocol error."""
    source = random.Random(3)  # noqa: S311
    for _ in range(5000):
        try:
            Reply.unpack(source.randbytes(Reply.FORMAT.size), asked=ASKED)
        except ProtocolError:
            continue


def test_codes_of_replies_are_in_the_table():
    """A process can answer with the codes of its own findings and no others."""
    assert set(ERRORS) == {202, 203, 204, 206, 207, 208, 401}
    assert set(ERRORS) <= set(CODES)


def test_settings_survive_the_command_line():
    """A pixel process gets the settings that the pool was given."""
    settings = PixelSettings(processes=3, jpeg_quality=70, require_sandbox=True)
    assert PixelSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"processes": 0}, "processes is 0"),
        ({"processes": 1, "jpeg_quality": 0}, "jpeg_quality is 0"),
        ({"processes": 1, "jpeg_quality": 101}, "jpeg_quality is 101"),
        ({"processes": 1, "renderer": "mspaint"}, "mspaint"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    """A wrong setting is named with its value."""
    with pytest.raises(ValueError, match=message):
        PixelSettings(**wrong)


def test_warnings_survive():
    """Each arrives once, cut to its limit, without what a terminal would take for an order."""
    found = WarningCollector()
    for _ in range(2):
        found.add(WarningName.IMAGE_NOT_DRAWN, "a\tb\n\x1b[1m\udc80" + 300 * "ö")
    found.add(WarningName.SOURCE_DAMAGED, "")
    first, second = unpack_warnings(pack_warnings(found))
    assert (first.name, first.detail) == ("image_not_drawn", "a?b??[1m?" + 191 * "ö")
    assert second == PictureWarning("source_damaged", "")


def test_warnings_are_bounded():
    """A picture cannot make the outcome grow without end."""
    found = WarningCollector()
    for number in range(100):
        found.add(WarningName.SOURCE_DAMAGED, str(number))
    assert len(unpack_warnings(pack_warnings(found))) == len(found) == 8


@pytest.mark.parametrize(
    "data",
    [
        b"unheard_of\tdetail\n",
        b"source_damaged detail\n",
        b"source_damaged\t\x1b[1m\n",
        b"source_damaged\t" + 201 * b"a" + b"\n",
        9 * b"source_damaged\tdetail\n",
    ],
)
def test_warnings_of_no_honest_process_are_caught(data):
    """They come from where an image was decoded, and go to logs and programs."""
    with pytest.raises(ProtocolError):
        unpack_warnings(data)


@pytest.mark.parametrize(
    "data",
    [
        images.jpeg(20, 10), images.png(21, 10), images.png(20, 11), images.gif(20, 10),
        b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", images.png(20, 10)[:20],
    ],
    ids=lambda data: f"{len(data)} bytes",
)  # fmt: skip
def test_result_that_is_another_picture_is_caught(data):
    """A process that an image has taken over may return anything as what was asked for."""
    asked = Request(operation=PixelOperation.RESIZE, kind=ImageKind.PNG, width_px=20, height_px=10)
    require_picture(asked, images.png(20, 10))
    with pytest.raises(ProtocolError):
        require_picture(asked, data)
