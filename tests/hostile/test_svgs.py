"""SVGs that reach out, recurse, grow or compute without end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cairosvg
import pytest

from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels import PixelSettings
from imgserve.worker.pixels.families import Fonts
from imgserve.worker.pixels.frames import PixelOperation
from imgserve.worker.pixels.frames import Request as PixelRequest
from imgserve.worker.pixels.rasterize import RENDERERS, rasterize
from imgserve.worker.pixels.svg import CleanSvg
from tests.hostile.conftest import Hostile
from tests.support import hostile_images as bad
from tests.support import images
from tests.support.hostile_images import data_url, svg_of

LOL = "<!DOCTYPE svg [" + '<!ENTITY a0 "ha">' + "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)
) + "]>"  # fmt: skip
FILE_ENTITY = '<!DOCTYPE svg [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
FILTER = '<filter id="f" x="-9999" y="-9999" width="99999" height="99999">{}</filter>'
FILTERED = '<rect width="90" height="90" filter="url(#f)"/>'
BOMB = data_url("png", bad.full_png(9000, 9000))

Case = tuple[Callable[[], bytes], set[int]]
# 0: it is drawn, without what would do harm. 402, 405: a renderer may need too long, or crash.
SVGS: dict[str, Case] = {
    "entities that grow": (lambda: svg_of("<text>&a11;</text>", before=LOL), {204}),
    "an entity of a file": (lambda: svg_of("<text>&f;</text>", before=FILE_ENTITY), {204}),
    "a parameter entity": (
        lambda: svg_of("", before='<!DOCTYPE svg [<!ENTITY % p SYSTEM "http://127.0.0.3/"> %p;]>'),
        {204},
    ),
    "an outer DTD": (
        lambda: svg_of("", before='<!DOCTYPE svg SYSTEM "file:///etc/passwd">'),
        {0},
    ),
    "a stylesheet of a file": (
        lambda: svg_of("", before='<?xml-stylesheet href="file:///etc/passwd"?>'),
        {0},
    ),
    "a use of itself": (lambda: svg_of('<g id="a"><use xlink:href="#a"/></g>'), {0}),
    "uses in a ring": (
        lambda: svg_of(
            '<g id="a"><use xlink:href="#b"/></g><g id="b"><use xlink:href="#a"/></g>'
            '<use xlink:href="#a"/>'
        ),
        {401},
    ),
    "a billion uses": (lambda: svg_of(bad.doubling_uses(30)), {401, 402, 405}),
    "a million uses": (lambda: svg_of(bad.doubling_uses(20)), {0, 401, 402, 405}),
    "patterns in patterns": (lambda: svg_of(bad.doubling_patterns(25)), {0, 401, 402, 405}),
    "a pattern of itself": (
        lambda: svg_of(
            '<pattern id="p" width="2" height="2"><rect width="9" height="9" fill="url(#p)"/>'
            '</pattern><rect width="9" height="9" fill="url(#p)"/>'
        ),
        {0},
    ),
    "masks in a ring": (
        lambda: svg_of(
            '<mask id="a" mask="url(#b)"><rect width="9" height="9"/></mask>'
            '<mask id="b" mask="url(#a)"><rect width="9" height="9"/></mask>'
            '<rect width="9" height="9" mask="url(#a)"/>'
        ),
        {0},
    ),
    "gradients in a ring": (
        lambda: svg_of(
            '<linearGradient id="a" xlink:href="#b"/><linearGradient id="b" xlink:href="#a"/>'
            '<rect width="9" height="9" fill="url(#a)"/>'
        ),
        {0},
    ),
    "500 levels": (lambda: svg_of(bad.nested(498)), {0}),
    "501 levels": (lambda: svg_of(bad.nested(499)), {204}),
    "a million levels": (lambda: svg_of(bad.nested(1_000_000)), {204, 402}),
    "nested text paths": (lambda: svg_of(bad.nested(400, "text")), {0, 401, 402, 405}),
    "a giant blur": (
        lambda: svg_of(FILTER.format('<feGaussianBlur stdDeviation="99999"/>') + FILTERED),
        {0, 401, 402, 405},
    ),
    "a giant morphology": (
        lambda: svg_of(FILTER.format('<feMorphology radius="99999"/>') + FILTERED),
        {0, 401, 402, 405},
    ),
    "endless noise": (
        lambda: svg_of(
            '<filter id="f"><feTurbulence baseFrequency="0.4" numOctaves="9999999"/></filter>'
            + FILTERED
        ),
        {0, 402},
    ),
    "ten thousand filters": (
        lambda: svg_of(
            '<filter id="f"><feGaussianBlur stdDeviation="9"/></filter>' + FILTERED * 10_000
        ),
        {0, 402},
    ),
    "a giant viewBox": (lambda: svg_of("", 'viewBox="0 0 1e30 1e-30"'), {0, 401}),
    "a stroke of a million dashes": (
        lambda: svg_of(
            '<path d="M0 0h1e7" stroke="red" stroke-dasharray="0.00001" stroke-width="9"/>'
        ),
        {0, 401, 402, 405},
    ),
    "a million elements": (lambda: svg_of("<g/>" * 1_000_000), {0, 401, 402}),
    "ten megabytes of text": (
        lambda: svg_of(f"<text>{'Wide words. ' * 830_000}</text>"),
        {401, 402, 405},
    ),
    "one byte too many": (lambda: svg_of("").ljust(10_000_001), {206}),
    "a raster of a file": (
        lambda: svg_of(
            "".join(
                f'<image width="9" height="9" xlink:href="{each}"/>'
                for each in ("/etc/passwd", "file:///etc/passwd", "../x.png", "\\\\h\\x", "a.svg")
            )
        ),
        {0},
    ),
    "an embedded raster of 81 MP": (
        lambda: svg_of(f'<image width="9" height="9" xlink:href="{BOMB}"/>'),
        {0, 401, 402, 405},
    ),
    "embedded rasters of 162 MP": (
        lambda: svg_of(f'<image width="9" height="9" xlink:href="{BOMB}"/>' * 2),
        {207},
    ),
    "an embedded raster that lies": (
        lambda: svg_of(
            '<image width="9" height="9" xlink:href="'
            + data_url("jpeg", bad.png_of_size(2**31 - 1, 2**31 - 1))
            + '"/>'
        ),
        {207},
    ),
    "an SVG in an SVG in an SVG…": (
        lambda: matryoshka(6),
        {0},
    ),
    "an SVG in an SVG that reads files": (
        lambda: svg_of(
            '<image width="9" height="9" xlink:href="'
            + data_url("svg+xml", svg_of('<image href="file:///etc/passwd" width="9" height="9"/>'))
            + '"/>'
        ),
        {0},
    ),
    "a PNG": (lambda: images.png(200, 150), {208}),
    "HTML": (lambda: b"<!doctype html><svg></svg>", {202, 204, 401}),
    "no XML": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><g></svg>", {204}),
    "a root without end": (lambda: b"<" + b"s" * 5_000_000, {202}),
    "comments without end": (lambda: b"<!--" * 2_000_000, {202}),
    "a doctype without end": (
        lambda: b"<!DOCTYPE svg [" + b"<!ENTITY a 'b'>" * 500_000,
        {202, 204},
    ),
    "an unknown encoding": (lambda: b"<?xml version='1.0' encoding='zip'?><svg/>", {204}),
    "control characters": (lambda: svg_of("\x00\x01"), {204}),
}


def matryoshka(levels: int) -> bytes:
    """Put an SVG into an SVG, again and again."""
    data = images.svg()
    for _ in range(levels):
        data = svg_of(f'<image width="9" height="9" xlink:href="{data_url("svg+xml", data)}"/>')
    return data


@pytest.mark.parametrize("renderer", ["resvg", "cairosvg"])
@pytest.mark.parametrize("what", SVGS)
def test_svg_that_does_harm_does_none(hostile: Hostile, what: str, renderer: str):
    """It is refused, given up in time, or drawn without the harm."""
    make, codes = SVGS[what]
    document = hostile.picture("bad.svg", make(), method="PUT", renderer=renderer)
    assert (document["code"] or 0) in codes, document


@pytest.mark.parametrize("renderer", ["resvg", "cairosvg"])
@pytest.mark.parametrize(
    "body",
    [
        '<image xlink:href="{url}" width="9" height="9"/>',
        '<image href="{url}" width="9" height="9"/>',
        '<use xlink:href="{url}#a"/>',
        '<rect width="9" height="9" fill="url({url}#a)"/>',
        '<rect width="9" height="9" style="filter: url( \'{url}#a\' )"/>',
        "<style>@import '{url}'; @font-face {{ font-family: f; src: url({url}) }}</style>",
        "<style>@import url({url}); g {{ fill: url({url}) }}</style><rect width='9' height='9'/>",
        '<filter id="f"><feImage href="{url}"/></filter><rect width="9" filter="url(#f)"/>',
        '<g xml:base="{url}"><image xlink:href="a.png" width="9" height="9"/></g>',
        '<foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="{url}"/></foreignObject>',
        '<script xlink:href="{url}"/><rect width="9" height="9"/>',
        '<a xlink:href="{url}"><rect width="9" height="9"/></a>',
        '<cursor xlink:href="{url}"/><mpath xlink:href="{url}"/><tref xlink:href="{url}"/>',
    ],
)
def test_no_svg_reaches_a_network(hostile: Hostile, body: str, renderer: str):
    """References to servers, allowed or not, are never followed."""
    before = len(hostile.trap.touched)
    for host in ("127.0.0.2", "127.0.0.3"):
        data = svg_of(body.format(url=f"http://{host}:{hostile.trap.port}/a"))
        document = hostile.picture("out.svg", data, method="PUT", renderer=renderer)
        assert document["code"] in {None, 0, 401}, document
    assert len(hostile.trap.touched) == before


@pytest.fixture
def secret(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture beneath the file root, in the current folder of whatever renders here."""
    path = hostile.service.files / "red.png"
    path.write_bytes(images.encode(images.picture(64, 48), "PNG"))
    monkeypatch.chdir(path.parent)
    # CairoSVG's own guard is off here, so that nothing but the cleaner can hold.
    render = cairosvg.svg2png
    monkeypatch.setattr(cairosvg, "svg2png", lambda **how: render(**how | {"unsafe": True}))
    return path


