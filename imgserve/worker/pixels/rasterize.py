"""Rasterize: render an SVG to exactly the size asked for, as PNG with transparency."""

from __future__ import annotations

import struct
from collections.abc import Callable

import resvg_py

from imgserve.errors import PixelsFailed
from imgserve.picture_warnings import WarningCollector
from imgserve.request import Renderer
from imgserve.worker.pixels.cairo import cairosvg
from imgserve.worker.pixels.families import Fonts
from imgserve.worker.pixels.frames import Request
from imgserve.worker.pixels.settings import PixelSettings
from imgserve.worker.pixels.svg import CleanSvg, clean_svg


def rasterize(
    data: bytes,
    asked: Request,
    settings: PixelSettings,
    fonts: Fonts,
    warnings: WarningCollector,
) -> bytes:
    """Render with the renderer asked for, and with the other one when it refuses.

    Args:
        data: the file.
        asked: the result's size in pixels, and the renderer.
        settings: the limits.
        fonts: what text is drawn with.
        warnings: takes what of the source the result does not show.

    Returns:
        A PNG, RGBA.

    Raises:
        SvgInvalid, SourceTooManyPixels: as `clean_svg`.
        PixelsFailed: when no renderer takes it, or it has text and there is no font.
        FontsChanged: when it has text, and a font was removed or replaced since the lock.
    """
    svg = clean_svg(data, settings, size_px=(asked.width_px, asked.height_px), warnings=warnings)
    if svg.has_text and not fonts.generic:
        raise PixelsFailed(
            "the SVG has text and no font is installed where the worker looks for fonts; "
            "install fonts there, for example fonts-dejavu-core (`imgserve status` says whether "
            "the kernel lacks Landlock, without which no font can be read either)"
        )
    if svg.has_text:
        fonts.require_unchanged()
    png = render(svg, asked, fonts)
    if svg.has_text:
        fonts.require_unchanged()
    return png


def render(svg: CleanSvg, asked: Request, fonts: Fonts) -> bytes:
    """Render with the first renderer that takes it.

    Raises:
        PixelsFailed: when none does.
    """
    refusals = []
    for renderer in (asked.renderer, *(other for other in RENDERERS if other != asked.renderer)):
        try:
            return require_size(RENDERERS[renderer](svg, asked, fonts), asked)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as exc:  # noqa: BLE001  # a panic in Rust is not an Exception
            refusals.append(f"{renderer}: {exc or type(exc).__name__}")
    raise PixelsFailed(f"the SVG could not be rendered ({'; '.join(refusals)})")


def by_resvg(svg: CleanSvg, _: Request, fonts: Fonts) -> bytes:
    """Render with resvg."""
    if not svg.has_text:
        return resvg_py.svg_to_bytes(svg_string=svg.text, skip_system_fonts=True)
    # It reads all of them anew for each call, hence only where there is text.
    return resvg_py.svg_to_bytes(
        svg_string=svg.text,
        skip_system_fonts=True,
        font_files=list(fonts.files),
        font_family=fonts.generic["serif"],
        serif_family=fonts.generic["serif"],
        sans_serif_family=fonts.generic["sans-serif"],
        cursive_family=fonts.generic["cursive"],
        fantasy_family=fonts.generic["fantasy"],
        monospace_family=fonts.generic["monospace"],
    )


def by_cairosvg(svg: CleanSvg, asked: Request, _: Fonts) -> bytes:
    """Render with CairoSVG, which knows less of SVG but refuses less."""
    png: bytes = cairosvg.svg2png(
        bytestring=svg.text.encode(),
        unsafe=False,  # True would read files and answer to entities
        output_width=asked.width_px,
        output_height=asked.height_px,
    )
    return png


RENDERERS: dict[Renderer, Callable[[CleanSvg, Request, Fonts], bytes]] = {
    Renderer.RESVG: by_resvg,
    Renderer.CAIROSVG: by_cairosvg,
}


def require_size(png: bytes, asked: Request) -> bytes:
    """Make sure of the size, which a renderer takes from the file."""
    size = struct.unpack_from("!II", png, 16)
    if size != (asked.width_px, asked.height_px):
        raise ValueError(f"it rendered {size[0]}x{size[1]} pixels")
    return png
