"""imgserve itself, through its native client: what the peers are measured beside."""

from __future__ import annotations

from bench_lib import drive
from bench_lib.bare import Cost
from bench_lib.peers.kinds import HEIGHT_PX, SOURCE, WIDTH_PX, WINDOW, Place
from bench_lib.setting import Service


def thumbnails(service: Service, place: Place, jobs: int, name: str, source: str = SOURCE) -> Cost:
    """Have the service make as many thumbnails of one source; placeholders come before them."""
    wanted = [
        {
            "operationType": "resize",
            "srcURL": f"{place.ends.url}/{source}",
            "dstURL": f"{place.put(name)}{number}.jpg",
            "args": {"width": WIDTH_PX, "height": HEIGHT_PX, "method": "PUT"},
        }
        for number in range(jobs)
    ]
    return drive.native(service, wanted, window=WINDOW)
