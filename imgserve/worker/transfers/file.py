"""file: read and write beneath the configured roots, never through curl."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.beneath import read_beneath, write_beneath
from imgserve.worker.transfers.download import Inbox
from imgserve.worker.transfers.parcel import Parcel
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.trouble import TransferFailed
from imgserve.worker.transfers.urls import Target


class FileTransfer:
    """Fetch and upload in the file system, in threads: a disk may hang, the loop must not."""

    def __init__(self, settings: TransferSettings, may_send: Callable[[], bool]) -> None:
        self._may_send = may_send
        # The longest first: a root inside another is the more exact one.
        self._roots = sorted(settings.file_roots, key=lambda root: -len(str(root)))
        self._fetch_timeout_s = settings.fetch_timeout_s
        self._upload_timeout_s = settings.upload_timeout_s

    async def fetch(self, source: Target, inbox: Inbox) -> None:
        """Read a file into the inbox.

        Raises:
            TransferFailed: it is not beneath a root, or cannot be read.
        """
        root, path = self._locate(source)
        try:
            async with asyncio.timeout(self._fetch_timeout_s):
                body = await asyncio.to_thread(read_beneath, root, path, inbox.limit_bytes)
        except (OSError, ValueError) as exc:
            raise _explain(exc) from exc
        if body is None:
            raise trouble.too_large(inbox.limit_bytes)
        inbox.feed(body)

    async def upload(self, parcel: Parcel) -> None:
        """Write a file.

        Raises:
            TransferFailed: it is not beneath a root, or cannot be written.
        """
        root, path = self._locate(parcel.target)
        try:
            async with asyncio.timeout(self._upload_timeout_s):
                await asyncio.to_thread(
                    write_beneath,
                    root,
                    path,
                    parcel.body,
                    by=parcel.by,
                    may_appear=self._may_send,
                )
        except (OSError, ValueError) as exc:
            raise _explain(exc) from exc

    def _locate(self, target: Target) -> tuple[Path, str]:
        """Choose the root by the path's text; that nothing leads out of it, the kernel sees to."""
        if not self._roots:
            raise trouble.forbidden("file: is refused as no --file-root is configured")
        if target.host not in ("", "localhost"):
            raise trouble.forbidden("a file: URL names no host but localhost")
        path = os.fsdecode(target.path_bytes)
        for root in self._roots:
            prefix = str(root).rstrip("/") + "/"
            if path.startswith(prefix):
                return root, path[len(prefix) :].lstrip("/")
        raise trouble.forbidden("the file is not beneath any --file-root")


def _explain(exc: OSError | ValueError) -> TransferFailed:
    if isinstance(exc, TimeoutError):
        return TransferFailed("the file system was too slow", retryable=True)
    if isinstance(exc, ValueError):  # a NUL byte in the path
        return TransferFailed("the URL is malformed")
    if exc.errno in (errno.EXDEV, errno.ELOOP):
        return trouble.forbidden("the path leads out of its --file-root or through a symbolic link")
    return trouble.of_os_error(exc)
