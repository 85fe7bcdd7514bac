"""The pixel side of a worker: processes that get bytes and return bytes.

They are the only place where untrusted image bytes are decoded. The worker imports this package
without loading Pillow or a renderer; only the processes load those.
"""

from imgserve.worker.pixels.fonts import fonts_report
from imgserve.worker.pixels.head import ImageHead, read_head
from imgserve.worker.pixels.pool import PixelPool
from imgserve.worker.pixels.sandbox import sandbox_report
from imgserve.worker.pixels.settings import PixelSettings, Rendered, Text

__all__ = [
    "ImageHead",
    "PixelPool",
    "PixelSettings",
    "Rendered",
    "Text",
    "fonts_report",
    "read_head",
    "sandbox_report",
]
