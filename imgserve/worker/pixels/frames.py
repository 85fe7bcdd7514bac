"""The frames between a worker and a pixel process: a fixed small header, then raw bytes.

Nothing here unpickles or parses a structure: a reply comes from a process that may have been taken
over by the image it decoded, so each field is checked against what was asked before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from imgserve.errors import (
    CodedError,
    PixelsFailed,
    ProtocolError,
    SourceOfOtherKind,
    SourceTooLarge,
    SourceTooManyPixels,
    SourceTooSmall,
    SourceUnreadable,
    SvgInvalid,
)
from imgserve.picture_warnings import (
    DETAIL_LIMIT_CHARS,
    WARNINGS_LIMIT,
    PictureWarning,
    WarningName,
)
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels.head import read_head
from imgserve.worker.pixels.settings import Text

OK = 0
DETAIL_LIMIT_BYTES = 2000  # one sentence; more is a process that misbehaves
# The most that an encoder needs for a pixel (16-bit RGBA), and for headers, profile and chunks.
RESULT_BYTES_PER_PIXEL = 8
RESULT_OVERHEAD_BYTES = 8 * 1024 * 1024

ERRORS: dict[int, type[CodedError]] = {
    error.code: error
    for error in (
        SourceUnreadable,
        SourceTooSmall,
        SvgInvalid,
        SourceTooLarge,
        SourceTooManyPixels,
        SourceOfOtherKind,
        PixelsFailed,
    )
}


class Fate(IntEnum):
    """What becomes of a pixel process after a job, as numbered in frames."""

    KEEP = 0
    # It has grown, or may be in a bad state: it takes no further request.
    RETIRE = 1
    # The same, and the job's failure may be this process's own: a fresh one has to say.
    RETIRE_AND_RETRY = 2


class PixelOperation(IntEnum):
    """The operations of a pixel process, as they are numbered in frames."""

    RESIZE = 1
    RASTERIZE = 2
    CHECK_SVG = 3
    PLACEHOLDER = 4


# Declared order is the number in a frame; append only.
KINDS: tuple[ImageKind, ...] = (ImageKind.PNG, ImageKind.GIF, ImageKind.JPEG, ImageKind.SVG)
TEXTS: tuple[Text, ...] = tuple(Text)
WARNING_NAMES = frozenset(WarningName)
RENDERERS: tuple[Renderer, ...] = tuple(Renderer)


@dataclass(slots=True, kw_only=True)
class Request:
    """One job for a pixel process; its bytes follow the header."""

    operation: PixelOperation
    kind: ImageKind
    width_px: int = 0
    height_px: int = 0
    quality: int = 85
    text: Text = Text.PROCESSING
    renderer: Renderer = Renderer.RESVG
    size_bytes: int = 0
    memory_bytes: int = 0

    FORMAT = struct.Struct("!BBBBBIIQQ")

    def pack(self) -> bytes:
        """Make the header."""
        return self.FORMAT.pack(
            self.operation,
            KINDS.index(self.kind),
            self.quality,
            TEXTS.index(self.text),
            RENDERERS.index(self.renderer),
            self.width_px,
            self.height_px,
            self.size_bytes,
            self.memory_bytes,
        )

    @classmethod
    def unpack(cls, header: bytes) -> Request:
        """Read the header; the peer is the worker, which is trusted."""
        operation, kind, quality, text, renderer, *sizes = cls.FORMAT.unpack(header)
        width, height, size, memory = sizes
        return cls(
            operation=PixelOperation(operation),
            kind=KINDS[kind],
            quality=quality,
            text=TEXTS[text],
            renderer=RENDERERS[renderer],
            width_px=width,
            height_px=height,
            size_bytes=size,
            memory_bytes=memory,
        )


@dataclass(slots=True, kw_only=True)
class Reply:
    """One answer of a pixel process: a result, or a code with its sentence, in the bytes after."""

    status: int
    kind: ImageKind
    width_px: int
    height_px: int
    seconds: float
    size_bytes: int
    fate: Fate = Fate.KEEP
    # Of the bytes after the result that say its warnings.
    warnings_bytes: int = 0

    FORMAT = struct.Struct("!HBIIdQBH")

    def pack(self) -> bytes:
        """Make the header."""
        return self.FORMAT.pack(
            self.status,
            KINDS.index(self.kind),
            self.width_px,
            self.height_px,
            self.seconds,
            self.size_bytes,
            self.fate,
            self.warnings_bytes,
        )

    @classmethod
    def unpack(cls, header: bytes, *, asked: Request) -> Reply:
        """Read the header of a reply and hold it against the request.

        Raises:
            ProtocolError: when the reply cannot be one to `asked`.
        """
        status, kind, width, height, seconds, size, fate, warnings = cls.FORMAT.unpack(header)
        if status == OK:
            sizes_fit = (width, height) == (asked.width_px, asked.height_px)
            pixels = asked.width_px * asked.height_px
            limit = pixels * RESULT_BYTES_PER_PIXEL + RESULT_OVERHEAD_BYTES
        else:
            sizes_fit, limit = status in ERRORS, DETAIL_LIMIT_BYTES
        if not sizes_fit or kind >= len(KINDS) or size > limit or fate > max(Fate):
            raise ProtocolError(f"a pixel process answered {status} {width}x{height}, {size} B")
        return cls(
            status=status,
            kind=KINDS[kind],
            width_px=width,
            height_px=height,
            seconds=seconds,
            size_bytes=size,
            fate=Fate(fate),
            warnings_bytes=warnings,
        )

    @classmethod
    def hello(cls, report: bytes) -> Reply:
        """Make the header of the first frame, which says that the process is ready."""
        return cls(
            status=OK,
            kind=ImageKind.PNG,
            width_px=0,
            height_px=0,
            seconds=0.0,
            size_bytes=len(report),
        )


# What a hello is held against.
HELLO = Request(operation=PixelOperation.CHECK_SVG, kind=ImageKind.PNG)


def pack_warnings(warnings: Iterable[PictureWarning]) -> bytes:
    """Write warnings as lines of a name, a tab and a detail."""
    lines = (f"{name}\t{detail}\n" for name, detail in warnings)
    return "".join(lines).encode("utf-8", "replace")


def unpack_warnings(data: bytes) -> tuple[PictureWarning, ...]:
    """Read what `pack_warnings` wrote.

    Raises:
        ProtocolError: when an honest process cannot have written it.
    """
    found: list[PictureWarning] = []
    for line in data.decode("utf-8", "replace").split("\n")[:-1]:
        name, tab, detail = line.partition("\t")
        fits = tab and len(detail) <= DETAIL_LIMIT_CHARS and detail.isprintable()
        if not fits or name not in WARNING_NAMES or len(found) >= WARNINGS_LIMIT:
            raise ProtocolError("a pixel process sent warnings of no known form")
        found.append(PictureWarning(name, detail))
    return tuple(found)


def require_picture(asked: Request, data: bytes) -> None:
    """Hold a result's own head against the request: the process that made it is not trusted.

    Raises:
        ProtocolError: it is not of the format or the size that was asked for.
    """
    try:
        head = read_head(data, complete=True)
    except SourceUnreadable as exc:
        raise ProtocolError(f"a pixel process sent no picture: {exc.detail}") from exc
    wanted = (result_kind(asked), asked.width_px, asked.height_px)
    if head is None or (head.kind, head.width_px, head.height_px) != wanted:
        raise ProtocolError(f"a pixel process sent another picture than {wanted}: {head}")


def result_kind(asked: Request) -> ImageKind:
    """Say in which format the result of a request is."""
    return ImageKind.PNG if asked.kind is ImageKind.SVG else asked.kind