@pytest.mark.parametrize("renderer", Renderer)
def test_no_svg_shows_a_file(hostile: Hostile, secret: Path, renderer: Renderer):
    """A picture that renderer and worker could read is drawn neither unconfined nor by a job."""
    addresses = [str(secret), secret.name, f"../{secret.parent.name}/{secret.name}"]
    addresses += [secret.as_uri(), f"file://localhost{secret}"]
    shown = 0
    for body in [
        f'<image {key}="{address}" width="100" height="100"/>'
        for address in addresses
        for key in ("href", "xlink:href")
    ]:
        svg = svg_of(body)
        shown += not is_blank(unconfined(CleanSvg(svg.decode(), has_text=False), renderer))
        assert is_blank(unconfined(svg, renderer)), body
        hostile.web.stored.pop("/up.png", None)
        document = hostile.picture("show.svg", svg, method="PUT", renderer=renderer)
        assert document["state"] == "done", document
        assert is_blank(hostile.web.stored["/up.png"]), body
    # Not cleaned they are drawn; resvg knows no file: URLs.
    assert shown == (6 if renderer is Renderer.RESVG else 10)


def unconfined(svg: bytes | CleanSvg, renderer: Renderer) -> bytes:
    """Render in this process, which nothing confines: a file as a job does, or a text as it is."""
    asked = PixelRequest(
        operation=PixelOperation.RASTERIZE,
        kind=ImageKind.SVG,
        width_px=20,
        height_px=10,
        renderer=renderer,
    )
    if isinstance(svg, CleanSvg):
        return RENDERERS[renderer](svg, asked, Fonts((), {}))
    return rasterize(svg, asked, PixelSettings(processes=1), Fonts((), {}), WarningCollector())


def is_blank(png: bytes) -> bool:
    """Whether nothing was drawn."""
    return images.decoded(png).getchannel("A").getextrema() == (0, 0)
