"""Frames to messages and back: one msgpack array a frame, `[version, kind, field, …]`.

Fields stand in the order of the dataclass. A later minor change may add fields at the end, with
defaults; a frame that leaves them out is read with the defaults, one that has too many is refused.
A field marked `checks.LATER` is left out while it has its default, so that older peers can read it.

Nobody changes a message once it is made, yet the dataclasses are not frozen: making a frozen one
takes four times as long, and a job takes a dozen of them.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import msgpack

from imgserve.errors import ProtocolError
from imgserve.protocol import checks, events, jobs, lane, reports

PROTOCOL_VERSION: Final = 1
Message = TypeVar("Message")
FRAME_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""`MAXMSGSIZE` of every socket: the largest honest frame is a long list of dead letters."""

INBOX_FRAME_LIMIT_BYTES: Final = 1024 * 1024
"""`MAXMSGSIZE` of what the broker reads: a beat of 10,000 jobs fits; an array of a million empty
maps, which takes 64 times its bytes once decoded, does not get far."""

_unpack: Final = partial(
    msgpack.unpackb,
    use_list=False,
    raw=False,
    strict_map_key=True,
    max_str_len=4 * checks.URL_LIMIT_CHARS,  # bytes; a character has four at most
    max_bin_len=checks.PAYLOAD_LIMIT_BYTES,
    max_array_len=checks.LIST_LIMIT,
    max_map_len=checks.LIST_LIMIT,
    max_ext_len=0,
)

_kept: Final = threading.local()


class VersionMismatch(ProtocolError):
    """Raised when a frame is of another protocol version.

    Args:
        theirs: the version seen.
        kind, sender: the frame's kind and first field where they can be read, else empty.
    """

    def __init__(self, theirs: object, kind: str = "", sender: str = "") -> None:
        self.kind = kind
        self.sender = sender
        super().__init__(
            f"the peer speaks protocol version {theirs!r}, this side {PROTOCOL_VERSION}"
        )


class Codec(Generic[Message]):
    """Encode and decode the messages of one socket; a kind of another socket is an error.

    Args:
        kinds: the messages.
        checked_by_reader: they check themselves when they are read, not when they are made.
    """

    def __init__(self, kinds: Iterable[type[Message]], *, checked_by_reader: bool = False) -> None:
        self._checked_by_reader = checked_by_reader
        self._by_kind = {kind.KIND: kind for kind in kinds}  # type: ignore[attr-defined]
        self._fields: dict[type, Callable[[Any], tuple[Any, ...]]] = {
            kind: _reader(kind) for kind in self._by_kind.values()
        }

    def encode(self, message: Message) -> bytes:
        """Return the frame of a message."""
        kind = type(message)
        body = (PROTOCOL_VERSION, kind.KIND, *self._fields[kind](message))  # type: ignore[attr-defined]
        return pack(body)

    def decode(self, frame: bytes) -> Message:
        """Return the message of a frame.

        Raises:
            VersionMismatch: it is of another version.
            ProtocolError: anything else is wrong with it.
        """
        version, kind, fields = _open(frame)
        if version != PROTOCOL_VERSION:
            sender = fields[0] if fields and isinstance(fields[0], str) else ""
            raise VersionMismatch(version, kind if isinstance(kind, str) else "", sender)
        message = self._by_kind.get(kind) if isinstance(kind, str) else None
        if message is None:
            raise ProtocolError("the message is of no kind that belongs on this socket")
        try:
            made = message(*fields)
        except TypeError as exc:
            raise ProtocolError(f"{kind} has the wrong number of fields") from exc
        if self._checked_by_reader:
            made.check()  # type: ignore[attr-defined]
        return made


def pack(value: object) -> bytes:
    """Return a value in msgpack; the packer is kept, for making one costs as much as its use."""
    try:
        packer = _kept.packer
    except AttributeError:
        packer = _kept.packer = msgpack.Packer()
    return packer.pack(value)  # type: ignore[no-any-return]


def _reader(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """Reads all fields of a message in order; attrgetter of one name would give no tuple."""
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    read = attrgetter(*names)
    if len(names) == 1:
        return lambda message: (read(message),)
    # They stand at the end; the last comes first here.
    defaults = [field.default for field in reversed(fields) if field.metadata == checks.LATER]
    if not defaults:
        return read

    def read_without_defaults(message: Any) -> tuple[Any, ...]:
        values: tuple[Any, ...] = read(message)
        for default in defaults:
            if values[-1] != default:
                break
            values = values[:-1]
        return values

    return read_without_defaults


def _open(frame: bytes) -> tuple[object, object, tuple[Any, ...]]:
    if len(frame) > FRAME_LIMIT_BYTES:
        raise ProtocolError(f"the frame has more than {FRAME_LIMIT_BYTES} bytes")
    try:
        body = _unpack(frame)
    except (ValueError, msgpack.UnpackException, RecursionError, OverflowError) as exc:
        raise ProtocolError("the frame is not one msgpack value") from exc
    if type(body) is not tuple or len(body) < 2:
        raise ProtocolError("the frame is not an array of version, kind and fields")
    return body[0], body[1], body[2:]


JOBS: Final[Codec[jobs.JobsMessage]] = Codec(
    (jobs.Submit, jobs.Cancel, jobs.Replay, jobs.AskStats, jobs.Dead)
)
REPORTS: Final[Codec[reports.ReportsMessage]] = Codec(
    (
        reports.Hello,
        reports.Beat,
        reports.Accepted,
        reports.Rejected,
        reports.Done,
        reports.Failed,
        reports.Returned,
        reports.Bye,
    )
)
LANE: Final[Codec[lane.LaneMessage]] = Codec(
    (lane.Job, lane.CancelJob, lane.Ack, lane.Drain), checked_by_reader=True
)
EVENTS: Final[Codec[events.EventsMessage]] = Codec(
    (
        events.Welcome,
        events.TurnedAway,
        events.JobState,
        events.Refused,
        events.BrokerBeat,
        events.Stats,
        events.DeadLetters,
    ),
    checked_by_reader=True,
)


def topic_prefix(topic: str) -> bytes:
    """What to subscribe to for a topic: the space keeps `ab` from hearing `abc`."""
    return topic.encode("ascii") + b" "


def encode_event(topic: str, message: events.EventsMessage) -> bytes:
    """Return the frame of an event: topic, one space, msgpack."""
    return topic_prefix(topic) + EVENTS.encode(message)


def decode_event(frame: bytes) -> tuple[str, events.EventsMessage]:
    """Return topic and message of an event's frame; raises like `Codec.decode`."""
    topic, space, body = frame.partition(b" ")
    if not space or len(topic) > 64 or not topic.isascii():
        raise ProtocolError("the event has no topic")
    return topic.decode("ascii"), EVENTS.decode(body)
