"""One use of a curl easy handle: its options, its callbacks, and what the peer has answered."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pycurl

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.hosts import HostRules, judge_host
from imgserve.worker.transfers.policy import AddressRules, judge
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.trouble import Facts, TransferFailed
from imgserve.worker.transfers.urls import DEFAULT_PORTS, Target, parse_target

Option = tuple[int, Any]

BUFFER_BYTES = 256 * 1024
# Of headers or FTP replies. Curl bounds the former by itself, but not the latter: a server that
# greets without end would fill the worker's memory until the fetch times out.
LINES_LIMIT_BYTES = 1_000_000

# What the kernel still holds of an upload that is given up must not leave any more: over a link
# that was cut it would arrive when the link is back, minutes later, and put a placeholder over a
# result. An upload that ended well was answered, so there is nothing left to drop.
_DROP_AT_CLOSE = struct.pack("ii", 1, 0)  # l_onoff, l_linger (socket(7))

# The wheel's libcurl looks for certificates where its own build machine had them.
_SYSTEM_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


# A header may be called HTTP/x, so the version and the status make the line (RFC 9112, 4).
_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})\b *([^\r\n]*)")


@dataclass(slots=True, eq=False)
class Exchange:
    """One transfer.

    `take` gets the exchange and the body's chunks, and may raise TransferFailed to stop it. It is
    handed the exchange so that it need not hold it: the two would keep each other, and with them
    the whole body, until the garbage collector comes by.
    """

    target: Target
    options: tuple[Option, ...]
    take: Callable[[Exchange, bytes], None]
    # Of the body; curl refuses an announced size before the first byte.
    limit_bytes: int = 0
    retry_after_s: float | None = None
    # Of the body, as far as curl handed it to the kernel.
    sent_bytes: int = 0
    effective_url: str = ""
    # Absolute, as curl understands it; curl itself follows none.
    redirect_url: str = ""
    # Ways to send credentials that HTTP's 401 named, as a mask of curl's HTTPAUTH_*.
    auth_offered: int = 0
    # Set from another thread or task; the progress callback then ends the transfer.
    cancelled: bool = False
    # Header lines as they came: most are never asked for, so they are read when they are.
    _lines: list[bytes] = field(default_factory=list)
    _lines_bytes: int = 0
    _head: list[bytes] = field(default_factory=list)
    _replies: list[int] = field(default_factory=list)
    _reply_lines: list[bytes] = field(default_factory=list)
    _reply_is_whole: bool = False
    _status: int = 0
    _reason: bytes = b""
    _refusal: str = ""
    # Whether the address that counts was permitted: one of several that a host has, or the last
    # data connection's.
    _is_permitted: bool = False
    _stopped: TransferFailed | None = None

    @property
    def status(self) -> int:
        """The peer's latest status or reply code; 0 before any."""
        self._read_lines()
        return self._status

    @property
    def reason(self) -> str:
        """The words of the latest status line; HTTP/2 has none."""
        self._read_lines()
        return self._reason.decode("utf-8", "replace")

    def header_values(self, name: str) -> list[str]:
        """Return every value of a header that may come more than once, in order."""
        self._read_lines()
        beginning = name.encode("latin-1") + b":"
        return [
            line[len(beginning) :].decode("latin-1").strip()
            for line in self._head
            if line[: len(beginning)].lower() == beginning
        ]

    def header(self, name: str) -> str:
        """Return a header's last value, or nothing."""
        values = self.header_values(name)
        return values[-1] if values else ""

    @property
    def replies(self) -> list[int]:
        """FTP's replies in order, to tell which of several commands was refused."""
        self._read_lines()
        return self._replies

    @property
    def reply_words(self) -> str:
        """What FTP's latest reply says after its code, its lines joined; empty before any."""
        self._read_lines()
        return " ".join(line.decode("utf-8", "replace") for line in self._reply_lines)

    def prepare(self, curl: pycurl.Curl, base: Base) -> None:
        """Set every option on a handle that was reset.

        Raises:
            TransferFailed: policy refuses the host, or curl does not take the URL or an option.
        """
        if refusal := judge_host(self.target.host, base.hosts):
            raise trouble.forbidden(refusal)
        try:
            for option, value in base.options:
                curl.setopt(option, value)
            curl.setopt(pycurl.URL, self.target.url)
            if self.target.username or self.target.password:
                # Options, not the URL: curl then keeps them to the first origin and error
                # messages cannot hold them.
                curl.setopt(pycurl.USERNAME, self.target.username.encode())
                curl.setopt(pycurl.PASSWORD, self.target.password.encode())
            curl.setopt(pycurl.WRITEFUNCTION, self._on_body)
            curl.setopt(pycurl.HEADERFUNCTION, self._on_line)
            if base.judges_addresses:
                curl.setopt(pycurl.OPENSOCKETFUNCTION, self._opener(base.rules))
                curl.setopt(pycurl.PREREQFUNCTION, self._gate(base.rules))
            curl.setopt(pycurl.MAXFILESIZE_LARGE, self.limit_bytes)
            for option, value in self.options:
                curl.setopt(option, value)
        except (pycurl.error, ValueError, TypeError) as exc:
            raise TransferFailed("the URL is malformed") from exc

    def finish(self, curl: pycurl.Curl) -> None:
        """Keep what curl knows at the end of the transfer."""
        self._read_lines()
        self._status = curl.getinfo(pycurl.RESPONSE_CODE)
        try:
            self.effective_url = curl.getinfo(pycurl.EFFECTIVE_URL)
        except pycurl.error:  # of a URL that curl cannot even repeat
            self.effective_url = self.target.url
        # Raw: a server may have written a host name that is no UTF-8, and so no host name.
        self.redirect_url = (curl.getinfo_raw(pycurl.REDIRECT_URL) or b"").decode(
            "utf-8", "replace"
        )
        self.auth_offered = curl.getinfo(pycurl.HTTPAUTH_AVAIL)
        self.sent_bytes = int(curl.getinfo(pycurl.SIZE_UPLOAD_T))
        self.retry_after_s = float(curl.getinfo(pycurl.RETRY_AFTER)) or None

    def explain(self, curl: pycurl.Curl, exc: pycurl.error) -> TransferFailed:
        """Translate an error of curl, after `finish`."""
        code = exc.args[0]
        is_http = self.target.scheme in ("http", "https")
        fails_to_connect = code in (pycurl.E_COULDNT_CONNECT, pycurl.E_ABORTED_BY_CALLBACK)
        if self._refusal and fails_to_connect and not self._is_permitted:
            return trouble.forbidden(self._refusal)
        if self._stopped is not None:
            self._stopped.retry_after_s = self.retry_after_s
            return self._stopped
        if code == pycurl.E_FILESIZE_EXCEEDED:
            if is_http and not 200 <= self.status < 300:
                # An error page over the limit; the error is what matters.
                return trouble.of_status(self.status, self.retry_after_s, reason=self.reason)
            announced = self.header("content-length")
            return trouble.too_large(
                self.limit_bytes, int(announced) if announced.isdecimal() else 0
            )
        failure = trouble.of_curl(
            Facts(
                code=code,
                status=self.status,
                os_errno=curl.getinfo(pycurl.OS_ERRNO),
                peer=self._peer(),
                is_http=is_http,
                words="" if is_http else self.reply_words,
                curl_words=str(exc.args[1]),
            )
        )
        if self._refusal and code == pycurl.E_COULDNT_CONNECT:
            failure.detail += f"; its other address {self._refusal}"
        return failure

    def _peer(self) -> str:
        try:
            return parse_target(self.effective_url).endpoint
        except TransferFailed:
            return self.target.endpoint

    def _on_body(self, chunk: bytes) -> int | None:
        try:
            self.take(self, chunk)
        except TransferFailed as exc:
            self._stopped = exc
            return -1
        return None

    def _on_line(self, line: bytes) -> int | None:
        self._lines_bytes += len(line)
        if self._lines_bytes > LINES_LIMIT_BYTES:
            self._stopped = TransferFailed("the server's headers or replies have no end")
            return -1
        self._lines.append(line)
        return None

    def _read_lines(self) -> None:
        for line in self._lines:
            if begins := _STATUS_LINE.match(line):
                # A new response begins: after a redirect, or after 100 Continue.
                self._status, self._reason = int(begins[1]), begins[2]
                self._head.clear()
            elif line[:3].isdigit() and line[3:4] in b" -\r\n":
                self._take_reply_line(line)
            else:
                self._head.append(line)
        self._lines.clear()

    def _take_reply_line(self, line: bytes) -> None:
        """Keep one line of an FTP reply: `530-words` are followed by more, `530 words` are not."""
        code, words = int(line[:3]), line[4:].strip()
        if not self._reply_lines or self._reply_is_whole:
            self._reply_lines = []
        self._reply_lines.append(words)
        self._reply_is_whole = line[3:4] != b"-"
        if self._reply_is_whole:
            self._replies.append(code)

    def _opener(self, rules: AddressRules) -> Callable[..., socket.socket | int]:
        def open_socket(_purpose: int, peer: Any) -> socket.socket | int:
            family, kind, protocol, address = peer
            refusal = judge(address[0] if isinstance(address, tuple) else "", rules)
            is_request = self._is_request(address)
            if refusal:
                self._refusal = refusal
                self._is_permitted &= is_request
                return int(pycurl.SOCKET_BAD)
            self._is_permitted = True
            lent = _LentSocket(family, kind, protocol)
            if is_request:
                lent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_AT_CLOSE)
            return lent

        return open_socket

    def _is_request(self, address: tuple[Any, ...]) -> bool:
        """Whether this is no data connection of FTP: of those the end is the end of the file."""
        scheme, port = self.target.scheme, self.target.port
        return scheme in ("http", "https") or address[1] == (port or DEFAULT_PORTS.get(scheme))

    def _gate(self, rules: AddressRules) -> Callable[..., int]:
        # curl opens no socket for a connection it kept, so the address is judged again here.
        def before_request(peer: str, _local: str, _peer_port: int, _local_port: int) -> int:
            if refusal := judge(peer, rules):
                self._refusal, self._is_permitted = refusal, False
                return int(pycurl.PREREQFUNC_ABORT)
            return int(pycurl.PREREQFUNC_OK)

        return before_request


