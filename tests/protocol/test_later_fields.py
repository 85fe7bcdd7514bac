"""Fields that an earlier minor version did not have."""

from __future__ import annotations

import msgpack
import pytest

from imgserve.errors import ProtocolError
from imgserve.protocol.codec import JOBS, REPORTS
from imgserve.protocol.jobs import Submit
from imgserve.protocol.reports import Done, Hello


def done(*warnings: tuple[str, str]) -> Done:
    """A report of a finished job."""
    return Done("w", "e", 1, "j", 1, "http://d/a.png", 3, 2, 99, {}, warnings)


def test_a_default_is_not_sent():
    """A peer of before the field reads what does not use it."""
    assert msgpack.unpackb(JOBS.encode(Submit("j", "me", 0, b"{}")))[2:] == ["j", "me", 0, b"{}"]
    assert len(msgpack.unpackb(REPORTS.encode(Hello("i", "h", 1, 2, "1", ())))) == 8
    assert len(msgpack.unpackb(REPORTS.encode(done()))) == 12


def test_a_value_is_sent_and_read():
    """What uses the field arrives with it."""
    for codec, message in (
        (JOBS, Submit("j", "me", 0, b"{}", "zone-a")),
        (REPORTS, Hello("i", "h", 1, 2, "1", (), ("a", "b"))),
        (REPORTS, Hello("i", "h", 1, 2, "1", (), (), ("before",))),
        (REPORTS, done(("image_not_drawn", "it is outside"))),
    ):
        assert codec.decode(codec.encode(message)) == message


@pytest.mark.parametrize("tags", [("a b",), ("",), tuple(map(str, range(17))), "ab"])
def test_tags_are_a_few_identifiers(tags):
    """Anything else is no hello."""
    with pytest.raises(ProtocolError):
        Hello("i", "h", 1, 2, "1", (), tags)


def test_sixteen_tags_are_taken():
    """The limit itself is allowed."""
    assert len(Hello("i", "h", 1, 2, "1", (), tuple(map(str, range(16)))).tags) == 16


@pytest.mark.parametrize(
    "warnings",
    [
        (("a b", "detail"),),
        (("name", "d" * 201),),
        (("name",),),
        ("name",),
        tuple((f"name{number}", "detail") for number in range(9)),
    ],
)
def test_warnings_are_a_few_names_and_sentences(warnings):
    """A worker cannot make the broker keep anything else."""
    with pytest.raises(ProtocolError):
        done(*warnings)
