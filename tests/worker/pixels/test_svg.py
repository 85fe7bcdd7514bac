"""Reading an SVG, and stripping what it refers to outside itself."""

from __future__ import annotations

import base64
import codecs
from urllib.parse import quote

import pytest

from imgserve.errors import SourceOfOtherKind, SourceTooManyPixels, SourceUnreadable, SvgInvalid
from imgserve.worker.pixels import PixelSettings
from imgserve.worker.pixels.svg import ENTITIES_LIMIT, clean_svg
from tests.support import images
from tests.worker.pixels.asking import SETTINGS


def cleaned(data: bytes, settings: PixelSettings = SETTINGS) -> str:
    """Give the clean text."""
    return clean_svg(data, settings).text


def data_url(data: bytes, kind: str = "image/png") -> str:
    """Make a data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    "body",
    [
        '<image href="file:///etc/MARK"/>',
        '<image xlink:href="/etc/MARK"/>',
        '<image href="../MARK.png"/>',
        '<image href="http://MARK/"/>',
        '<image href=" &#104;ttp://MARK/"/>',
        '<use href="MARK.svg#a"/>',
        '<use xlink:href="data:image/svg+xml,MARK#a"/>',
        '<feImage href="MARK.png"/>',
        '<a href="http://MARK/"><rect/></a>',
        '<g xml:base="http://MARK/"><use href="#a"/></g>',
        '<image href="data:image/png;base64,MARK"/>',
        '<image href="data:text/plain,MARK"/>',
        "<style>@import 'MARK.css'; rect { fill: red }</style>",
        "<?xml-stylesheet href='MARK.css'?><g/>",
        "<!-- MARK -->",
        f'<image href="{data_url(images.encode(images.picture(8, 8), "TIFF"))}MARK"/>',
    ],
)
def test_outside_references_go(body):
    """Nothing of a reference to a file, a host or an unsupported picture is left."""
    assert "MARK" not in cleaned(images.svg(body))


@pytest.mark.parametrize(
    "value", ["url(http://a/#x)", "url( 'b.svg#x')", 'URL( "b.svg")', "red url(\n/c)"]
)
def test_outside_urls_become_missing_fragments(value):
    """A url() to another document refers to nothing."""
    escaped = value.replace('"', "&quot;")
    for body in (
        f'<g fill="{escaped}"/>',
        f'<g style="fill:{escaped}"/>',
        f"<style>{value}</style>",
    ):
        text = cleaned(images.svg(body)).lower().replace("&quot;", '"').replace("&#10;", "\n")
        start = text.index("url(") + 4
        assert text[start:].lstrip(" '\"\n").startswith("#")


def test_inside_references_stay():
    """Fragments, embedded pictures and ordinary attributes stay as they are."""
    picture = data_url(images.png(8, 8))
    body = (
        f'<use href="#a"/><g fill="url(#b)" transform="rotate(9)"/><image href="{picture}"/>'
        "<style>rect { fill: url('#c') }</style>"
    )
    text = cleaned(images.svg(body))
    for part in ('href="#a"', "url(#b)", "rotate(9)", picture, "url(#c)"):
        assert part in text


def test_embedded_picture_is_what_it_holds():
    """The kind in a data URL is taken from the bytes, however they are written."""
    jpeg = images.jpeg(8, 8)
    assert data_url(jpeg, "image/jpeg") in cleaned(
        images.svg(f'<image href="{data_url(jpeg, "image/png")}"/>')
    )
    header, payload = data_url(jpeg).split(",")
    spaced = f"{header},{payload[:60]}\n  {payload[60:]}".replace("+", "%2B")
    assert data_url(jpeg, "image/jpeg") in cleaned(images.svg(f"<image href='{spaced}'/>"))


def test_nested_svg_is_cleaned_too():
    """An SVG in an SVG loses its references as well, and one nested too deeply is dropped."""
    inner = images.svg('<image href="file:///MARK"/><rect id="kept" width="9" height="9"/>')
    text = cleaned(images.svg(f'<image href="data:image/svg+xml,{quote(inner.decode())}"/>'))
    nested = base64.b64decode(text.split("base64,")[1].split('"')[0])
    assert b"kept" in nested
    assert b"MARK" not in nested
    for _ in range(4):
        inner = images.svg(f'<image href="{data_url(inner, "image/svg+xml")}"/>')
    depth, data = 0, cleaned(inner)
    while "base64," in data:
        data = base64.b64decode(data.split("base64,")[1].split('"')[0]).decode()
        depth += 1
    assert depth == 3


@pytest.mark.parametrize(("limit", "refused"), [(127, True), (128, False), (129, False)])
def test_embedded_pictures_count_together(limit, refused):
    """The pixels of all embedded pictures together are held against the limit."""
    picture = data_url(images.png(8, 8))
    nested = data_url(images.svg(f'<image href="{picture}"/>'), "image/svg+xml")
    data = images.svg(f'<image href="{picture}"/><image href="{nested}"/>')
    settings = PixelSettings(processes=1, source_limit_pixels=limit)
    if refused:
        with pytest.raises(SourceTooManyPixels):
            cleaned(data, settings)
    else:
        assert cleaned(data, settings)


@pytest.mark.parametrize(("depth", "refused"), [(499, False), (500, False), (501, True)])
def test_depth_limit(depth, refused):
    """Elements nested deeper than the limit are refused; the root counts."""
    data = images.svg("<g>" * (depth - 1) + "</g>" * (depth - 1))
    if refused:
        with pytest.raises(SvgInvalid, match="500"):
            cleaned(data)
    else:
        assert cleaned(data)


@pytest.mark.parametrize(
    "data",
    [
        b"<svg><g></svg>",
        b"<svg",
        b"<svg/><svg/>",
        b"<svg>&unknown;</svg>",
        b"<svg xlink:href='#a'/>",
        b"<svg>\0</svg>",
        b"\xef\xbb\xbf<svg>\xff</svg>",
        b'<?xml version="1.0" encoding="utf-7"?><svg></svg>',
        b'<?xml version="1.0" encoding="zlib"?><svg></svg>',
        b"<svg >" + b"<g>" * 100_000,
    ],
)
def test_malformed_is_refused(data):
    """What is not well-formed, or not in a usual encoding, is code 204, or 202 without a root."""
    with pytest.raises((SvgInvalid, SourceUnreadable)) as caught:
        cleaned(data)
    assert caught.value.code == (202 if data == b"<svg" else 204)


@pytest.mark.parametrize(
    "subset",
    [
        '<!ENTITY a "&b;"><!ENTITY b "b">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY a PUBLIC "x" "http://host/">',
        '<!ENTITY % a "x">',
        f'<!ENTITY a "{"a" * 257}">',
        "".join(f'<!ENTITY a{n} "x">' for n in range(ENTITIES_LIMIT + 1)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_entities_that_grow_or_reach_out_are_refused(subset, encoding):
    """Only short plain texts may be entities, whatever the encoding hides."""
    text = f"<!DOCTYPE svg [{subset}]>" + images.svg("<text>&a;</text>").decode()
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    with pytest.raises(SvgInvalid, match="entities"):
        cleaned(mark + text.encode(encoding))


def test_entities_cannot_outgrow_the_byte_limit():
    """An entity used so often that the text would be longer than a file may be is refused."""
    text = f'<!DOCTYPE svg [<!ENTITY a "{"a" * 200}">]>' + f"<svg>{'&a;' * 100}</svg>"
    assert (
        clean_svg(text.encode(), PixelSettings(processes=1, svg_limit_bytes=20_000)).has_text
        is False
    )
    with pytest.raises(SvgInvalid, match="entities"):
        cleaned(text.encode(), PixelSettings(processes=1, svg_limit_bytes=19_999))


def test_plain_entities_and_doctypes_are_read():
    """Files of drawing programs keep namespaces in entities, and name a DTD that is not read."""
    data = (
        b'<?xml version="1.0" encoding="iso-8859-1"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"'
        b' "http://127.0.0.1:1/svg11.dtd" [<!ENTITY ns_svg "http://www.w3.org/2000/svg">]>'
        b'<svg xmlns="&ns_svg;"><text>\xe9</text></svg>'
    )
    svg = clean_svg(data, SETTINGS)
    assert "é" in svg.text
    assert "DOCTYPE" not in svg.text
    assert svg.has_text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<rect/>", False),
        ("<text> \n</text>", False),
        ("<text>a</text>", True),
        ("<text><tspan>a</tspan></text>", True),
        ("<desc>a</desc><title>b</title>", False),
    ],
)
def test_text_is_noticed(body, expected):
    """Fonts are asked for only where there are letters to draw, also in a nested SVG."""
    assert clean_svg(images.svg(body), SETTINGS).has_text is expected
    nested = images.svg(f'<image href="{data_url(images.svg(body), "image/svg+xml")}"/>')
    assert clean_svg(nested, SETTINGS).has_text is expected


def test_other_kinds_are_refused():
    """A picture in an SVG's place is code 208, other bytes are 202."""
    with pytest.raises(SourceOfOtherKind):
        cleaned(images.png())
    with pytest.raises(SourceUnreadable):
        cleaned(b"%PDF-1.7" + bytes(64))


