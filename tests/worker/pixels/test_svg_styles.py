"""SVG as Chromium shows it: the right values below are Chromium's own pixels."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from imgserve.errors import SvgInvalid
from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind
from imgserve.worker.pixels.families import Fonts, load_fonts
from imgserve.worker.pixels.fonts import fonts_report
from imgserve.worker.pixels.frames import PixelOperation
from imgserve.worker.pixels.rasterize import rasterize
from imgserve.worker.pixels.settings import PixelSettings, system_font_dirs
from tests.support import images
from tests.worker.pixels.asking import SETTINGS, request

NS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
NO_FONTS = Fonts((), {})
GREEN, CLEAR = (0, 170, 0, 255), (0, 0, 0, 0)
RECT = '<rect class="a" id="i" width="20" height="20"/>'


def drawn(
    body: str,
    root: str = 'viewBox="0 0 20 20"',
    size: tuple[int, int] = (20, 20),
    fonts: Fonts = NO_FONTS,
) -> tuple[Image.Image, list[str]]:
    """Render; return the picture and the names of the warnings."""
    warnings = WarningCollector()
    asked = request(PixelOperation.RASTERIZE, ImageKind.SVG, *size)
    svg = f"<svg {NS} {root}>{body}</svg>".encode()
    png = rasterize(svg, asked, SETTINGS, fonts, warnings)
    return images.decoded(png).convert("RGBA"), [warning.name for warning in warnings]


def middle(body: str, root: str = 'viewBox="0 0 20 20"') -> tuple[int, ...]:
    """Render; return the pixel in the middle."""
    picture, _ = drawn(body, root)
    return picture.getpixel((10, 10))


@pytest.mark.parametrize(
    "css",
    [
        ".a{fill:var(--c)} :root{--c:#0a0}",
        ".a{fill:var(--none, var(--c))} svg{--c:#0a0}",
        ".a{--x:var(--y);--y:var(--x);fill:var(--x,#0a0)}",
        ":root{--r:0;--g:170} .a{fill:rgb(var(--r) var(--g) 0)}",
        "svg{fill:#0a0} .a{fill:var(--none)}",
        "svg{fill:#0a0} .a{fill:red;fill:unset}",
        ".a{fill:rgb(0 170 0 / 100%)}",
        ".a{fill:rgb(0% 66.7% 0%)}",
        ".a{fill:hsl(120deg 100% 33.3%)}",
        ".a{fill:hsl(.3333turn,100%,33.3%,1)}",
        ".a{fill:hwb(120 0% 33.3%)}",
        ".a{fill:color(srgb 0 .6667 0)}",
        ".a{fill:#00aa00ff}",
        "svg{color:#0a0} .a{fill:currentColor}",
        "@media screen{.a{fill:#0a0}}",
        "@media screen and (min-width:1px){.a{fill:#0a0}}",
        "@media (prefers-color-scheme:light){.a{fill:#0a0}}",
        ".a{fill:#0a0} @media print{.a{fill:red}}",
        ".a{fill:#0a0} @media (prefers-color-scheme:dark){.a{fill:red}}",
        ".a{fill:#0a0} @media not all{.a{fill:red}}",
        "@supports (display:grid){.a{fill:#0a0}}",
        "@layer one,two; @layer two{.a{fill:#0a0}} @layer one{.a{fill:red}}",
        "@layer one{#i{fill:red}} .a{fill:#0a0}",
        "@layer one{.a{fill:#0a0!important}} .a{fill:red!important}",
        "rect:nth-child(2){fill:#0a0}",
        "rect:nth-last-child(1){fill:#0a0}",
        "rect:not(.b){fill:#0a0}",
        "rect:is(.b,.a){fill:#0a0}",
        "svg > rect:first-of-type{fill:#0a0}",
        "#i{fill:#0a0} rect.a{fill:red}",
        "#i{fill:red} .a{fill:#0a0!important}",
        ":where(#i){fill:red} rect{fill:#0a0}",
        "svg{ .a{fill:#0a0} }",
        "svg{ &amp; > .a{fill:#0a0} }",
        ".a{ fill:red; &amp;:not(.b){fill:#0a0} }",
        "svg{ @media screen{ .a{fill:#0a0} } }",
        ".a{fill:#0a0} .a, ::unknown(x){fill:red}",
        ".a{fill:#0a0} .a:hover{fill:red}",
        "@import url('https://f.example/c;s');.a{fill:#0a0}",
        "/* @import in a comment; */ .a{fill:#0a0}",
        "@charset 'utf-8'; .a{fill:#0a0}",
        ".a{fill:#0a0;transform:translate(0,0) rotate(90deg);transform-origin:10px 10px}",
        ".a{fill:#0a0;rotate:180deg;transform-origin:center}",
        ".a{fill:#0a0;width:calc(10px + 50%);height:100%}",
        ".a{fill:none;stroke:#0a0;stroke-width:calc(20px * 2)}",
        "svg{background:#0a0} .a{fill:none}",
        "svg{background:no-repeat #0a0} .a{display:none}",
    ],
)
def test_style_sheet_is_applied_as_in_a_browser(css: str):
    """Selectors, the cascade, custom properties, conditions, colours, geometry, transforms."""
    assert middle(f"<style>{css}</style>{RECT}") == GREEN


@pytest.mark.parametrize(
    "body",
    [
        '<style media="print">.a{fill:red}</style><g fill="#0a0">' + RECT + "</g>",
        '<style media="screen">.a{fill:#0a0}</style>' + RECT,
        '<style type="text/plain">.a{fill:red}</style><g fill="#0a0">' + RECT + "</g>",
        '<rect width="20" height="20" fill="hsl(120deg 100% 33.3%)"/>',
        '<rect width="20" height="20" style="--c:#0a0;fill:var(--c)"/>',
        '<g style="--c:#0a0"><rect width="20" height="20" fill="var(--c)"/></g>',
        '<circle style="cx:10px;cy:10px;r:10px;fill:#0a0"/>',
        '<rect style="width:20px;height:20px;fill:#0a0"/>',
        "<path style=\"d:path('M0 0h20v20H0z');fill:#0a0\"/>",
        '<path d="M0 0" style="fill:#0a0;d:path(\'M0 0h20v20H0z\')"/>',
        '<rect width="9" height="9" style="transform:scale(3);fill:#0a0"/>',
        (
            '<rect width="9" height="9" transform="scale(.1)" style="transform:none;width:20px;'
            'height:20px;fill:#0a0"/>'
        ),
        '<rect x="-20" width="20" height="20" style="transform:translateX(100%);fill:#0a0"/>',
        '<rect width="20" height="20" style="fill:#0a0;opacity:100%"/>',
        (
            '<linearGradient id="g"><stop style="stop-color:hsl(120deg 100% 33.3%)"/>'
            "</linearGradient>"
            '<rect width="20" height="20" fill="url(#g)"/>'
        ),
    ],
)
def test_other_styles_are_applied_as_in_a_browser(body: str):
    """Attributes, inline styles, and where a sheet does not apply."""
    assert middle(body) == GREEN


@pytest.mark.parametrize(
    ("color", "right"),
    [
        ("rebeccapurple", (102, 51, 153)),
        ("color(display-p3 0 1 0)", (0, 255, 0)),
        ("hsl(120, 200%, 25%)", (0, 128, 0)),
        ("oklch(50% 0 0)", (99, 99, 99)),
        ("lab(50% 0 0)", (119, 119, 119)),
        ("color(srgb-linear .2159 .2159 .2159)", (128, 128, 128)),
    ],
)
def test_colours_of_css_color_4(color: str, right: tuple[int, int, int]):
    """As Chromium shows them on an sRGB screen."""
    assert middle(f"<style>.a{{fill:{color}}}</style>{RECT}")[:3] == right


def test_background_covers_the_whole_viewport():
    """The bands beside a viewBox of another shape, too."""
    picture, _ = drawn("", 'viewBox="0 0 10 20" style="background:#0a0"', (40, 20))
    assert {picture.getpixel(at) for at in ((0, 0), (39, 19), (20, 10))} == {GREEN}


@pytest.mark.parametrize(
    ("root", "half"),
    [
        ('width="10em" height="10em"', 80),
        ('width="160" height="160"', 80),
        ('width="160"', 80),
        ('width="10rem" height="20ex"', 80),
        ('height="160"', 150),
        ('width="160" height="100%"', 80),
    ],
)
def test_drawing_without_a_view_box_is_stretched(root: str, half: int):
    """From its own size, relative ones too, to the size asked for; 300 and 150 px if missing."""
    picture, _ = drawn(f'<rect width="{half}" height="1000" fill="#0a0"/>', root, (40, 40))
    assert picture.getpixel((18, 20)) == GREEN
    assert picture.getpixel((22, 20)) == CLEAR


def test_symbol_has_its_own_size():
    """Where its use has none."""
    body = (
        '<symbol id="s" viewBox="0 0 10 10" width="40" height="40"><rect width="10" height="10" '
        'fill="#0a0"/></symbol><use xlink:href="#s"/>'
    )
    picture, _ = drawn(body, 'viewBox="0 0 100 100"', (100, 100))
    assert picture.getchannel("A").getbbox() == (0, 0, 40, 40)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP"])
def test_embedded_picture_is_drawn(kind: str):
    """Whatever browsers show, and whatever the data URL says that it is."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (0, 170, 0)).save(buffer, kind)
    url = "data:image/x;base64," + base64.b64encode(buffer.getvalue()).decode()
    picture, warnings = drawn(f'<image href="{url}" width="20" height="20"/>')
    assert max(abs(a - b) for a, b in zip(picture.getpixel((10, 10)), GREEN, strict=True)) <= 3
    assert warnings == []


