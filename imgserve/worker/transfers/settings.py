"""The limits and permissions of the transfer layer, each with its unit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """What transfers may use and reach; the defaults suit images on ordinary servers."""

    connect_timeout_s: float = 10
    # The whole of one fetch, redirects included: a job must not wait for a slow source for ever.
    fetch_timeout_s: float = 60
    # A peer that trickles is given up long before the whole timeout.
    low_speed_bytes_s: int = 1000
    low_speed_time_s: int = 10
    upload_timeout_s: float = 60
    max_redirects: int = 5
    source_limit_bytes: int = 100_000_000
    # Folders that file: URLs may name; none means that file: is refused.
    file_roots: tuple[Path, ...] = ()
    # Networks in CIDR notation: opened over the default denials, closed over everything.
    allow_networks: tuple[str, ...] = ()
    deny_networks: tuple[str, ...] = ()
    # Close every private network that is not among those allowed.
    deny_private: bool = False
    # Patterns of host names: with any allowed, only those; denied ones never.
    allow_hosts: tuple[str, ...] = ()
    deny_hosts: tuple[str, ...] = ()
    # A proxy sees host names, not us: with one configured, addresses are its to judge.
    proxy: str = ""
    verify_tls: bool = True
    ca_file: str | None = None
    # Idle connections kept for later jobs, over all hosts.
    connections_kept: int = 64
    # At once to one host; more wait inside curl, within their connect timeout.
    connections_per_host: int = 64
    # At once to one FTP server; fewer where it refuses some.
    ftp_connections: int = 8
    # Threads, as libcurl waits for FTP's last reply without giving the event loop back.
    ftp_transfers: int = 16
    # A page with an upload form is small; what is longer is not read for forms.
    form_page_limit_bytes: int = 256 * 1024
    # How long a form's action and hidden fields are trusted without reading its page again.
    form_memory_s: float = 300
    forms_remembered: int = 256
