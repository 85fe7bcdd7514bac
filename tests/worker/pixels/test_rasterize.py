"""Rendering SVGs: size, placement, transparency, renderers, fonts."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgserve.errors import PixelsFailed
from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels.families import Fonts, choose_generic, load_fonts
from imgserve.worker.pixels.fonts import fonts_report
from imgserve.worker.pixels.frames import PixelOperation
from imgserve.worker.pixels.rasterize import RENDERERS, rasterize
from imgserve.worker.pixels.settings import system_font_dirs
from tests.support import images
from tests.worker.pixels.asking import SETTINGS, request

NO_FONTS = Fonts((), {})


def rendered(
    data: bytes,
    width: int,
    height: int,
    renderer: Renderer = Renderer.RESVG,
    fonts: Fonts = NO_FONTS,
) -> Image.Image:
    """Render in this process and decode the result."""
    asked = request(PixelOperation.RASTERIZE, ImageKind.SVG, width, height, renderer=renderer)
    # Cairo leaves the alpha channel out where all is opaque.
    return images.decoded(rasterize(data, asked, SETTINGS, fonts, WarningCollector())).convert(
        "RGBA"
    )


def covered(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Give the box of what is more than half opaque."""
    return image.getchannel("A").point([0] * 128 + [255] * 128).getbbox()


@pytest.mark.parametrize("renderer", Renderer)
@pytest.mark.parametrize(
    ("root", "size", "box"),
    [
        # The drawing is 40x20 with its left half red.
        ('viewBox="0 0 40 20"', (80, 40), (0, 0, 40, 40)),
        ('viewBox="0 0 40 20"', (80, 80), (0, 20, 40, 60)),
        ('viewBox="0 0 40 20"', (160, 40), (40, 0, 80, 40)),
        ('viewBox="0 0 40 20" width="9" height="400"', (80, 80), (0, 20, 40, 60)),
        ('viewBox="0 0 40 20" preserveAspectRatio="none"', (80, 80), (0, 0, 40, 80)),
        ('viewBox="0 0 40 20" preserveAspectRatio="xMinYMin slice"', (40, 40), (0, 0, 40, 40)),
        ('width="40" height="20"', (80, 80), (0, 0, 40, 80)),
        ('width="30pt" height="15pt"', (80, 40), (0, 0, 40, 40)),
        ('width="100%" height="100%"', (80, 40), (0, 0, 20, 20)),
        ("", (80, 40), (0, 0, 20, 20)),
    ],
)
def test_viewport_is_the_result(renderer, root, size, box):
    """The root's viewport becomes the result, and places the drawing as a browser would."""
    image = rendered(images.svg(root=root), *size, renderer)
    assert image.size == size
    assert covered(image) == box
    middle = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
    assert image.getpixel(middle) == (255, 0, 0, 255)


@pytest.mark.parametrize("renderer", Renderer)
def test_transparency_is_kept(renderer):
    """Half-opaque paint stays half opaque and keeps its colour."""
    body = '<rect width="40" height="20" fill="#00ff00" fill-opacity="0.5"/>'
    pixel = rendered(images.svg(body), 40, 20, renderer).getpixel((20, 10))
    assert pixel[:3] == (0, 255, 0)
    assert abs(pixel[3] - 128) <= 1


def test_deep_groups_are_rendered():
    """As many levels as are allowed do not overflow the stack that a pixel process has."""
    body = "<g>" * 200 + '<rect width="20" height="20"/>' + "</g>" * 200
    assert covered(rendered(images.svg(body), 40, 20)) == (0, 0, 20, 20)


def test_embedded_picture_is_drawn():
    """A picture in a data URL is drawn at its place."""
    url = "data:image/png;base64," + base64.b64encode(images.png(20, 20)).decode()
    body = f'<image width="20" height="20" href="{url}"/>'
    image = rendered(images.svg(body), 40, 20)
    delta = np.asarray(image, float)[:, :20, :3] - images.scene(20, 20)
    assert np.abs(delta).mean() < 6


def test_text_without_any_font_fails():
    """Where there is no font, a file with text is code 401, and the detail says what to install."""
    with pytest.raises(PixelsFailed, match="install fonts") as caught:
        rendered(images.svg("<text y='9'>a</text>"), 40, 20)
    assert caught.value.code == 401
    assert rendered(images.svg("<text y='9'> </text><rect/>"), 40, 20).size == (40, 20)


@pytest.mark.parametrize(
    "family", ["DejaVu Sans", "No Such Family", "serif", "monospace", "cursive", "fantasy", ""]
)
@pytest.mark.parametrize("renderer", Renderer)
def test_text_never_vanishes(renderer, family):
    """Whatever family is named, the text is drawn."""
    fonts = load_fonts(system_font_dirs())
    if not fonts.files:
        pytest.skip("no fonts on this system")
    body = f'<text x="1" y="18" font-size="18" font-family="{family}">HI</text>'
    box = covered(rendered(images.svg(body), 80, 40, renderer, fonts))
    assert box is not None
    assert box[2] - box[0] > 15


def test_generic_families_exist():
    """Each generic name stands for an installed family; preferred ones first, else any."""
    chosen = choose_generic(["Zapf", "DejaVu Sans", "Liberation Serif"])
    assert chosen == {
        "serif": "Liberation Serif",
        "sans-serif": "DejaVu Sans",
        "monospace": "DejaVu Sans",
        "cursive": "DejaVu Sans",
        "fantasy": "DejaVu Sans",
    }
    assert choose_generic([]) == {}
    assert set(choose_generic(["Only"]).values()) == {"Only"}


def test_fonts_report(tmp_path: Path):
    """`status` is told beforehand that text cannot be rendered."""
    report = fonts_report((tmp_path,))
    assert "install fonts" in report
    (tmp_path / "a.TTF").touch()
    assert fonts_report((tmp_path,)) is True
    assert load_fonts((tmp_path,)) == NO_FONTS


@pytest.mark.parametrize("renderer", Renderer)
def test_what_one_renderer_refuses_the_other_renders(renderer, monkeypatch):
    """The renderer asked for goes first; when it refuses, the other one renders."""
    calls = []

    def refuse(*_):
        calls.append("refused")
        raise ValueError("no")

    monkeypatch.setitem(RENDERERS, renderer, refuse)
    assert covered(rendered(images.svg(), 40, 20, renderer)) == (0, 0, 20, 20)
    assert calls == ["refused"]


def test_what_both_refuse_fails(monkeypatch):
    """When both refuse, code 401 says what each of them said."""

    def refuse(*_):
        raise ValueError("no such thing")

    for renderer in Renderer:
        monkeypatch.setitem(RENDERERS, renderer, refuse)
    with pytest.raises(PixelsFailed, match=r"resvg: no such thing; cairosvg: no such thing"):
        rendered(images.svg(), 40, 20)


@pytest.mark.parametrize("renderer", Renderer)
def test_a_rule_after_an_import_colours_the_picture(renderer):
    """What a browser fills green is green."""
    style = "@import url('https://f.example/css2?family=R:wght@400;700');.a{fill:#0a0}"
    body = f"<style>{style}</style><rect class='a' width='100%' height='100%'/>"
    image = rendered(images.svg(body), 40, 20, renderer)
    assert image.convert("RGB").getextrema() == ((0, 0), (170, 170), (0, 0))
