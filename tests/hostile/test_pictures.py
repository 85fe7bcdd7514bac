"""Pictures that are bombs, lies or fragments."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.hostile.conftest import Hostile
from tests.support import hostile_images as bad
from tests.support import images

PICTURES: dict[str, tuple[str, Callable[[], bytes], set[int]]] = {
    "PNG of 2 gigapixels a side": ("png", lambda: bad.png_of_size(2**31 - 1, 2**31 - 1), {207}),
    "PNG larger than PNG allows": ("png", lambda: bad.png_of_size(2**32 - 1, 100), {202}),
    "PNG of no pixels": ("png", lambda: bad.png_of_size(0, 100), {202}),
    "PNG of one long row": ("png", lambda: bad.png_of_size(100_000_000, 1), {203, 401}),
    "PNG with far too little in it": ("png", lambda: bad.png_of_size(9000, 9000), {401}),
    "PNG with far too much in it": (
        "png",
        lambda: bad.png_of_size(64, 48, idat=bad.zeros(500_000_000)),
        {0, 401, 402},
    ),
    "PNG with a text that is a bomb": ("png", bad.png_with_text_bomb, {0, 401}),
    "PNG with a profile that is a bomb": ("png", bad.png_with_profile_bomb, {0, 401}),
    "PNG of 200,000 chunks": ("png", lambda: bad.png_of_many_chunks(200_000), {0, 202, 401}),
    "APNG of 100,000 frames": ("png", lambda: bad.apng_of_many_frames(100_000), {0}),
    "GIF with a giant screen": ("gif", lambda: bad.gif_of_size(65535, 65535), {207}),
    "GIF with a large screen": ("gif", lambda: bad.gif_of_size(10_000, 9999), {0, 401, 402}),
    "GIF with a frame larger than its screen": ("gif", bad.gif_of_large_frame, {0, 207, 401}),
    "GIF of 100,000 frames": ("gif", lambda: bad.gif_of_many_frames(100_000), {0}),
    "JPEG of 4 gigapixels": ("jpg", lambda: bad.jpeg_of_size(65535, 65535), {207}),
    "JPEG with far too little in it": ("jpg", lambda: bad.jpeg_of_size(9000, 9000), {0}),
    "JPEG of 4,000 scans": ("jpg", lambda: images.jpeg_of_many_scans(4000), {401}),
    "JPEG of 100 scans": ("jpg", lambda: images.jpeg_of_many_scans(100), {0}),
    "JPEG of a million segments": ("jpg", lambda: bad.jpeg_of_many_markers(1_000_000), {0, 202}),
    "JPEG that is all markers": ("jpg", lambda: b"\xff\xd8" + b"\xff" * 5_000_000, {202}),
    "PNG that is called JPEG": ("jpg", lambda: images.png(200, 150), {208}),
    "SVG that is called PNG": ("png", images.svg, {208}),
    "EPS that is called PNG": ("png", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n(a) print", {202}),
    "HTML that is called PNG": ("png", lambda: b"<html>" * 1000, {202}),
    "nothing": ("png", lambda: b"", {202}),
    "one byte": ("gif", lambda: b"G", {202}),
}


@pytest.mark.parametrize("what", PICTURES)
def test_picture_that_does_harm_does_none(hostile: Hostile, what: str):
    """It is refused, or scaled like any other."""
    ext, make, codes = PICTURES[what]
    document = hostile.picture(f"bad.{ext}", make())
    assert (document["code"] or 0) in codes, document


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ext", ["png", "gif", "jpg"])
def test_damaged_picture_ends_with_a_code(hostile: Hostile, ext: str, seed: int):
    """Whatever bytes are changed or missing, the job is done, or refused by 2xx or 401."""
    chance = random.Random(seed)  # noqa: S311 (repeatable)
    make = {"png": images.png, "gif": images.gif, "jpg": images.jpeg}[ext]
    data = bytearray(make(200, 150))
    for _ in range(10 * seed):
        data[chance.randrange(len(data))] = chance.randrange(256)
    del data[chance.randrange(len(data) // 2, len(data)) :]
    document = hostile.picture(f"damaged.{ext}", bytes(data))
    assert document["code"] in {None, 0, 202, 203, 207, 208, 401}, document


def test_largest_pictures_at_once_stay_within_memory(hostile: Hostile):
    """Pictures of 100 MP that take the most to decode, more of them than there are processes."""
    largest = {
        "alpha.png": bad.full_png(10_000, 10_000, color=6),
        "palette.png": bad.full_png(10_000, 10_000, color=3),
        "scans.jpg": bad.progressive_jpeg(10_000, 10_000),
        "screen.gif": bad.gif_of_size(10_000, 10_000),
    }
    for name, data in largest.items():
        hostile.web.files[f"/{name}"] = data
    links = []
    for name in (*largest, "alpha.png"):
        request = hostile.ask(hostile.web.url(f"/{name}"))
        links.append(hostile.service.post(request, "/jobs").document["links"]["self"])
    for link in links:
        document = hostile.service.ended(link, timeout_s=60)
        assert document["code"] in {None, 0, 401, 402}, document
