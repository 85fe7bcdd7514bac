"""Sources and destinations of every kind, as a request names them and as a test looks at them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer
from tests.support.service import Service

SOURCES = ("http", "ftp", "file")
DESTINATIONS = ("http-put", "http-post", "ftp", "file")
FIELD_NAME = "image_file"


@dataclass(frozen=True, slots=True)
class Place:
    """A destination: what a request says of it, what is there now (None: nothing), its folder."""

    dst_url: str
    now: Callable[[], bytes | None]
    names: Callable[[], list[str]]
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ends:
    """The servers, and the folder that both ends of a `file:` job are in."""

    service: Service
    web: HttpServer
    ftp: FtpServer

    def source(self, kind: str, folder: str, file_name: str, data: bytes) -> str:
        """Put a source where a kind of URL finds it; return the URL."""
        if kind == "http":
            self.web.files[f"/{folder}/{file_name}"] = data
            return self.web.url(f"/{folder}/{file_name}")
        root = self.ftp.root if kind == "ftp" else self.service.files
        path = root / f"{folder}-source" / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return self.ftp.url(f"/{folder}-source/{file_name}") if kind == "ftp" else path.as_uri()

    def place(self, kind: str, folder: str, pattern: str, file_name: str) -> Place:
        """Describe a destination.

        Args:
            kind: one of DESTINATIONS.
            folder: a folder of the test's own, which need not exist.
            pattern: the file name as the request says it, with tags.
            file_name: what it becomes.
        """
        if kind == "http-put":
            url = self.web.url(f"/{folder}/{pattern}")
            return self._on_web(url, f"/{folder}/{file_name}", {"method": "PUT"})
        if kind == "http-post":
            url = self.web.url(f"/{folder}:{pattern}")
            return self._on_web(url, f"/{folder}/{file_name}", {"field_name": FIELD_NAME})
        if kind == "ftp":
            return _in_folder(
                self.ftp.url(f"/{folder}/{pattern}"), self.ftp.root / folder / file_name
            )
        path = self.service.files / folder / file_name
        return _in_folder(f"file://{path.parent}/{pattern}", path)

    def _on_web(self, url: str, path: str, args: dict[str, Any]) -> Place:
        def names() -> list[str]:
            page = path.rpartition("/")[0] + "/"
            return [each.rpartition("/")[2] for each in self.web.stored if each.startswith(page)]

        return Place(url, lambda: self.web.stored.get(path), names, args)


def _in_folder(url: str, path: Path) -> Place:
    def names() -> list[str]:
        return [each.name for each in path.parent.iterdir()] if path.parent.exists() else []

    return Place(url, lambda: path.read_bytes() if path.exists() else None, names)
