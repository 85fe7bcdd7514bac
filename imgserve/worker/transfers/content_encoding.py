"""The content codings of HTTP (RFC 9110, 8.4): what a server packed is unpacked while it arrives.

No request asks for one, but servers and stores send what was stored packed. libcurl could decode
some of them, but which ones depends on how it was built.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import brotli

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.trouble import TransferFailed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Of one step's output: a bomb is noticed after so many bytes, whatever it unpacks to.
STEP_BYTES: Final = 64 * 1024
# Each layer may take the whole limit of bytes, and so its time on the event loop.
CODINGS_LIMIT: Final = 3
# The largest window that a content coding may ask for: 8 MB (RFC 9659, 3).
_ZSTD_WINDOW_LOG: Final = 23
_GZIP_MAGIC: Final = 0x1F
_ZSTD_MAGICS: Final = (b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18")
_ERRORS: Final = (zlib.error, brotli.error, zstd.ZstdError)


class Unpacker(Protocol):
    """Undoes one coding."""

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yield what the data unpacks to, at most STEP_BYTES at once."""

    @property
    def is_whole(self) -> bool:
        """Whether the packed data has reached its end."""


class _Gzip:
    """gzip, of several members too; what follows them is padding (RFC 1952, 2.2)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._is_padding = False

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while data and not self._is_padding:
            if self._member.eof:
                self._is_padding = data[0] != _GZIP_MAGIC
                if self._is_padding:
                    return
                self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            yield from _inflate(self._member, data)
            data = self._member.unused_data

    @property
    def is_whole(self) -> bool:
        return self._member.eof


class _Deflate:
    """deflate: with zlib's header as RFC 9110 says, or without it as some servers send it."""

    def __init__(self) -> None:
        self._begin = b""
        self._stream: zlib._Decompress | None = None

    def unpack(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            self._begin += data
            if len(self._begin) < 2:
                return
            data = self._begin
            # RFC 1950, 2.2: method 8, and a check that both bytes are a multiple of 31.
            has_header = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        if not self._stream.eof:
            yield from _inflate(self._stream, data)

    @property
    def is_whole(self) -> bool:
        return self._stream is not None and self._stream.eof


def _inflate(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        piece = stream.decompress(data, STEP_BYTES)
        yield piece
        data = stream.unconsumed_tail
        if stream.eof or (not data and len(piece) < STEP_BYTES):
            return


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while not self._stream.is_finished():
            piece = self._stream.process(data, output_buffer_limit=STEP_BYTES)
            yield piece
            data = b""
            # With all input taken there may be output left; only a step that gave none tells.
            if self._stream.can_accept_more_data() and not piece:
                return

    @property
    def is_whole(self) -> bool:
        return bool(self._stream.is_finished())


class _Zstd:
    """zstd, of several frames too (RFC 8878, 3.1)."""

    def __init__(self) -> None:
        self._frame = _zstd_frame()

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._frame.eof:
                if not data:
                    return
                self._frame = _zstd_frame()
            yield self._frame.decompress(data, STEP_BYTES)
            data = self._frame.unused_data if self._frame.eof else b""
            if self._frame.needs_input and not self._frame.eof:
                return

    @property
    def is_whole(self) -> bool:
        return bool(self._frame.eof)


def _zstd_frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    )


_UNPACKERS: Final[dict[str, Callable[[], Unpacker]]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
# Names that say nothing was packed. S3 keeps aws-chunked, which is of the upload, as the object's.
_NOT_PACKED: Final = frozenset({"", "identity", "aws-chunked"})


class ContentDecoder:
    """Unpacks one body as its Content-Encoding says, held to a limit at every layer.

    Args:
        fields: the values of the Content-Encoding headers, in order.
        limit_bytes: of what arrives, and of what each layer unpacks to.

    Raises:
        TransferFailed: the body is packed more often than is allowed.
    """

    def __init__(self, fields: Iterable[str], limit_bytes: int) -> None:
        names = [name.strip().lower() for field in fields for name in field.split(",")]
        names = [name for name in names if name not in _NOT_PACKED]
        if len(names) > CODINGS_LIMIT:
            raise TransferFailed(
                f"the source has {len(names)} content codings; at most {CODINGS_LIMIT} are undone"
            )
        # As browsers do: where one is not known, nothing is undone, and what came is judged as it
        # is.
        known = all(name in _UNPACKERS for name in names)
        # The last one named was done last.
        self._names = names[::-1] if known else []
        self._layers = [_UNPACKERS[name]() for name in self._names]
        self._limit_bytes = limit_bytes
        self._sizes_bytes = [0] * (len(self._layers) + 1)

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk of the body unpacks to.

        Raises:
            TransferFailed: it is not what the header says, or more than the limit.
        """
        return self._decode(0, chunk)

    def finish(self) -> None:
        """Check that the body has come to its end.

        Raises:
            TransferFailed: it broke off.
        """
        for name, size_bytes, layer in zip(
            self._names, self._sizes_bytes, self._layers, strict=False
        ):
            if size_bytes and not layer.is_whole:
                raise TransferFailed(f"the source's {name} data breaks off", retryable=True)

    def _decode(self, index: int, data: bytes) -> Iterator[bytes]:
        self._sizes_bytes[index] += len(data)
        if self._sizes_bytes[index] > self._limit_bytes:
            raise trouble.too_large(self._limit_bytes)
        if index == len(self._layers):
            yield data
            return
        pieces = self._layers[index].unpack(data)
        while True:
            try:
                piece = next(pieces)
            except StopIteration:
                return
            except _ERRORS as exc:
                name = self._names[index]
                raise TransferFailed(
                    f"the server says Content-Encoding {name}, but what it sent is not {name}"
                ) from exc
            if piece:
                yield from self._decode(index + 1, piece)
