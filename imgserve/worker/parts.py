"""From the settings to the parts of a worker."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from imgserve.config import Settings
from imgserve.request import ResultLimits
from imgserve.worker.capacity import default_processes, default_slots, read_cpus
from imgserve.worker.inspection import SourceLimits
from imgserve.worker.pixels import PixelSettings, memory
from imgserve.worker.pixels.pool import SMALL_JOBS_PART
from imgserve.worker.transfers import TransferSettings


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many pixel processes a worker keeps, and how many jobs it holds at once."""

    processes: int
    slots: int


def build_capacity(settings: Settings) -> Capacity:
    """Settle what the settings leave to the machine."""
    processes = settings.processes
    if processes == "auto":
        processes = default_processes(read_cpus(environment=os.environ))
    return Capacity(processes, settings.slots or default_slots(processes))


def build_transfer_settings(settings: Settings) -> TransferSettings:
    """Map the settings to those of the transfers."""
    return TransferSettings(
        connect_timeout_s=settings.connect_timeout_s,
        fetch_timeout_s=settings.fetch_timeout_s,
        upload_timeout_s=settings.upload_timeout_s,
        source_limit_bytes=settings.source_limit_bytes,
        file_roots=settings.file_root,
        allow_networks=settings.allow_network,
        deny_networks=settings.deny_network,
        deny_private=settings.deny_private,
        ftp_connections=settings.ftp_connections,
        allow_hosts=settings.allow_host,
        deny_hosts=settings.deny_host,
        max_redirects=settings.max_redirects,
        low_speed_bytes_s=settings.low_speed_bytes_s,
        low_speed_time_s=settings.low_speed_time_s,
        verify_tls=settings.verify_tls,
        ca_file=None if settings.ca_file is None else str(settings.ca_file),
    )


def build_pixel_settings(settings: Settings, processes: int) -> PixelSettings:
    """Map the settings to those of the pixel processes."""
    more_bytes = more_for_large_pictures(settings)
    budget_bytes = max(10**9, 5 * 10**8 * processes) + share_for_large_jobs(more_bytes)
    chosen = PixelSettings(
        processes=processes,
        # Above 95 a JPEG grows and nothing is gained: Pillow's documentation says so.
        jpeg_quality=min(95, settings.jpeg_quality),
        renderer=settings.renderer,
        pixel_timeout_s=settings.pixel_timeout_s,
        source_limit_pixels=settings.source_limit_pixels,
        source_limit_bytes=settings.source_limit_bytes,
        svg_limit_bytes=settings.svg_limit_bytes,
        svg_depth_limit=settings.svg_depth_limit,
        jpeg_scan_limit=settings.jpeg_scan_limit,
        damaged=settings.damaged,
        pixel_memory_bytes=settings.pixel_memory_bytes or budget_bytes,
        require_sandbox=settings.require_sandbox,
        process_jobs=settings.process_jobs,
        process_growth_bytes=settings.process_growth_bytes,
    )
    return replace(chosen, memory_limit_bytes=chosen.memory_limit_bytes + more_bytes)


def more_for_large_pictures(settings: Settings) -> int:
    """Return what the largest picture takes, in bytes, over one at the default limits."""
    defaults = Settings.model_fields
    source_pixels: int = settings.source_limit_pixels - defaults["source_limit_pixels"].default
    result_pixels: int = settings.result_limit_pixels - defaults["result_limit_pixels"].default
    source_bytes = source_pixels * (
        memory.COEFFICIENT_BYTES_PER_PIXEL + memory.LOADED_BYTES_PER_PIXEL
    )
    return max(0, source_bytes) + max(0, result_pixels * memory.RESULT_BYTES_PER_PIXEL)


def share_for_large_jobs(size_bytes: int) -> int:
    """Return by how much a pool's budget grows, so that a large job can have so much more."""
    return size_bytes * SMALL_JOBS_PART // (SMALL_JOBS_PART - 1)


def build_result_limits(settings: Settings) -> ResultLimits:
    """Map the settings to what a result may be."""
    return ResultLimits(pixels=settings.result_limit_pixels, side_px=settings.result_limit_side_px)


def build_source_limits(settings: Settings) -> SourceLimits:
    """Map the settings to what a source may be."""
    return SourceLimits(
        size_bytes=settings.source_limit_bytes,
        svg_bytes=settings.svg_limit_bytes,
        pixels=settings.source_limit_pixels,
    )