@pytest.mark.parametrize("address", ["http://there/a.png", "data:image/tiff;base64,AAAA", "a.png"])
def test_picture_that_is_left_out_is_told(address: str):
    """It is outside, or none that browsers show."""
    assert drawn(f'<image href="{address}" width="9" height="9"/>')[1] == ["image_not_drawn"]


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("<foreignObject><p>a</p></foreignObject>", "element_not_drawn"),
        ("<switch><foreignObject><p>a</p></foreignObject></switch>", "element_not_drawn"),
        ('<rect><animate attributeName="x" to="9"/></rect>', "animation_not_kept"),
        ("<style>@container (width>1px){rect{fill:red}}</style>", "style_not_applied"),
        ("<style>@font-face{font-family:a;src:url(data:,)}</style>", "style_not_applied"),
        ("<style>svg{background:url(#a)}</style>", "style_not_applied"),
        ('<rect style="clip-path:circle(9px)"/>', "style_not_applied"),
        ('<rect style="transform:rotateX(9deg)"/>', "style_not_applied"),
    ],
)
def test_what_is_not_supported_is_told(body: str, warning: str):
    """The picture is there, without it."""
    assert drawn(body)[1] == [warning]


@pytest.mark.parametrize(
    "body",
    [
        RECT,
        '<switch><foreignObject requiredExtensions="x"><p>a</p></foreignObject><rect/></switch>',
        "<style>@keyframes a{} .a{fill:red}</style>" + RECT,
        "<foreignObject/>",
    ],
)
def test_what_is_drawn_is_not_told(body: str):
    """Fallbacks of drawing programs are what they are for."""
    assert drawn(body)[1] == []


