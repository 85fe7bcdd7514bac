"""Bearer tokens (RFC 6750): who may use the HTTP interface, how often, and for which destinations.

The file is JSON, name -> entry. It holds hashes only: a token is 256 random bits, so a plain
SHA-256 of it cannot be searched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from imgserve.errors import ConfigError
from imgserve.gateway.destinations import Pattern
from imgserve.gateway.rate import Bucket

REREAD_S: Final = 0.25
"""How soon a change of the file counts; looking costs one system call."""

_BEARER = re.compile(r"Bearer +([A-Za-z0-9._~+/-]{1,256}=*) *\Z", re.IGNORECASE)
_KEYS: Final = frozenset(
    {"sha256", "requests_per_s", "burst", "destinations", "sources", "operator"}
)
_OWNER_BYTES: Final = 8
_ID_BYTES: Final = 16
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """One entry of the file.

    Args:
        name: for logs and people.
        digest: SHA-256 of the token.
        bucket: how often it may be used; None: without limit.
        destinations: where its results may go; None: anywhere that the workers' policy lets them.
        sources: what its jobs may fetch; None: whatever the workers' policy lets them.
        operator: it sees and cancels the jobs of every token.
    """

    name: str
    digest: bytes
    bucket: Bucket | None = None
    destinations: tuple[Pattern, ...] | None = None
    sources: tuple[Pattern, ...] | None = None
    operator: bool = False

    def permits_destination(self, url: str) -> bool:
        """Tell whether results may go to a URL."""
        return _permitted(self.destinations, url)

    def permits_source(self, url: str) -> bool:
        """Tell whether jobs may fetch a URL."""
        return _permitted(self.sources, url)

    def fresh_id(self) -> str:
        """Return a job id that nobody can guess and that only this token's jobs have."""
        return f"{self._owner}{os.urandom(_ID_BYTES).hex()}"

    def id_of(self, key: str) -> str:
        """Return the job id of an Idempotency-Key; another token's same key has another."""
        digest = hmac.digest(self.digest, b"key:" + key.encode("ascii"), "sha256")
        return f"{self._owner}{digest[:_ID_BYTES].hex()}"

    def owns(self, job_id: str) -> bool:
        """Tell whether a job is this token's: its id says so, so that nothing has to be kept."""
        return job_id.startswith(self._owner)

    @property
    def _owner(self) -> str:
        # Of the token's hash, which no other token and no client knows.
        return hmac.digest(self.digest, b"owner", "sha256")[:_OWNER_BYTES].hex() + "."


def _permitted(patterns: tuple[Pattern, ...] | None, url: str) -> bool:
    return patterns is None or any(pattern.permits(url) for pattern in patterns)


class Tokens:
    """The tokens of one file, read again when it changes.

    Where there is no file yet, nobody is asked for a token until there is one. Once tokens are
    asked for they stay so, whatever becomes of the file.

    Args:
        path: the file.
        required: whether it must be there already.

    Raises: ConfigError when it cannot be used as it is.
    """

    def __init__(self, path: Path, *, required: bool = True) -> None:
        self._path = path
        self._looked_s = time.monotonic()
        self._tokens: tuple[Token, ...] = ()
        self._stamp: tuple[int, int, int] | None = None
        if required or os.path.lexists(path):
            self._stamp = _stamp(path)
            self._tokens = read_tokens(path)

    @property
    def asked_for(self) -> bool:
        """Whether requests need a token now."""
        self._reread()
        return self._stamp is not None

    def find(self, header: str) -> Token | None:
        """Return the token of an Authorization header; it takes as long whichever it is."""
        self._reread()
        match = _BEARER.match(header)
        digest = hashlib.sha256(match[1].encode() if match else b"").digest()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest) and match is not None:
                found = token
        return found

    def _reread(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < REREAD_S:
            return
        self._looked_s = now_s
        if self._stamp is None:
            self._lock()
            return
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._tokens = _keep_buckets(self._tokens, read_tokens(self._path))
        except ConfigError as exc:
            log.error("the tokens stay as they were: %s", exc)  # noqa: TRY400 - it says it all

    def _lock(self) -> None:
        """Ask for tokens from the moment that there is a file, even one that cannot be read."""
        if not os.path.lexists(self._path):
            return
        self._stamp = (0, 0, 0)
        log.warning("%s is there: from now on every request needs a token", self._path)
        try:
            self._tokens = read_tokens(self._path)
            self._stamp = _stamp(self._path)
        except ConfigError as exc:
            log.error("nobody gets in until the tokens can be read: %s", exc)  # noqa: TRY400 - it says it all


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a token file.

    Raises: ConfigError when it is not there or is no token file.
    """
    try:
        document = json.loads(path.read_text())
    except OSError as exc:
        raise ConfigError(f"token_file = {str(path)!r}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(f"token_file = {str(path)!r} is not JSON") from exc
    return tokens_of(path, document)


def tokens_of(path: Path, document: object) -> tuple[Token, ...]:
    """Return the tokens of a file's document.

    Raises: ConfigError when it is none.
    """
    if not isinstance(document, dict):
        raise ConfigError(f"token_file = {str(path)!r} is not an object of name -> entry")
    try:
        return tuple(_token(name, entry) for name, entry in document.items())
    except (ValueError, TypeError, KeyError) as exc:
        raise ConfigError(f"token_file = {str(path)!r}: {exc}") from exc


def _token(name: str, entry: Any) -> Token:
    if not isinstance(entry, dict) or not entry.keys() <= _KEYS or "sha256" not in entry:
        raise ValueError(f"{name} needs sha256, and may have {', '.join(sorted(_KEYS))}")
    digest = bytes.fromhex(entry["sha256"])
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError(f"{name}: sha256 is not 64 hexadecimal digits")
    bucket = None
    if (rate_s := entry.get("requests_per_s")) is not None:
        burst = entry.get("burst", max(1.0, rate_s))
        if not 0 < rate_s <= 1e6 or not 1 <= burst <= 1e6:
            raise ValueError(f"{name}: requests_per_s is over 0, burst at least 1")
        bucket = Bucket(float(rate_s), float(burst))
    operator = entry.get("operator", False)
    if not isinstance(operator, bool):
        raise TypeError(f"{name}: operator is true or false")
    destinations, sources = (_patterns(name, key, entry) for key in ("destinations", "sources"))
    return Token(name, digest, bucket, destinations, sources, operator)


def _patterns(name: str, key: str, entry: dict[str, Any]) -> tuple[Pattern, ...] | None:
    patterns = entry.get(key)
    if patterns is not None and not isinstance(patterns, list):
        raise ValueError(f"{name}: {key} is a list of patterns")
    return None if patterns is None else tuple(map(Pattern.parse, patterns))


def _keep_buckets(former: tuple[Token, ...], fresh: tuple[Token, ...]) -> tuple[Token, ...]:
    """A change of the file fills no bucket anew whose limits are the same."""
    buckets = {token.name: token.bucket for token in former}
    kept = []
    for token in fresh:
        known = buckets.get(token.name)
        same = known is not None and token.bucket is not None and known.like(token.bucket)
        bucket = known if same else token.bucket
        kept.append(replace(token, bucket=bucket))
    return tuple(kept)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as exc:
        raise ConfigError(f"token_file = {str(path)!r}: {exc.strerror}") from exc
    return status.st_mtime_ns, status.st_size, status.st_ino
