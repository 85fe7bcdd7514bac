"""Requests as clients write them."""

from __future__ import annotations

import json
from typing import Any


def resize(src_url: str, dst_url: str, **args: Any) -> bytes:
    """A request to resize to 40x30 and PUT the result."""
    arguments = {"width": 40, "height": 30, "method": "PUT"} | args
    document = {
        "operationType": "resize",
        "srcURL": src_url,
        "dstURL": dst_url,
        "args": arguments,
    }
    return json.dumps(document).encode()
