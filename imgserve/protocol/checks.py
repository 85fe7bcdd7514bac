"""Checks that every message passes: peers are untrusted, and so are we.

What submitters and workers say is checked when it is made, which is when a user's value comes in
and again when the broker reads it. What the broker says is made of what was checked already, by
the thousand, so it is checked by who reads it.

Each check returns nothing and raises `ProtocolError` with the field's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from imgserve.errors import ProtocolError
from imgserve.picture_warnings import DETAIL_LIMIT_CHARS, WARNINGS_LIMIT

PAYLOAD_LIMIT_BYTES: Final = 64 * 1024
"""A request's own limit (code 117); nothing larger travels."""

TEXT_LIMIT_CHARS: Final = 4096
"""Details, reasons and host names: sentences, not documents."""

URL_LIMIT_CHARS: Final = 2 * 64 * 1024
"""A resolved dstURL: the request's limit, and as much again for its tags."""

LIST_LIMIT: Final = 10_000
"""Entries in a list: more than a worker has slots or a replay asks for."""

TAGS_LIMIT: Final = 16
"""Tags of one worker: zones and networks, not a database."""

LATER: Final = {"later": True}
"""Metadata of a last field that an earlier minor version did not have."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)


def is_identifier(value: object) -> bool:
    """Tell whether a value can be a job id, a topic, an incarnation or an epoch."""
    return type(value) is str and _is_well_formed(value)


@lru_cache(maxsize=16_384)
def _is_well_formed(text: str) -> bool:
    # Remembered: the same ids come again and again, a dozen times for each job.
    return _IDENTIFIER.match(text) is not None


def identifier(name: str, value: object) -> None:
    """1 to 64 of A-Z a-z 0-9 _ . : - (no space: the topic ends at the first one)."""
    if type(value) is not str or not _is_well_formed(value):
        raise ProtocolError(f"{name} is not 1 to 64 characters of A-Z a-z 0-9 _ . : -")


def integer(name: str, value: object, low: int = 0, high: int = 2**53) -> None:
    """A whole number from low to high; true and false are none."""
    if type(value) is not int or not low <= value <= high:
        raise ProtocolError(f"{name} is not a whole number from {low} to {high}")


def number(name: str, value: object) -> None:
    """A finite number of at least zero."""
    if type(value) not in (int, float) or not 0 <= value < 1e18:  # type: ignore[operator]
        raise ProtocolError(f"{name} is not a number of at least 0")


def boolean(name: str, value: object) -> None:
    """True or false, nothing that merely looks like it."""
    if type(value) is not bool:
        raise ProtocolError(f"{name} is not true or false")


def text(name: str, value: object, limit: int = TEXT_LIMIT_CHARS) -> None:
    """A string of at most limit characters."""
    if type(value) is not str or len(value) > limit:
        raise ProtocolError(f"{name} is not a string of at most {limit} characters")


def blob(name: str, value: object, limit: int = PAYLOAD_LIMIT_BYTES) -> None:
    """Bytes, at most limit of them."""
    if type(value) is not bytes or len(value) > limit:
        raise ProtocolError(f"{name} is not at most {limit} bytes")


def items(name: str, value: object, limit: int = LIST_LIMIT) -> tuple[object, ...]:
    """A list (a tuple here) of at most limit entries."""
    if type(value) is not tuple or len(value) > limit:
        raise ProtocolError(f"{name} is not a list of at most {limit} entries")
    return value


def identifiers(name: str, value: object) -> None:
    """A list of identifiers."""
    for entry in items(name, value):
        identifier(name, entry)


def tags(name: str, value: object) -> None:
    """A short list of identifiers."""
    for entry in items(name, value, TAGS_LIMIT):
        identifier(name, entry)


def integers(name: str, value: object) -> None:
    """A list of whole numbers."""
    for entry in items(name, value):
        integer(name, entry)


def texts(name: str, value: object) -> None:
    """A list of strings."""
    for entry in items(name, value):
        text(name, entry)


def warnings(name: str, value: object) -> None:
    """A short list of [name, detail]."""
    for entry in items(name, value, WARNINGS_LIMIT):
        if not isinstance(entry, tuple) or len(entry) != 2:
            raise ProtocolError(f"{name} is not a list of [name, detail]")
        identifier(name, entry[0])
        text(name, entry[1], DETAIL_LIMIT_CHARS)


def attempts(name: str, value: object) -> None:
    """A list of [job id, attempt]."""
    for entry in items(name, value):
        if type(entry) is not tuple or len(entry) != 2:
            raise ProtocolError(f"{name} is not a list of [job id, attempt]")
        identifier(name, entry[0])
        integer(name, entry[1])


def numbers(name: str, value: object) -> None:
    """A map of short names to numbers."""
    if not isinstance(value, Mapping) or len(value) > 64:
        raise ProtocolError(f"{name} is not a map of at most 64 entries")
    for key, entry in value.items():
        text(name, key, 64)
        number(name, entry)


def document(name: str, value: object) -> None:
    """A map with string keys; what is inside is for people and dashboards."""
    if not isinstance(value, Mapping) or not all(type(key) is str for key in value):
        raise ProtocolError(f"{name} is not a map with string keys")
