"""What this machine lacks for pixel processes, for `status`: fonts, and parts of the sandbox."""

from __future__ import annotations

from imgserve.worker.pixels import fonts_report, sandbox_report
from imgserve.worker.pixels.settings import system_font_dirs

Report = bool | str
"""True, or a sentence on what is missing and what that costs."""


def pixel_report() -> dict[str, Report]:
    """Return fonts and each part of the sandbox, without loading an image library."""
    fonts = fonts_report(system_font_dirs())
    return {"fonts": fonts} | {f"sandbox_{part}": had for part, had in sandbox_report().items()}