def test_missing_namespace_is_supplied():
    """Elements without a namespace are taken for SVG's."""
    text = cleaned(b'<svg viewBox="0 0 9 9"><rect width="9" height="9"/></svg>')
    assert 'xmlns="http://www.w3.org/2000/svg"' in text or "xmlns" not in text


@pytest.mark.parametrize(
    "style",
    [
        "@import url('https://f.example/css2?family=R:wght@400;700');.a{fill:#0a0}",
        '@import "https://f.example/a;b.css" screen;.a{fill:#0a0}',
        "@import url(https://f.example/a;b.css);.a{fill:#0a0}",
        "@IMPORT 'x.css';@\\69mport 'y.css';.a{fill:#0a0}",
        "/* no @import here */.a{fill:#0a0}",
        "/* @import 'x;y.css'; */.a{fill:#0a0}",
        ".b::before{content:'@import';}.a{fill:#0a0}",
    ],
)
def test_rules_after_an_import_are_kept(style):
    """The import is not followed, and takes no other rule with it."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><style>{style}</style><g class="a"/></svg>'
    cleaned = clean_svg(svg.encode(), SETTINGS).text
    assert ".a{fill:#0a0}" in cleaned
    assert "f.example" not in cleaned
    assert ".css'" not in cleaned.replace("x;y.css'", "")


def test_a_style_nested_without_end_is_refused():
    """A tokenizer that recursed would take the process with it."""
    style = "@import 'x';" + "(" * 50_000
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><style>{style}</style></svg>'
    with pytest.raises(SvgInvalid, match="nested"):
        clean_svg(svg.encode(), SETTINGS)
