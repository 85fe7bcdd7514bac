"""A strict reader of multipart form data, for servers that tests upload to."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form; `file_name` is None where it is no file."""

    name: str
    file_name: str | None
    content_type: str
    body: bytes


def parse_multipart(content_type: str, body: bytes) -> list[Part]:
    """Read every part; a body that is not well-formed raises ValueError."""
    found = re.fullmatch(r'multipart/form-data; boundary="?([^"]+)"?', content_type)
    if found is None:
        raise ValueError(f"not form data: {content_type}")
    delimiter = b"\r\n--" + found[1].encode()
    first, *parts, end = (b"\r\n" + body).split(delimiter)
    if first or end != b"--\r\n":
        raise ValueError("the body does not begin and end with the boundary")
    return [_part(part) for part in parts]


def _part(text: bytes) -> Part:
    head, separator, body = text.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"\r\n"):
        raise ValueError("a part has no head")
    headers = dict(line.split(": ", 1) for line in head[2:].decode("utf-8").split("\r\n"))
    disposition = headers["Content-Disposition"]
    found = re.fullmatch(r'form-data; name="([^"]*)"(?:; filename="([^"]*)")?', disposition)
    if found is None:
        raise ValueError(f"not a form field: {disposition}")
    return Part(found[1], found[2], headers.get("Content-Type", ""), body)
