"""The real HTTP and FTP ends of a run, in a process of their own; every version is traced.

usage: python -m scripts.chaos_lib.ends FOLDER
It writes FOLDER/ends.json once it listens, and uploads to FOLDER/uploads.jsonl.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from imgserve.commands.processes import die_with
from scripts.chaos_lib.catalog import broken, digest_of, pictures
from scripts.chaos_lib.jobs import Ends, Flavour
from scripts.chaos_lib.trace import Trace
from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer, Received, Reply
from tests.support.multipart import parse_multipart

KEPT: Final = 1000
"""Requests and commands that the servers remember: a long run has a million."""


class TracedHttpServer(HttpServer):
    """Serves the pictures; of uploads it keeps a line in the trace only."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.requests = deque(maxlen=KEPT)  # type: ignore[assignment]
        self._trace = trace
        self._fetched: set[str] = set()
        for name, body in pictures().items():
            self.files[f"/{Flavour.PLAIN}/{name}"] = body
            self.files[f"/{Flavour.BROKEN}/{name}"] = broken(body)

    def answer(self, received: Received) -> Reply:
        """Serve, or store by writing a line."""
        if received.method == "PUT":
            self._store(received.path, received.body)
            return Reply(201)
        if received.method == "POST":
            content_type = received.headers.get("content-type", "")
            for part in parse_multipart(content_type, received.body):
                if part.file_name is not None:
                    self._store(f"{received.path}:{part.file_name}", part.body)
            return Reply(200, {"Content-Type": "text/plain"}, b"thank you")
        flavour = received.path.split("/")[1]
        if flavour not in (Flavour.FLAKY, Flavour.VANISHING):
            return super().answer(received)
        again = received.target in self._fetched
        self._fetched.add(received.target)
        if again is (flavour == Flavour.VANISHING):
            return Reply(404) if again else Reply(503, {"Retry-After": "0"})
        return super().answer(replace(received, path=received.path.replace(flavour, Flavour.PLAIN)))

    def _store(self, path: str, body: bytes) -> None:
        self._trace.write("stored", path=path, digest=digest_of(body), size=len(body))


def main(folder: Path) -> None:
    """Serve until SIGTERM."""
    files, ftp_files = folder / "files", folder / "ftp"
    for root in (files, ftp_files):
        for flavour in (Flavour.PLAIN, Flavour.BROKEN):
            (root / flavour).mkdir(parents=True)
            for name, body in pictures().items():
                body = broken(body) if flavour is Flavour.BROKEN else body  # noqa: PLW2901
                (root / flavour / name).write_bytes(body)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    ftp_server = FtpServer(ftp_files)
    ftp_server.commands = deque(maxlen=KEPT)  # type: ignore[assignment]
    with TracedHttpServer(Trace(folder / "uploads.jsonl")) as http_server, ftp_server:
        ends = Ends(
            http=http_server.url("").rstrip("/"),
            ftp=ftp_server.url("").rstrip("/"),
            folder=str(files),
            ftp_folder=str(ftp_files),
        )
        draft = folder / ".ends.json"
        draft.write_text(json.dumps(asdict(ends)))
        draft.rename(folder / "ends.json")
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    main(Path(sys.argv[1]))
