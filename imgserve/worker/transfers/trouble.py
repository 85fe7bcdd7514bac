"""What went wrong with a transfer, for both ends: the one table of transient trouble."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

import pycurl

from imgserve.errors import (
    CodedError,
    DestinationForbidden,
    SourceForbidden,
    SourceTooLarge,
    SourceUnreachable,
    UploadFailed,
)
from imgserve.worker.transfers.words import QUOTE_LIMIT_CHARS, printable


class Kind(Enum):
    """The families of trouble; each end has its own error class for each."""

    FAILED = "failed"
    TOO_LARGE = "too large"
    FORBIDDEN = "forbidden"


class TransferFailed(Exception):
    """Raised when a transfer fails; `Transfers` turns it into the error of its end."""

    def __init__(
        self,
        detail: str,
        *,
        kind: Kind = Kind.FAILED,
        retryable: bool = False,
        retry_after_s: float | None = None,
        too_many_connections: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.kind = kind
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.too_many_connections = too_many_connections


_SOURCE: dict[Kind, type[CodedError]] = {
    Kind.FAILED: SourceUnreachable,
    Kind.TOO_LARGE: SourceTooLarge,
    Kind.FORBIDDEN: SourceForbidden,
}
_DESTINATION: dict[Kind, type[CodedError]] = {
    Kind.FAILED: UploadFailed,
    Kind.TOO_LARGE: UploadFailed,
    Kind.FORBIDDEN: DestinationForbidden,
}

# How ProFTPD, Pure-FTPd, FileZilla, IIS and Serv-U say at login that a limit is reached.
_TOO_MANY = re.compile(
    r"too many|maximum|\blimit|no more|already (connected|logged)|connections? (allowed|exceeded)",
    re.IGNORECASE,
)

# Trouble that may be gone at the next try. HTTP 5xx and FTP 4xx are added by their hundreds.
_TRANSIENT_HTTP = frozenset({408, 425, 429})
# Not implemented, version not supported, and the like: the next try meets the same server.
_LASTING_5XX = frozenset({501, 505, 506, 510})
# Success that brings no picture (RFC 9110, 15.3).
_NO_PICTURE = {
    201: "which is no picture",
    202: "which says that the picture is not there yet",
    204: "which comes without a picture",
    205: "which comes without a picture",
    206: "a part of the picture, though all of it was asked for",
}
_TRANSIENT_ERRNO = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EPIPE,
    }
)
# CURLE_HTTP2 (16) and CURLE_HTTP2_STREAM (92) are streams that the server gave up.
_TRANSIENT_CURL: dict[int, str] = {
    pycurl.E_COULDNT_CONNECT: "no connection to {peer}",
    pycurl.E_OPERATION_TIMEDOUT: "{peer} was too slow",
    pycurl.E_SEND_ERROR: "{peer} broke the connection off while data was sent",
    pycurl.E_RECV_ERROR: "{peer} broke the connection off while data was received",
    pycurl.E_GOT_NOTHING: "{peer} closed the connection without an answer",
    pycurl.E_PARTIAL_FILE: "{peer} closed the connection before all bytes had come",
    pycurl.E_FTP_ACCEPT_TIMEOUT: "{peer} was too slow to open a data connection",
    16: "{peer} broke the connection off",
    92: "{peer} broke the stream off",
}
_LASTING_CURL: dict[int, str] = {
    pycurl.E_COULDNT_RESOLVE_HOST: "the host name {host} does not resolve",
    pycurl.E_URL_MALFORMAT: "the URL is malformed",
    pycurl.E_LOGIN_DENIED: "{peer} refused the user name or password",
    pycurl.E_REMOTE_FILE_NOT_FOUND: "{peer} has no such file",
    pycurl.E_FTP_COULDNT_RETR_FILE: "{peer} does not give the file",
    pycurl.E_REMOTE_ACCESS_DENIED: "{peer} refused the folder",
    pycurl.E_UPLOAD_FAILED: "{peer} refused the file",
    pycurl.E_QUOTE_ERROR: "{peer} refused a command",
    pycurl.E_SSL_CONNECT_ERROR: "no TLS connection to {peer}",
    pycurl.E_SSL_CACERT_BADFILE: "the file of trusted certificates cannot be read",
}
# How OpenSSL says that the other side went away in the middle of a handshake.
_BROKEN_HANDSHAKE = re.compile(r"unexpected eof|reset by peer|SSL_ERROR_SYSCALL")
# How libcurl and OpenSSL say that no authority among those trusted vouches for a certificate.
_UNKNOWN_AUTHORITY = re.compile(r"self[- ]signed|issuer certificate|verify the first certificate")
_OTHER_NAME = re.compile(r"subject name|hostname mismatch|does not match")
_CONNECT_ERRNO = {
    errno.ECONNREFUSED: "connection refused by {peer}",
    errno.EHOSTUNREACH: "{peer} is not reachable",
    errno.ENETUNREACH: "the network of {peer} is not reachable",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a transfer that curl gave up."""

    code: int
    status: int
    os_errno: int
    peer: str
    is_http: bool
    # What the peer itself said, where the protocol has words beside its codes.
    words: str = ""
    # What libcurl says of the trouble; it names the host, but no user info and no query.
    curl_words: str = ""


