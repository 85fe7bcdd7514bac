"""What a pixel pool is told, and what it gives back: settings, texts and results."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum
from pathlib import Path

from imgserve.picture_warnings import PictureWarning
from imgserve.request import ImageKind, Renderer

MIB = 1024 * 1024
CONTENT_TYPES = {
    ImageKind.PNG: "image/png",
    ImageKind.GIF: "image/gif",
    ImageKind.JPEG: "image/jpeg",
}


class Role(IntEnum):
    """What a pixel process is for, as the template is told."""

    WORK = 1
    # It draws placeholders, which are kept for others, and never sees a stranger's bytes.
    DRAW = 2


class Damaged(StrEnum):
    """What becomes of a source whose data are damaged, and which decoders survive."""

    WARN = "warn"
    FAIL = "fail"


class Text(StrEnum):
    """The texts that a placeholder can carry."""

    PROCESSING = "Image being processed"
    FAILED = "Image processing failed"


@dataclass(slots=True)
class Rendered:
    """One encoded image that a pixel process made."""

    data: bytes
    width_px: int
    height_px: int
    content_type: str
    warnings: tuple[PictureWarning, ...] = ()


def system_font_dirs() -> tuple[Path, ...]:
    """Say where fonts live on this system, whether or not the folders exist."""
    try:
        home = Path.home()
    except RuntimeError:  # no home: a service account in a container
        home = Path("/nonexistent")
    return (
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        home / ".fonts",
        home / ".local/share/fonts",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSettings:
    """Every limit of the pixel processes, named with its unit.

    Args:
        processes: how many pixel processes the pool keeps.
        jpeg_quality: 1 to 100; above 95 files grow and next to nothing is gained.
        renderer: the SVG renderer tried first when a job names none.
        pixel_timeout_s: wall time of one job; its process is killed then. resvg holds the GIL,
            so nothing inside the process could stop it.
        start_timeout_s: wall time for a process to load its codecs and lock itself.
        source_limit_pixels: width times height of a source, and of all the raster images
            embedded in one SVG together.
        source_limit_bytes: a source larger than this is never sent to a process.
        svg_limit_bytes: XML grows about twentyfold as a tree, hence less than for pictures.
        svg_depth_limit: nested elements; resvg recurses, and 256 MB of stack hold thousands.
        jpeg_scan_limit: a progressive JPEG of 4,000 scans costs 20 s; honest ones have about 10.
        pixel_memory_bytes: what jobs may take in all processes together; each job is given its
            part of it, and one alone nearly all.
        memory_limit_bytes: RLIMIT_AS of a process: 100 MP of premultiplied RGBA twice, the
            source, the 256 MB stack and the libraries.
        damaged: what becomes of a source of damaged data that can still be shown.
        process_jobs: jobs of one process, which is replaced then: nothing that an image did to it
            lasts for longer.
        process_growth_bytes: a process that keeps more than this after a job is replaced: it holds
            memory that others need. A large photo leaves 64 MB (spawner.py).
        font_dirs: the only folders that a process can read once it is locked.
        require_sandbox: refuse to start where the kernel lacks a part of the sandbox.
        placeholder_cache_bytes: placeholders kept ready, least recently used out first.
    """

    processes: int
    jpeg_quality: int = 85
    renderer: str = Renderer.RESVG
    pixel_timeout_s: float = 20.0
    start_timeout_s: float = 30.0
    source_limit_pixels: int = 100_000_000
    source_limit_bytes: int = 100_000_000
    svg_limit_bytes: int = 10_000_000
    svg_depth_limit: int = 500
    jpeg_scan_limit: int = 100
    damaged: str = Damaged.WARN
    pixel_memory_bytes: int = 1_000_000_000
    memory_limit_bytes: int = 2048 * MIB
    process_jobs: int = 1000
    process_growth_bytes: int = 128 * MIB
    font_dirs: tuple[Path, ...] = field(default_factory=system_font_dirs)
    require_sandbox: bool = False
    placeholder_cache_bytes: int = 8 * MIB

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError(f"processes is {self.processes}; at least 1 is needed")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality is {self.jpeg_quality}; 1 to 100 is allowed")
        if self.renderer not in set(Renderer):
            raise ValueError(f"renderer is {self.renderer!r}; {', '.join(Renderer)} are allowed")

    def to_json(self) -> str:
        """Write the settings for the command line of a pixel process."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return json.dumps(values | {"font_dirs": [str(path) for path in self.font_dirs]})

    @classmethod
    def from_json(cls, text: str) -> PixelSettings:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"font_dirs": tuple(Path(path) for path in values["font_dirs"])})