class _LentSocket(socket.socket):
    """pycurl duplicates the descriptor, so ours closes (without a warning) when it is dropped."""

    def __del__(self) -> None:
        self.close()


def header_options(*lines: str) -> tuple[Option, ...]:
    """Make the option of header lines; empty ones are left out."""
    sent = [line for line in lines if line]
    return ((pycurl.HTTPHEADER, sent),) if sent else ()


@dataclass(frozen=True, slots=True)
class Base:
    """What every transfer of a worker has in common."""

    options: tuple[Option, ...]
    rules: AddressRules
    hosts: HostRules
    judges_addresses: bool


def base_options(settings: TransferSettings) -> Base:
    """Make the options that every transfer starts from."""
    options: list[Option] = [
        (pycurl.NOSIGNAL, 1),
        # libcurl's 16 kB would mean fifty callbacks for a photo; what is there is taken at once.
        (pycurl.BUFFERSIZE, BUFFER_BYTES),
        (pycurl.USERAGENT, "imgserve"),
        # Empty on purpose: without it curl reads http_proxy and friends from the environment.
        (pycurl.PROXY, settings.proxy),
        (pycurl.NOPROXY, "" if settings.proxy else "*"),
        (pycurl.CONNECTTIMEOUT_MS, int(settings.connect_timeout_s * 1000)),
        (pycurl.LOW_SPEED_LIMIT, settings.low_speed_bytes_s),
        (pycurl.LOW_SPEED_TIME, settings.low_speed_time_s),
        (pycurl.SSL_VERIFYPEER, int(settings.verify_tls)),
        (pycurl.SSL_VERIFYHOST, 2 if settings.verify_tls else 0),
    ]
    ca_file = settings.ca_file or next(filter(os.path.exists, _SYSTEM_CERTIFICATES), None)
    if ca_file:
        options.append((pycurl.CAINFO, ca_file))
    rules = AddressRules.parse(
        settings.allow_networks, settings.deny_networks, private=not settings.deny_private
    )
    hosts = HostRules(settings.allow_hosts, settings.deny_hosts)
    return Base(tuple(options), rules, hosts, judges_addresses=not settings.proxy)
