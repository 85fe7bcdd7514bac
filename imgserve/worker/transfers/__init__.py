"""Downloads and uploads of the worker, over http, https, ftp, ftps and file."""

from __future__ import annotations

from imgserve.request import Destination
from imgserve.worker.transfers.download import Download
from imgserve.worker.transfers.parcel import UploadedBy
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.transfers import Transfers
from imgserve.worker.transfers.urls import redact

__all__ = ["Destination", "Download", "TransferSettings", "Transfers", "UploadedBy", "redact"]
