"""ftp and ftps: RETR, and STOR under a temporary name with a rename."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace

import pycurl

from imgserve.worker.transfers.download import Inbox
from imgserve.worker.transfers.exchange import Exchange, Option
from imgserve.worker.transfers.parcel import Parcel
from imgserve.worker.transfers.places import FtpServers
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.threads import CurlThreads, Session
from imgserve.worker.transfers.trouble import TransferFailed
from imgserve.worker.transfers.urls import Target

_FTP = pycurl.PROTO_FTP | pycurl.PROTO_FTPS
# "CREATE_DIR_RETRY": two uploads may make the same folder at once, and both must succeed.
_CREATE_DIR_RETRY = 2
_RNFR_ACCEPTED = 350
_STOR_ACCEPTED = frozenset({125, 150})
# With these a server may mean the name and not the file (RFC 959: syntax, parameter, no such file
# or no access, name not allowed). 552 is a quota: another name changes nothing.
_NAME_REFUSED = frozenset({501, 504, 550, 553})
# Servers that are remembered for storing directly; strangers name servers.
_DIRECT_LIMIT = 1000
# A server that goes on refusing has its places taken by others: the job comes back later.
_REFUSED_S = 15.0
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 1.0
# One more command after a failure must not double the time that the failure took.
_CLEAN_UP_TIMEOUT_MS = 5000


class FtpTransfer:
    """Fetch and upload over FTP."""

    def __init__(self, settings: TransferSettings, threads: CurlThreads) -> None:
        self._settings = settings
        self._threads = threads
        # Servers where a temporary name is of no use: it is refused, or cannot be renamed.
        self._direct: set[str] = set()
        self._servers = FtpServers(settings.ftp_connections)

    async def fetch(self, source: Target, inbox: Inbox) -> None:
        """Fetch a source into the inbox.

        Raises:
            TransferFailed: it could not be fetched.
        """
        options = self._common(source, self._settings.fetch_timeout_s)
        exchange = Exchange(source, options, lambda _, chunk: inbox.feed(chunk), inbox.limit_bytes)
        await self._run(
            source, lambda session: session.run(exchange), self._settings.fetch_timeout_s
        )

    async def upload(self, parcel: Parcel) -> None:
        """Upload under a temporary name, then rename; missing folders are made.

        Raises:
            TransferFailed: the server did not take it.
        """
        name = parcel.target.path_bytes.rpartition(b"/")[2]
        if not name or any(byte < 0x20 or byte == 0x7F for byte in name):
            raise TransferFailed("the URL names no file")
        common = self._common(parcel.target, self._settings.upload_timeout_s)

        def work(session: Session) -> None:
            _Upload(parcel, common, name, self._direct).work(session)

        await self._run(parcel.target, work, self._settings.upload_timeout_s)

    async def _run(self, target: Target, work: Callable[[Session], None], timeout_s: float) -> None:
        """Work within the server's connections; where it refuses one, with fewer and again.

        Raises:
            TransferFailed: the work failed, or the server goes on refusing.
        """
        places = self._servers.of(target.endpoint)
        now_s = time.monotonic()
        deadline_s, refused_until_s, pause_s = now_s + timeout_s, float("inf"), _FIRST_PAUSE_S
        while True:
            async with places.take(deadline_s):
                self._threads.make_room(target, places.allowed - places.in_use + 1)
                began_s = time.monotonic()
                try:
                    await self._threads.run(target, work)
                except TransferFailed as failure:
                    now_s = time.monotonic()
                    refused_until_s = min(refused_until_s, now_s + _REFUSED_S)
                    if not failure.too_many_connections or now_s + pause_s > refused_until_s:
                        raise
                    places.refused(began_s)
                else:
                    places.worked()
                    return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def _common(self, target: Target, timeout_s: float) -> tuple[Option, ...]:
        options: list[Option] = [
            (pycurl.PROTOCOLS, _FTP),
            (pycurl.TIMEOUT_MS, int(timeout_s * 1000)),
            (pycurl.USE_SSL, pycurl.USESSL_TRY),
        ]
        if target.scheme == "ftp":
            # Opportunistic TLS (RFC 7435): the URL asks for none, and one that cannot be
            # verified is still no worse than the plain text that is the alternative.
            options += [(pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0)]
        return tuple(options)


class _Upload:
    """The steps of one upload, all in one thread over one connection."""

    def __init__(
        self,
        parcel: Parcel,
        common: tuple[Option, ...],
        name: bytes,
        direct: set[str],
    ) -> None:
        self._target = parcel.target
        self._direct = direct
        self._common = common
        self._name = name
        self._body = parcel.body
        # Whether a temporary file may be there: else there is nothing to connect again for.
        self._began = False
        self._last_reply = 0
        self._temporary = parcel.by.temporary
        # What earlier attempts left whose workers were killed; it goes with the rename.
        self._leftovers = [b"*DELE " + former.encode() for former in parcel.by.former]

    def work(self, session: Session) -> None:
        """Store and rename, or store at once where the server allows nothing else."""
        if self._target.endpoint in self._direct:
            self._store(session, self._target)
            return
        try:
            if self._store_beside(session):
                self._rename(session)
        except TransferFailed:
            if self._began:
                self._clean_up(session)
            raise

    def _store_beside(self, session: Session) -> bool:
        """Store under the temporary name; return whether that name was taken.

        Servers refuse names by patterns, such as ProFTPD's PathDenyFilter and vsftpd's deny_file.
        """
        try:
            self._store(session, self._sibling(self._temporary))
        except TransferFailed as failure:
            if self._began or failure.retryable or self._last_reply not in _NAME_REFUSED:
                raise
        else:
            return True
        self._store(session, self._target)  # a refusal of this one is the one to report
        self._remember_direct()
        return False

    def _remember_direct(self) -> None:
        if len(self._direct) >= _DIRECT_LIMIT:
            self._direct.clear()  # each is found out again by one upload
        self._direct.add(self._target.endpoint)

    def _rename(self, session: Session) -> None:
        """Move the file to its name.

        Some servers rename over nothing that exists, so it is deleted; some rename not at all,
        and then the file is stored under its name, visible while it grows.
        """
        rename = [b"RNFR " + self._temporary.encode(), b"RNTO " + self._name]
        exchange = self._command([*rename, *self._leftovers])
        try:
            session.run(exchange)
        except TransferFailed as failure:
            # Only a lasting refusal is answered so: a broken connection says nothing.
            if failure.retryable or not exchange.replies or exchange.replies[-1] < 500:
                raise
        else:
            return
        if _RNFR_ACCEPTED in exchange.replies:
            session.run(self._command([b"*DELE " + self._name, *rename]))
        else:
            self._store(session, self._target)
            # The name that is left over here may be one that cannot be deleted either.
            self._remember_direct()
            self._clean_up(session)

    def _store(self, session: Session, target: Target) -> None:
        sent = memoryview(self._body)
        position = 0

        def read(size: int) -> bytes:
            nonlocal position
            chunk = bytes(sent[position : position + size])
            position += len(chunk)
            return chunk

        def seek(offset: int, _origin: int) -> int:
            nonlocal position
            position = offset
            return int(pycurl.SEEKFUNC_OK)

        options: tuple[Option, ...] = (
            *self._common,
            (pycurl.UPLOAD, 1),
            (pycurl.FTP_CREATE_MISSING_DIRS, _CREATE_DIR_RETRY),
            (pycurl.INFILESIZE_LARGE, len(self._body)),
            (pycurl.READFUNCTION, read),
            # A kept connection may turn out to be dead; curl then begins again with a new one.
            (pycurl.SEEKFUNCTION, seek),
        )
        exchange = Exchange(target, options, _ignore)
        try:
            session.run(exchange)
        finally:
            self._began |= not _STOR_ACCEPTED.isdisjoint(exchange.replies)
            self._last_reply = exchange.replies[-1] if exchange.replies else 0

    def _command(self, commands: list[bytes], *more: Option) -> Exchange:
        """Make an exchange that enters the folder and then says only these commands."""
        options: tuple[Option, ...] = (
            *self._common,
            (pycurl.NOBODY, 1),
            # After the change of folder, so that names need no path, which is relative to a
            # login folder that only curl knows.
            (pycurl.POSTQUOTE, commands),
            *more,
        )
        return Exchange(self._sibling(""), options, _ignore)

    def _clean_up(self, session: Session) -> None:
        # Also for a cancelled transfer: what it left must go, and this is short.
        cancelled, session.cancelled = session.cancelled, False
        try:
            session.run(
                self._command(
                    [b"*DELE " + self._temporary.encode()],
                    (pycurl.TIMEOUT_MS, _CLEAN_UP_TIMEOUT_MS),
                )
            )
        except TransferFailed:
            # The first failure is the one to tell; this one has the same cause more often
            # than not.
            pass
        finally:
            session.cancelled = cancelled

    def _sibling(self, name: str) -> Target:
        url = self._target.url.rpartition("/")[0] + "/" + name
        return replace(self._target, url=url)


def _ignore(_exchange: Exchange, _chunk: bytes) -> None:
    """Drop the body of a reply that has none of interest."""
