"""Is this source what its name says, and fit for the request? Asked of its first bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imgserve.errors import SourceOfOtherKind, SourceTooManyPixels, SourceTooSmall
from imgserve.request import ImageKind, Request
from imgserve.worker.pixels import ImageHead, PixelPool, read_head
from imgserve.worker.source import Source

FIRST_HEAD_BYTES: Final = 4096
"""Enough for PNG, GIF and most JPEGs without a large preview in their metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLimits:
    """What a source may be: bytes, bytes of an SVG, pixels."""

    size_bytes: int
    svg_bytes: int
    pixels: int

    def of(self, request: Request) -> int:
        """The limit in bytes for the source of a request."""
        svg = request.source_kind is ImageKind.SVG
        return min(self.svg_bytes, self.size_bytes) if svg else self.size_bytes


async def inspect(
    source: Source, request: Request, limits: SourceLimits, *, pixels: PixelPool
) -> None:
    """Check a source as early as its bytes allow; an SVG as a whole.

    Raises:
        SourceUnreadable, SourceTooSmall, SourceTooManyPixels, SourceOfOtherKind, SvgInvalid:
            it will not do.
        CodedError: it could not be fetched so far.
    """
    if request.source_kind is ImageKind.SVG:
        await pixels.check_svg(await source.body())
    else:
        check_head(await _wait_for_head(source), request, limits)


def check_head(head: ImageHead, request: Request, limits: SourceLimits) -> None:
    """Compare what the head says with the request; raises like `inspect`."""
    if head.kind is not request.source_kind:
        raise SourceOfOtherKind(
            f"the source is {head.kind.upper()}; its name says {request.source_kind.upper()}"
        )
    size = f"{head.width_px}x{head.height_px}"
    if head.pixels > limits.pixels:
        raise SourceTooManyPixels(
            f"the source has {size} pixels; at most {limits.pixels} are taken"
        )
    if head.width_px < request.width_px or head.height_px < request.height_px:
        raise SourceTooSmall(
            f"the source has {size} pixels, the result would have "
            f"{request.width_px}x{request.height_px}; images are only scaled down"
        )


async def _wait_for_head(source: Source) -> ImageHead:
    wanted_bytes = FIRST_HEAD_BYTES
    while True:
        data = await source.head(wanted_bytes)
        # It ends: of a whole source, or of a very long head, `read_head` says something or raises.
        head = read_head(data, complete=source.complete)
        if head is not None:
            return head
        wanted_bytes = 2 * max(wanted_bytes, len(data))