@pytest.fixture(scope="module")
def fonts() -> Fonts:
    """The fonts of this machine."""
    found = load_fonts(system_font_dirs())
    if not found.generic:
        pytest.skip(str(fonts_report(system_font_dirs())))
    return found


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ('<text x="195" y="30" direction="rtl">abc</text>', (150, 196)),
        ('<text x="195" y="30" style="direction:rtl">abc</text>', (150, 196)),
        ('<text x="5" y="30" direction="rtl" text-anchor="end">abc</text>', (4, 50)),
        (
            '<g style="direction:rtl"><text x="100" y="30" text-anchor="middle">abc</text></g>',
            (75, 125),
        ),
    ],
)
def test_text_from_right_to_left_is_anchored_at_its_right(
    fonts: Fonts, text: str, box: tuple[int, int]
):
    """The start of such a text is its right end."""
    picture, _ = drawn(text, 'viewBox="0 0 200 40"', (200, 40), fonts)
    left, _, right, _ = picture.getchannel("A").getbbox()
    assert box[0] <= left < right <= box[1]


def test_emoji_are_told(fonts: Fonts):
    """Colour fonts are not drawn, and the font of the run may change."""
    assert drawn("<text y='15'>a\U0001f600</text>", fonts=fonts)[1] == ["text_not_drawn"]
    assert drawn("<text y='15'>abc \u2713</text>", fonts=fonts)[1] == []


