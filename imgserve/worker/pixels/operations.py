"""The table of operations, and what all of them need loaded before the process is locked."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

# A JPEG with several pictures is opened by the plugins for MPO and TIFF.
from PIL import Image, ImageCms, MpoImagePlugin, TiffImagePlugin  # noqa: F401

from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels.families import Fonts
from imgserve.worker.pixels.frames import PixelOperation, Request
from imgserve.worker.pixels.placeholder import placeholder
from imgserve.worker.pixels.rasterize import rasterize
from imgserve.worker.pixels.resize import resize
from imgserve.worker.pixels.settings import PixelSettings
from imgserve.worker.pixels.svg import check_svg, load_encodings


@dataclass(frozen=True, slots=True)
class Tools:
    """What a pixel process has at hand beside the job: limits and fonts."""

    settings: PixelSettings
    fonts: Fonts


Perform = Callable[[bytes, Request, Tools, WarningCollector], bytes]
OPERATIONS: dict[PixelOperation, Perform] = {
    PixelOperation.RESIZE: lambda data, asked, tools, warnings: resize(
        data, asked, tools.settings, warnings
    ),
    PixelOperation.RASTERIZE: lambda data, asked, tools, warnings: rasterize(
        data, asked, tools.settings, tools.fonts, warnings
    ),
    PixelOperation.CHECK_SVG: lambda data, _, tools, __: check_svg(data, tools.settings),
    PixelOperation.PLACEHOLDER: lambda _, asked, __, ___: placeholder(asked),
}

WARM_UP_PX = 64
# All that an image inside of an SVG may be, and that is decoded without another program.
DECODERS = ("PNG", "GIF", "JPEG", "WEBP", "AVIF", "BMP", "TIFF")
WARM_UP_MODES = {
    ImageKind.PNG: ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    ImageKind.GIF: ("L", "P"),
    ImageKind.JPEG: ("L", "RGB", "CMYK"),
}
WARM_UP_SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><filter id="f">'
    b'<feGaussianBlur stdDeviation="1"/></filter><g filter="url(#f)"><path d="M0 0h9v9z"/>%s</g>'
    b"</svg>"
)
WARM_UP_TEXT = b'<text y="9" font-family="sans-serif">Text <tspan>text</tspan></text>'


def warm_up(tools: Tools) -> None:
    """Run every operation once in every format, and every decoder.

    Codecs, colour transforms, font libraries and Python's own modules are loaded at first use;
    once the process is locked they cannot be.
    """
    srgb = ImageCms.createProfile("sRGB")
    ImageCms.profileToProfile(Image.new("RGB", (1, 1)), srgb, srgb, outputMode="RGB")
    for kind, modes in WARM_UP_MODES.items():
        for mode in modes:
            buffer = io.BytesIO()
            Image.new(mode, (2 * WARM_UP_PX, 2 * WARM_UP_PX)).save(buffer, kind.value)
            _perform(PixelOperation.RESIZE, kind, buffer.getvalue(), tools)
        _perform(PixelOperation.PLACEHOLDER, kind, b"", tools)
    warm_up_decoders()
    load_encodings()
    svg = WARM_UP_SVG % (WARM_UP_TEXT if tools.fonts.generic else b"")
    _perform(PixelOperation.CHECK_SVG, ImageKind.SVG, svg, tools)
    for renderer in Renderer:
        _perform(PixelOperation.RASTERIZE, ImageKind.SVG, svg, tools, renderer)


def warm_up_decoders() -> None:
    """Decode a picture in every format of `DECODERS`.

    Raises:
        OSError, KeyError: when this Pillow was built without one.
    """
    for name in DECODERS:
        buffer = io.BytesIO()
        Image.new("RGB", (WARM_UP_PX, WARM_UP_PX)).save(buffer, name)
        Image.open(buffer, formats=(name,)).load()


def _perform(
    operation: PixelOperation,
    kind: ImageKind,
    data: bytes,
    tools: Tools,
    renderer: Renderer = Renderer.RESVG,
) -> None:
    asked = Request(
        operation=operation,
        kind=kind,
        width_px=WARM_UP_PX,
        height_px=WARM_UP_PX,
        renderer=renderer,
    )
    OPERATIONS[operation](data, asked, tools, WarningCollector())
