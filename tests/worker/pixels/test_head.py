"""Reading kind and size from the first bytes."""

from __future__ import annotations

import codecs
import random
import struct

import pytest

from imgserve.errors import SourceUnreadable
from imgserve.request import ImageKind
from imgserve.worker.pixels import ImageHead, read_head
from imgserve.worker.pixels.head import HEAD_LIMIT_BYTES, OTHER_KINDS
from tests.support import images

FILES = {
    "png": (images.png(61, 47), ImageKind.PNG, (61, 47)),
    "interlaced png": (images.interlaced_png(61, 47), ImageKind.PNG, (61, 47)),
    "png with profile": (
        images.png(61, 47, icc_profile=images.srgb_profile()), ImageKind.PNG, (61, 47),
    ),
    "gif": (images.gif(61, 47), ImageKind.GIF, (61, 47)),
    "animated gif": (images.animated("GIF", 61, 47), ImageKind.GIF, (61, 47)),
    "jpeg": (images.jpeg(61, 47), ImageKind.JPEG, (61, 47)),
    "grey jpeg": (images.jpeg(61, 47, "L"), ImageKind.JPEG, (61, 47)),
    "cmyk jpeg": (images.jpeg(61, 47, "CMYK"), ImageKind.JPEG, (61, 47)),
    "progressive jpeg": (images.jpeg(61, 47, progressive=True), ImageKind.JPEG, (61, 47)),
    "jpeg with profile": (
        images.jpeg(61, 47, icc_profile=b"x" * 150_000), ImageKind.JPEG, (61, 47),
    ),
    "svg": (images.svg(), ImageKind.SVG, (0, 0)),
    "svg with all": (
        b'\xef\xbb\xbf <?xml version="1.0"?>\n<!-- <html> -->\n<!DOCTYPE svg PUBLIC "-//W3C//DTD '
        b'SVG 1.1//EN" "a>b" [ <!ENTITY a "]>"> ]>\n<!-- x -->' + images.svg(),
        ImageKind.SVG, (0, 0),
    ),
    "prefixed svg": (
        b'<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:g/></s:svg>', ImageKind.SVG, (0, 0),
    ),
    "utf-16 svg": (
        codecs.BOM_UTF16_LE + images.svg().decode().encode("utf-16-le"), ImageKind.SVG, (0, 0),
    ),
    "shortest svg": (b"<svg/>", ImageKind.SVG, (0, 0)),
    **{
        f"{kind} orientation {number}": (
            images.oriented(kind.upper(), number, 61, 47), ImageKind(kind), (61, 47),
        )
        for kind in ("jpeg", "png") for number in range(1, 9)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_prefix_gives_nothing_or_the_answer(name):
    """With each further byte the answer is None, until it is there, and then it stays the same."""
    data, kind, size = FILES[name]
    step = 1 if len(data) < 20_000 else 997
    answers = [read_head(data[:length], complete=False) for length in range(0, len(data), step)]
    answers.append(read_head(data, complete=True))
    first = next(index for index, answer in enumerate(answers) if answer is not None)
    assert all(answer is None for answer in answers[:first])
    assert {(a.kind, a.width_px, a.height_px) for a in answers[first:] if a} == {(kind, *size)}
    assert None not in answers[first:]


@pytest.mark.parametrize("name", FILES)
def test_incomplete_file_is_refused_once_complete(name):
    """A file that ends before its size is code 202."""
    data, *_ = FILES[name]
    for length in (0, 1, 4):
        with pytest.raises(SourceUnreadable):
            read_head(data[:length], complete=True)


def test_progressive_is_told():
    """A progressive JPEG says so, for its decoding takes more memory."""
    plain = read_head(images.jpeg(61, 47), complete=True)
    progressive = read_head(images.jpeg(61, 47, progressive=True), complete=True)
    assert plain == ImageHead(kind=ImageKind.JPEG, width_px=61, height_px=47)
    assert progressive.progressive
    assert progressive.decode_bytes == 7 * 61 * 47


@pytest.mark.parametrize(("offset", "signature", "name"), OTHER_KINDS)
def test_other_kinds_are_named(offset, signature, name):
    """A refusal names the kind that was seen."""
    data = (b"\0" * offset + signature).ljust(64, b"\1")
    with pytest.raises(SourceUnreadable, match=name.split(" ")[0]) as caught:
        read_head(data, complete=False)
    assert caught.value.code == 202


@pytest.mark.parametrize("text", [b"<html><svg>", b"hello", b"<svgs/>", b"{}", b"", b"<a:b:svg />"])
def test_other_text_is_refused(text):
    """Text whose root is not svg is code 202."""
    with pytest.raises(SourceUnreadable):
        read_head(text + b" " * 300, complete=True)


def test_zero_sizes_are_refused():
    """A side of no pixels is code 202 in every format."""
    png = bytearray(images.png(8, 8))
    png[16:20] = bytes(4)
    gif = bytearray(images.gif(8, 8))
    gif[8:10] = bytes(2)
    frame = gif.index(b",", 13 + 3 * 2 ** ((gif[10] & 7) + 1))
    gif[frame + 7 : frame + 9] = bytes(2)
    jpeg = bytearray(images.jpeg(8, 8))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 7] = bytes(2)
    for data in (png, gif, jpeg):
        with pytest.raises(SourceUnreadable, match="0"):
            read_head(bytes(data), complete=True)


def test_size_behind_long_metadata_is_found():
    """Several MB of segments before the size are stepped over; more than the limit is code 202."""
    segment = b"\xff\xe1" + struct.pack("!H", 65_535) + bytes(65_533)
    jpeg = images.jpeg(61, 47)
    long = jpeg[:2] + segment * 40 + jpeg[2:]
    assert read_head(long, complete=False).width_px == 61
    endless = jpeg[:2] + segment * (HEAD_LIMIT_BYTES // len(segment) + 2)
    assert read_head(endless[:HEAD_LIMIT_BYTES], complete=False) is None
    with pytest.raises(SourceUnreadable):
        read_head(endless, complete=False)


def test_twelve_bit_jpeg_is_refused():
    """A JPEG of 12 bits a sample, which is not decoded, is refused at once."""
    jpeg = bytearray(images.jpeg(8, 8))
    jpeg[jpeg.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(SourceUnreadable, match="12 bits"):
        read_head(bytes(jpeg), complete=False)


def test_random_bytes_give_an_answer_or_a_coded_error():
    """Whatever the bytes are, nothing but a coded error is raised."""
    source = random.Random(7)  # noqa: S311
    starts = [data[: source.randrange(1, 60)] for data, *_ in FILES.values()]
    for _ in range(20_000):
        data = source.choice(starts) + source.randbytes(source.randrange(80))
        for complete in (False, True):
            try:
                head = read_head(data, complete=complete)
            except SourceUnreadable:
                continue
            assert head is None or isinstance(head, ImageHead)


def test_damaged_files_give_an_answer_or_a_coded_error():
    """The same for files with some bytes changed."""
    source = random.Random(11)  # noqa: S311
    files = [data[:2000] for data, *_ in FILES.values()]
    for _ in range(5_000):
        data = bytearray(source.choice(files))
        for _ in range(3):
            data[source.randrange(len(data))] = source.choice((0, 1, 0x7F, 0xFF, 0xDA))
        try:
            read_head(bytes(data), complete=source.random() < 0.5)
        except SourceUnreadable:
            continue
