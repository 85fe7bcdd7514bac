"""Every kind of source, destination and file through the running service: the contract as a whole.

A valid request is watched from outside: when the reply comes the placeholder is at the
destination, later the result is, and nothing else.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from tests.end_to_end.ends import DESTINATIONS, SOURCES, Ends
from tests.end_to_end.looks import covered, difference, form, is_placeholder
from tests.support import images
from tests.support.service import Paused, Service

WIDTH_PX, HEIGHT_PX = 120, 80
SIZE = (WIDTH_PX, HEIGHT_PX)
# Upright and lying, so that both ways to crop are seen.
TALL, LYING = (300, 420), (420, 210)
SHAPES = {"png": TALL, "gif": LYING, "jpg": TALL, "jpeg": LYING}
FORMATS = {"png": "PNG", "gif": "GIF", "jpg": "JPEG", "jpeg": "JPEG"}
# Levels of 255, mean over all samples. A crop that is 2% off costs 2.5 and more; a GIF's palette
# alone costs 3.8, coding as JPEG 0.9, another filter 0.3.
TOLERANCES = {"png": 0.7, "gif": 5.0, "jpg": 1.5, "jpeg": 1.5}
PICTURES = {
    "png": images.png(*SHAPES["png"]),
    "gif": images.gif(*SHAPES["gif"]),
    "jpg": images.jpeg(*SHAPES["jpg"]),
    "jpeg": images.jpeg(*SHAPES["jpeg"]),
}
# Left third green, right third half-transparent blue; the noise in the corner takes about a
# second, so that the placeholder is still there when the reply has come.
SVG = images.svg(
    '<filter id="n" x="0" y="0" width="1" height="1"><feTurbulence baseFrequency="0.4" '
    'numOctaves="8000"/></filter><rect width="40" height="80" fill="#00ff00"/>'
    '<rect x="80" width="40" height="80" fill="#0000ff" fill-opacity="0.5"/>'
    '<rect x="50" y="30" width="20" height="20" filter="url(#n)"/>',
    'viewBox="0 0 120 80"',
)
FILES = {**PICTURES, "svg": SVG}


def drawn() -> np.ndarray:
    """The SVG's pixels, by hand."""
    levels = np.zeros((HEIGHT_PX, WIDTH_PX, 4))
    levels[:, :40] = (0, 255, 0, 255)
    levels[:, 80:] = (0, 0, 255, 128)
    return levels


@pytest.fixture(scope="module")
def warm(service: Service, web) -> None:
    """A service that has the placeholders of this size ready, in every format."""
    for ext, picture in PICTURES.items():
        web.files[f"/warm.{ext}"] = picture
        request = {
            "operationType": "resize",
            "srcURL": web.url(f"/warm.{ext}"),
            "dstURL": web.url(f"/warm/up.{ext}"),
            "args": {"width": WIDTH_PX, "height": HEIGHT_PX, "method": "PUT"},
        }
        assert service.submit(request)["state"] == "done"


@pytest.mark.parametrize("ext", [*PICTURES, "svg"])
@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.usefixtures("warm")
def test_valid_request_shows_its_placeholder_then_its_result(
    ends: Ends, name: str, source: str, destination: str, ext: str
):
    """The reply finds the placeholder in place, and the right picture overwrites it."""
    operation, result_ext = ("rasterize", "png") if ext == "svg" else ("resize", ext)
    kind = FORMATS[result_ext]
    file_name = f"{WIDTH_PX}x{HEIGHT_PX}-photo.{result_ext}"
    pattern = f"{{$width}}x{{$height}}-{{$basename}}.{result_ext if ext == 'svg' else '{$ext}'}"
    place = ends.place(destination, name, pattern, file_name)
    request = {
        "operationType": operation,
        "srcURL": ends.source(source, name, f"photo.{ext}", FILES[ext]),
        "dstURL": place.dst_url,
        "args": {"width": WIDTH_PX, "height": HEIGHT_PX, **place.args},
    }

    # Pixel processes that stand still cannot overwrite the placeholder, which is made already.
    # An SVG needs them before its placeholder, and is slow by itself.
    still = contextlib.nullcontext() if ext == "svg" else Paused(ends.service.pixel_pids())
    with still:
        answer = ends.service.post(request)
        placeholder = place.now()

    assert answer.status == 200, answer
    assert answer.document == {"dstURL": place.dst_url.replace(pattern, file_name)}
    assert placeholder is not None
    assert is_placeholder(placeholder, kind, SIZE)
    document = ends.service.ended(answer.headers["location"])
    result = place.now()
    assert document["state"] == "done", document
    assert result is not None
    assert (document["width"], document["height"], document["bytes"]) == (*SIZE, len(result))
    assert form(result) == (kind, SIZE)
    if ext == "svg":
        seen, expected = images.decoded(result), drawn()
        edges = np.ones(WIDTH_PX, dtype=bool)
        edges[48:72] = False  # the noise
        assert seen.mode == "RGBA"
        assert np.abs(np.asarray(seen, dtype=float) - expected)[:, edges].max() <= 1
    else:
        shown = images.scene(*SHAPES[ext])
        assert difference(result, covered(shown, *SIZE)) < TOLERANCES[ext]
    assert place.names() == [file_name]


@pytest.mark.parametrize("ext", [*PICTURES, "svg"])
@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize("source", SOURCES)
def test_operation_refuses_a_file_of_the_other_kind(
    ends: Ends, name: str, source: str, destination: str, ext: str
):
    """Resizing an SVG and rasterizing a photo are code 108, and nothing is uploaded."""
    operation = "resize" if ext == "svg" else "rasterize"
    place = ends.place(destination, name, "{$basename}.{$ext}", f"photo.{ext}")
    request = {
        "operationType": operation,
        "srcURL": ends.source(source, name, f"photo.{ext}", FILES[ext]),
        "dstURL": place.dst_url,
        "args": {"width": WIDTH_PX, "height": HEIGHT_PX, **place.args},
    }
    answer = ends.service.post(request)
    assert (answer.status, answer.body) == (200, b'{"msg": "request invalid", "code": 108}')
    assert place.now() is None


@pytest.mark.parametrize(
    ("ext", "wrong"),
    [("png", "jpg"), ("gif", "png"), ("jpg", "jpeg"), ("jpeg", "jpg"), ("svg", "svg")],
)
@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize("source", SOURCES)
def test_result_has_the_extension_of_its_kind(
    ends: Ends, name: str, source: str, destination: str, ext: str, wrong: str
):
    """A dstURL of another extension than the result's is code 113, jpg for jpeg included."""
    place = ends.place(destination, name, f"{{$basename}}.{wrong}", f"photo.{wrong}")
    request = {
        "operationType": "rasterize" if ext == "svg" else "resize",
        "srcURL": ends.source(source, name, f"photo.{ext}", FILES[ext]),
        "dstURL": place.dst_url,
        "args": {"width": WIDTH_PX, "height": HEIGHT_PX, **place.args},
    }
    answer = ends.service.post(request)
    assert (answer.status, answer.body) == (200, b'{"msg": "request invalid", "code": 113}')
    assert place.now() is None
