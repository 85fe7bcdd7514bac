"""Pictures as people have them: what is not pixels is mended, what browsers show is kept."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from imgserve.errors import CodedError
from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind
from imgserve.worker.pixels.decode import UNREADABLE
from imgserve.worker.pixels.frames import PixelOperation
from imgserve.worker.pixels.head import read_head
from imgserve.worker.pixels.resize import resize
from tests.support import images
from tests.worker.pixels.asking import SETTINGS, request, resized


def chunk(name: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    """Write a PNG chunk, with a wrong checksum if one is given."""
    right = zlib.crc32(name + body)
    return struct.pack("!I4s", len(body), name) + body + struct.pack("!I", checksum or right)


def png(depth: int, color_type: int, rows: list[bytes], *chunks: bytes) -> bytes:
    """Write a PNG of 8 pixels a row without a library, so that nothing is put right on the way."""
    head = struct.pack("!IIBBBBB", 8, len(rows), depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            *chunks,
            chunk(b"IDAT", pixels),
            chunk(b"IEND", b""),
        ]
    )


@pytest.mark.parametrize("name", [b"pHYs", b"tEXt", b"gAMA", b"iCCP", b"zzZz"])
def test_a_wrong_checksum_outside_the_pixels_ends_no_job(name):
    """Browsers leave such a chunk out."""
    faulty = chunk(name, b"\0\0\0\1abc\0", checksum=1)
    image = resized(png(8, 0, [bytes([90]) * 8] * 8, faulty), ImageKind.PNG, 4, 4)
    assert image.convert("L").getextrema() == (90, 90)


def test_a_wrong_checksum_of_the_pixels_still_ends_the_job():
    """Nobody can tell which pixels are wrong."""
    data = bytearray(png(8, 0, [bytes([90]) * 8] * 8))
    data[-17] ^= 1  # of IDAT's checksum, before IEND's 12 bytes
    with pytest.raises((CodedError, *UNREADABLE)):
        resized(bytes(data), ImageKind.PNG, 4, 4)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"tEXt"])
def test_text_of_any_size_ends_no_job(name):
    """A comment of 3 MB is no part of the picture."""
    body = {
        b"zTXt": b"k\0\0" + zlib.compress(bytes(3_000_000)),
        b"iTXt": b"k\0\1\0\0\0" + zlib.compress(bytes(3_000_000)),
        b"tEXt": b"k\0" + b"x" * 3_000_000,
    }[name]
    image = resized(png(8, 0, [bytes([90]) * 8] * 8, chunk(name, body)), ImageKind.PNG, 4, 4)
    assert image.convert("L").getextrema() == (90, 90)


@pytest.mark.parametrize("body", [b"x\0\0" + zlib.compress(bytes(9_000_000)), b"x\0\0broken"])
def test_a_profile_that_cannot_be_unpacked_is_left_out(body):
    """A bomb in iCCP costs no memory and no job."""
    data = png(8, 2, [bytes([90, 80, 70]) * 8] * 8, chunk(b"iCCP", body))
    image = resized(data, ImageKind.PNG, 4, 4)
    assert "icc_profile" not in image.info
    assert image.getpixel((1, 1)) == (90, 80, 70)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("clear", ["low", "high"])
def test_the_transparent_grey_is_the_one_that_the_file_names(depth, clear):
    """TRNS counts in the file's own samples, whatever their depth."""
    highest = 2**depth - 1
    value = 0 if clear == "low" else highest
    other = highest - value
    left, right = ([value] * 4), ([other] * 4)
    bits = "".join(f"{sample:0{depth}b}" for sample in left + right)
    row = int(bits, 2).to_bytes(depth, "big")
    data = png(depth, 0, [row] * 8, chunk(b"tRNS", struct.pack("!H", value)))
    alpha = np.asarray(resized(data, ImageKind.PNG, 8, 8).convert("RGBA"))[:, :, 3]
    assert (alpha[:, :4] == 0).all()
    assert (alpha[:, 4:] == 255).all()


def test_a_grey_between_is_transparent_at_four_bits():
    """Value 5 of 15 is no 5 of 255."""
    row = int("5" * 4 + "a" * 4, 16).to_bytes(4, "big")
    data = png(4, 0, [row] * 8, chunk(b"tRNS", struct.pack("!H", 5)))
    alpha = np.asarray(resized(data, ImageKind.PNG, 8, 8).convert("RGBA"))[:, :, 3]
    assert (alpha[:, :4] == 0).all()
    assert (alpha[:, 4:] == 255).all()


