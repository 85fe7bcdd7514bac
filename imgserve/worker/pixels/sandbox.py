"""The sandbox of a pixel process."""

from __future__ import annotations

from imgserve.worker.pixels.settings import PixelSettings


def sandbox_report() -> dict[str, bool | str]:
    """Say which parts of the sandbox this kernel has."""
    return {}


def lock(settings: PixelSettings) -> dict[str, bool | str]:
    """Lock this process in."""
    return {}
