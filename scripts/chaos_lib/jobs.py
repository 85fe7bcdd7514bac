"""The jobs of a run: drawn from a seed, each with a destination of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from scripts.chaos_lib.catalog import SIZES


class Flavour(StrEnum):
    """What is special about a job."""

    PLAIN = "plain"
    FLAKY = "flaky"  # its source answers 503 at first
    MISSING = "missing"  # it has no source: rejected with 201
    BROKEN = "broken"  # its source has a good head only: fails after it was accepted
    VANISHING = "vanishing"  # its source is there for the first attempt only
    CANCEL = "cancel"  # cancelled after a moment
    AGAIN = "again"  # submitted a second time once it is over: the same outcome
    OTHER = "other"  # once it is over its id is used for another request: a conflict


WEIGHTS: Final = {
    Flavour.PLAIN: 80,
    Flavour.FLAKY: 4,
    Flavour.MISSING: 2,
    Flavour.BROKEN: 2,
    Flavour.VANISHING: 4,
    Flavour.CANCEL: 3,
    Flavour.AGAIN: 3,
    Flavour.OTHER: 2,
}
RASTER: Final = ("meadow.png", "street.png", "harbour.jpg", "face.jpeg")
VECTOR: Final = ("sun.svg", "moon.svg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Where sources and destinations are.

    Args:
        http, ftp: URLs without a slash at the end.
        folder: of the `file:` scheme; it holds the sources too.
        ftp_folder: what the FTP server serves.
    """

    http: str
    ftp: str
    folder: str
    ftp_folder: str

    def stored_at(self, dst_url: str) -> Path | None:
        """Return the file that a destination is, None where it is HTTP."""
        parts = urlsplit(dst_url)
        if parts.scheme == "file":
            return Path(parts.path)
        if parts.scheme == "ftp":
            return Path(self.ftp_folder + parts.path)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One job, before anybody has heard of it."""

    job_id: str
    flavour: Flavour
    source: str
    width_px: int
    height_px: int
    request: dict[str, Any]


def plan_job(chance: random.Random, job_id: str, ends: Ends) -> PlannedJob:
    """Draw one job."""
    (flavour,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
    raster = flavour is Flavour.BROKEN or chance.random() < 0.75
    source = chance.choice(RASTER if raster else VECTOR)
    width_px, height_px = chance.choice(SIZES)
    kind = source.rpartition(".")[2].replace("svg", "png")
    scheme = "http" if flavour in (Flavour.FLAKY, Flavour.MISSING, Flavour.VANISHING) else None
    scheme = scheme or chance.choices(("http", "post", "ftp", "file"), (5, 2, 3, 2))[0]
    arguments: dict[str, Any] = {"width": width_px, "height": height_px}
    src_url, dst_url = _urls(scheme, flavour, source, f"{job_id}.{kind}", ends)
    if scheme == "http":
        arguments["method"] = "PUT"
        src_url += f"?job={job_id}"
    elif scheme == "post":
        arguments["field_name"] = "picture"
    request = {
        "operationType": "resize" if raster else "rasterize",
        "srcURL": src_url,
        "dstURL": dst_url,
        "args": arguments,
    }
    return PlannedJob(
        job_id=job_id,
        flavour=flavour,
        source=source,
        width_px=width_px,
        height_px=height_px,
        request=request,
    )


def _urls(scheme: str, flavour: Flavour, source: str, name: str, ends: Ends) -> tuple[str, str]:
    special = (Flavour.FLAKY, Flavour.MISSING, Flavour.VANISHING, Flavour.BROKEN)
    folder = flavour.value if flavour in special else "plain"
    if scheme == "http":
        return f"{ends.http}/{folder}/{source}", f"{ends.http}/out/{name}"
    if scheme == "post":
        return f"{ends.http}/{folder}/{source}", f"{ends.http}/page:{name}"
    # Names spread over folders: thousands of files in one would slow the ends down.
    base = ends.ftp if scheme == "ftp" else f"file://{ends.folder}"
    return f"{base}/{folder}/{source}", f"{base}/out/{name[-7:-5]}/{name}"