@pytest.mark.parametrize(
    "document",
    [
        (
            '<!DOCTYPE svg [<!ENTITY nbsp "&#160;"><!ENTITY e "&#xe9;">]>'
            "<svg {ns}>&nbsp;&e;{rect}</svg>"
        ),
        '<!-- "<!ENTITY" in a comment --><svg {ns}>{rect}<!-- <!ENTITY --></svg>',
        '<svg {ns}><desc><![CDATA[<!ENTITY a "&b;">]]></desc>{rect}</svg>',
        '<?xml version="1.0" encoding="utf-16"?><svg {ns}>{rect}<desc>é</desc></svg>',
        '<?xml version="1.0" encoding="us-ascii"?><svg {ns}>{rect}<desc>é</desc></svg>',
        '<?xml version="1.0" encoding="shift_jis"?><svg {ns}>{rect}<desc>é</desc></svg>',
    ],
)
def test_document_that_browsers_read_is_read(document: str):
    """Character references in entities; the bytes before a declaration that lies."""
    rect = '<rect width="9" height="9" fill="#0a0"/>'
    svg = document.replace("{ns}", NS + ' viewBox="0 0 9 9"').replace("{rect}", rect).encode()
    asked = request(PixelOperation.RASTERIZE, ImageKind.SVG, 9, 9)
    png = rasterize(svg, asked, SETTINGS, Fonts((), {}), WarningCollector())
    assert images.decoded(png).convert("RGBA").getpixel((4, 4)) == GREEN


@pytest.mark.parametrize(
    "entities",
    [
        '<!ENTITY a "x"><!ENTITY b "&a;&a;">',
        '<!ENTITY a "x"><!ENTITY b "&#38;a;&#38;a;">',
        '<!ENTITY % p "x">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        f'<!ENTITY a "{"x" * 257}">',
        "".join(f'<!ENTITY a{n} "x">' for n in range(101)),
        "<!ENTITY x '<!--'><!ENTITY b \"&x;&x;\"><!ENTITY y '-->'>",
    ],
)
def test_entities_that_grow_or_lead_outside_are_refused(entities: str):
    """Whatever hides them."""
    svg = f"<!DOCTYPE svg [{entities}]><svg {NS}/>".encode()
    asked = request(PixelOperation.RASTERIZE, ImageKind.SVG, 9, 9)
    with pytest.raises(SvgInvalid):
        rasterize(svg, asked, SETTINGS, Fonts((), {}), WarningCollector())


@pytest.mark.parametrize(
    "css",
    [
        ":root{" + "".join(f"--v{n}:var(--v{(n + 1) % 5000});" for n in range(5000)) + "}",
        ":root{--a0:x;" + "".join(f"--a{n + 1}:var(--a{n}) var(--a{n});" for n in range(60)) + "}"
        ".a{fill:var(--a60)}",
        ".a{" * 400 + "}" * 400,
        ":not(" * 400 + ")" * 400 + "{fill:red}",
        ", ".join([".a"] * 5000) + "{ " * 20 + "fill:red" + "}" * 20,
    ],
)
def test_hostile_styles_end(css: str):
    """Rings, growth and nesting are cut off; the drawing stays, or the style is refused."""
    settings = PixelSettings(processes=1)
    svg = f"<svg {NS} viewBox='0 0 20 20'><style>{css}</style>{RECT}</svg>".encode()
    asked = request(PixelOperation.RASTERIZE, ImageKind.SVG, 20, 20)
    try:
        rasterize(svg, asked, settings, Fonts((), {}), WarningCollector())
    except SvgInvalid as exc:
        assert "nested" in exc.detail  # noqa: PT017 (either is right)