def of_curl(facts: Facts) -> TransferFailed:
    """Explain an error of libcurl."""
    code = facts.code
    host = facts.peer.rpartition(":")[0]
    phrase = _TRANSIENT_CURL.get(code) or _LASTING_CURL.get(code) or f"the transfer failed ({code})"
    retryable = code in _TRANSIENT_CURL
    if code == pycurl.E_COULDNT_CONNECT and facts.os_errno:
        phrase = _CONNECT_ERRNO.get(facts.os_errno, phrase)
    elif code == pycurl.E_SSL_CONNECT_ERROR:
        # Not by errno: it may be that of another address of the host, which was tried before.
        phrase += _tls_reason(facts.curl_words)
        retryable = bool(_BROKEN_HANDSHAKE.search(facts.curl_words))
    elif code == pycurl.E_PEER_FAILED_VERIFICATION:
        phrase = _certificate_trouble(facts.curl_words)
    too_many = refuses_connections(facts)
    if too_many:
        phrase, retryable = "{peer} takes no more connections", True
    detail = phrase.format(peer=facts.peer, host=host)
    if not facts.is_http and facts.status >= 400:
        detail += f" (its reply: {quote_reply(facts.status, facts.words)})"
        retryable = retryable or facts.status < 500
    return TransferFailed(detail, retryable=retryable, too_many_connections=too_many)


def refuses_connections(facts: Facts) -> bool:
    """Tell whether an FTP server has enough of our connections, by what it said.

    421 closes the service (RFC 959). Servers that count at login say 530, as they do for a wrong
    password; only their words tell the two apart.
    """
    if facts.is_http:
        return False
    return facts.status == 421 or (facts.status == 530 and bool(_TOO_MANY.search(facts.words)))


def _tls_reason(curl_words: str) -> str:
    """Give OpenSSL's reason, the last part of `error:0A00010B:SSL routines::reason`."""
    reason = curl_words.rpartition(":")[2].strip()
    if "error:" not in curl_words or not reason:
        return ""
    # What comes back when a TLS greeting is answered in plain text.
    plain = "; it may speak plain HTTP" if reason == "wrong version number" else ""
    return f": {reason}{plain}"


def _certificate_trouble(curl_words: str) -> str:
    if _OTHER_NAME.search(curl_words):
        reason = "it is for another name than {host}"
    else:
        reason = re.sub(r" \(\d+\)\Z", "", curl_words.rpartition(": ")[2])
        reason = printable(reason.replace("{", "").replace("}", "")) or "it is not valid"
    remedy = "--no-verify-tls checks no certificate"
    if _UNKNOWN_AUTHORITY.search(curl_words):
        remedy = "--ca-file FILE names whom to trust, " + remedy
    return f"the certificate of {{peer}} cannot be trusted: {reason}; {remedy}"


def quote_reply(code: int, words: str) -> str:
    """Give a peer's reply in its own words: printable, and no longer than a sentence."""
    return " ".join(f"{code} {printable(words)}".split())[:QUOTE_LIMIT_CHARS]


def status_name(status: int, reason: str = "") -> str:
    """Give a status as its server wrote it; HTTP/2 has no words for it, so the standard's."""
    if not reason:
        try:
            reason = HTTPStatus(status).phrase
        except ValueError:
            pass
    return quote_reply(status, reason)


def of_status(
    status: int, retry_after_s: float | None = None, *, reason: str = "", words: str = ""
) -> TransferFailed:
    """Explain an HTTP status that is no success.

    Args:
        status: the status.
        retry_after_s: how long the server asked to wait.
        reason: the words of its status line.
        words: those of its body, as `body_words` gives them.
    """
    detail = f"the server answered {status_name(status, reason)}"
    if 200 <= status < 300:
        detail += f", {_NO_PICTURE.get(status, 'which is no picture')}"
    elif words:
        detail += f' ("{words}")'
    retryable = status in _TRANSIENT_HTTP or (500 <= status < 600 and status not in _LASTING_5XX)
    return TransferFailed(detail, retryable=retryable, retry_after_s=retry_after_s)


def of_os_error(exc: OSError) -> TransferFailed:
    """Explain a failed file operation."""
    detail = f"the file cannot be used: {exc.strerror or 'unknown trouble'}"
    return TransferFailed(detail, retryable=exc.errno in _TRANSIENT_ERRNO)


def too_large(limit_bytes: int, seen_bytes: int = 0) -> TransferFailed:
    """Explain a source over the limit, with its announced size where one is known."""
    seen = f"{seen_bytes} bytes" if seen_bytes > limit_bytes else "more"
    return TransferFailed(
        f"the source has {seen}; the limit is {limit_bytes} bytes", kind=Kind.TOO_LARGE
    )


def forbidden(detail: str) -> TransferFailed:
    """Explain a refusal by policy."""
    return TransferFailed(detail, kind=Kind.FORBIDDEN)


def source_error(failure: TransferFailed) -> CodedError:
    """Give a failure the class and code of the fetching end."""
    return _coded(_SOURCE[failure.kind], failure)


def destination_error(failure: TransferFailed) -> CodedError:
    """Give a failure the class and code of the uploading end."""
    return _coded(_DESTINATION[failure.kind], failure)


def _coded(error: type[CodedError], failure: TransferFailed) -> CodedError:
    return error(failure.detail, retryable=failure.retryable, retry_after_s=failure.retry_after_s)
