"""Thumbnails by libvips, over and over, from memory; runs in the peers' environment.

Each line of standard input is an order, {"source": path, "width", "height", "kind", "jobs",
"result": path}; it is answered by one line when that many thumbnails are made, and the last one is
in the result's file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyvips


def thumbnail(data: bytes, width_px: int, height_px: int, kind: str) -> bytes:
    """Scale, crop and encode as imgserve does, except that the crop is in the middle."""
    image = pyvips.Image.thumbnail_buffer(data, width_px, height=height_px, crop="centre")
    if kind == "PNG":
        return bytes(image.pngsave_buffer())
    return bytes(image.jpegsave_buffer(Q=85, optimize_coding=True))


def main() -> None:
    """Answer orders until standard input ends."""
    pyvips.cache_set_max(0)  # or the same call on the same bytes would be answered from memory
    for line in sys.stdin:
        order = json.loads(line)
        try:
            data = Path(order["source"]).read_bytes()
            for _ in range(order["jobs"]):
                small = thumbnail(data, order["width"], order["height"], order["kind"])
            Path(order["result"]).write_bytes(small)
            answer = {"done": order["jobs"]}
        except (OSError, pyvips.Error) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