def test_the_transparent_colour_of_sixteen_bits_is_found():
    """A colour of 16-bit RGB is named in 16 bits."""
    clear, other = (0x1234, 0x5678, 0x9ABC), (0x4321, 0x8765, 0xCBA9)
    row = struct.pack("!12H", *clear * 4) + struct.pack("!12H", *other * 4)
    data = png(16, 2, [row] * 8, chunk(b"tRNS", struct.pack("!3H", *clear)))
    alpha = np.asarray(resized(data, ImageKind.PNG, 8, 8).convert("RGBA"))[:, :, 3]
    assert (alpha[:, :4] == 0).all()
    assert (alpha[:, 4:] == 255).all()
    warnings = WarningCollector()
    asked = request(PixelOperation.RESIZE, ImageKind.PNG, 8, 8)
    resize(data, asked, SETTINGS, warnings)
    assert [warning.name for warning in warnings] == ["color_not_converted"]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("tail", [b"", bytes(100)])
def test_a_jpeg_without_its_end_marker_is_shown(progressive, tail):
    """Its pixels are all there; cameras and uploads lose the last two bytes."""
    whole = images.encode(Image.fromarray(images.scene(333, 201)), "JPEG", progressive=progressive)
    shown = resized(whole[:-2] + tail, ImageKind.JPEG, 60, 40)
    expected = resized(whole, ImageKind.JPEG, 60, 40)
    assert shown.tobytes() == expected.tobytes()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_a_jpeg_that_lacks_pixels_is_an_error(progressive, share):
    """Half a picture is no picture."""
    noise = np.random.default_rng(1).integers(0, 255, (201, 333, 3), dtype=np.uint8)
    whole = images.encode(Image.fromarray(noise), "JPEG", progressive=progressive)
    with pytest.raises((CodedError, *UNREADABLE), match="truncated"):
        resized(whole[: int(len(whole) * share)], ImageKind.JPEG, 60, 40)


@pytest.mark.parametrize("size", [(1001, 1001), (1003, 997), (1015, 1001), (333, 1999)])
@pytest.mark.parametrize("result", [(217, 217), (100, 80), (60, 33)])
def test_the_padding_of_the_last_blocks_is_not_seen(size, result):
    """A JPEG is stored in whole blocks; what lies beyond the picture may have any colour."""
    width, height = size
    padded = np.zeros((-(-height // 8) * 8, -(-width // 8) * 8, 3), dtype=np.uint8)
    padded[:height, :width] = 255
    data = bytearray(images.encode(Image.fromarray(padded), "JPEG", quality=95, subsampling=0))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack("!HH", height, width)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert shown[:, -1].min() > 200  # where decoded whole, the edge is white
    small = np.asarray(resized(bytes(data), ImageKind.JPEG, *result).convert("L"))
    assert small.min() >= 250


def gif(screen: tuple[int, int], box: tuple[int, int, int, int]) -> bytes:
    """Write a GIF of one red frame at a place of a screen whose colour 0 is blue."""
    left, top, width, height = box
    frame = Image.new("P", (width, height), 1)
    frame.putpalette([0, 0, 255, 255, 0, 0])
    data = images.encode(frame, "GIF")
    at = data.index(b",") + 1
    place = struct.pack("<HHHH", left, top, width, height)
    return data[:6] + struct.pack("<HH", *screen) + data[10:at] + place + data[at + 8 :]


def test_outside_of_the_first_frame_nothing_is_seen():
    """Browsers leave the rest of the screen transparent."""
    image = resized(gif((80, 60), (20, 15, 40, 30)), ImageKind.GIF, 80, 60).convert("RGBA")
    pixels = np.asarray(image)
    inside = np.zeros((60, 80), dtype=bool)
    inside[15:45, 20:60] = True
    assert (pixels[inside] == (255, 0, 0, 255)).all()
    assert (pixels[~inside][:, 3] == 0).all()


@pytest.mark.parametrize("screen", [(0, 0), (10, 10), (40, 0)])
def test_a_screen_smaller_than_its_first_frame_grows(screen):
    """The head and the decoder agree on the frame's size."""
    data = gif(screen, (0, 0, 40, 30))
    head = read_head(data, complete=False)
    assert head is not None
    assert (head.width_px, head.height_px) == (40, 30)
    image = resized(data, ImageKind.GIF, 20, 15).convert("RGB")
    assert image.getextrema() == ((255, 255), (0, 0), (0, 0))


@pytest.mark.skipif(shutil.which("cjpeg") is None, reason="cjpeg is not installed")
@pytest.mark.parametrize("options", [["-arithmetic"], ["-arithmetic", "-progressive"]])
def test_an_arithmetic_coded_jpeg_of_any_size_is_shown(options):
    """Libjpeg cannot wait for more of such data, so it must have all of it at once."""
    noise = np.random.default_rng(1).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    ppm = b"P6 600 400 255\n" + noise.tobytes()
    command = ["cjpeg", "-quality", "90", *options]
    made = subprocess.run(command, input=ppm, capture_output=True, check=True)
    assert len(made.stdout) > 2 * 65_536
    image = resized(made.stdout, ImageKind.JPEG, 60, 40)
    assert np.abs(np.asarray(image, dtype=float).mean() - noise.mean()) < 2
