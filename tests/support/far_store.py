"""Sources and destinations on another host: pictures to GET, and a history of all that was PUT.

usage: far_store.py ADDRESS PORT FOLDER

GET /red.jpg?wait=SECONDS gives a red picture after a while. What is PUT goes to FOLDER, each
version of it, named by its place in the history.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from PIL import Image

SIZE_PX = (400, 300)
_numbers = itertools.count()


class Handler(BaseHTTPRequestHandler):
    """Serves one picture and keeps what it gets."""

    protocol_version = "HTTP/1.1"
    picture = b""
    folder = Path()

    def handle(self) -> None:
        """A worker that ends, or gives up, resets its connections."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Give the picture."""
        wait_s = float(parse_qs(urlsplit(self.path).query).get("wait", ["0"])[0])
        time.sleep(wait_s)  # a slow server, not a test that waits
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(self.picture)))
        self.end_headers()
        self.wfile.write(self.picture)

    def do_PUT(self) -> None:
        """Keep what came whole."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) == int(self.headers["Content-Length"]):
            name = f"{next(_numbers):08d}-{Path(self.path).name}"
            draft = self.folder / f".{name}"
            draft.write_bytes(body)
            draft.rename(self.folder / name)
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(address: str, port: int, folder: Path) -> None:
    """Serve until killed."""
    out = io.BytesIO()
    Image.new("RGB", SIZE_PX, (255, 0, 0)).save(out, "jpeg")
    Handler.picture, Handler.folder = out.getvalue(), folder
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer((address, port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
