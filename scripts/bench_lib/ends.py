"""Both ends of a job: nginx serves the sources and takes the results by PUT."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_lib.report import BenchError

CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/put-tmp;
  proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2;
  uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
  client_max_body_size 100m;
  sendfile on;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {folder}/www;
    location /out/ {{ dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Ends:
    """A running nginx.

    Args:
        url: its address; sources are files of `sources`, results appear in `results` (/out/).
    """

    url: str
    sources: Path
    results: Path


@contextmanager
def nginx(folder: Path) -> Iterator[Ends]:
    """Run nginx for the length of a block, logging nothing, as root's or one's own process."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise BenchError("nginx is not installed; on Debian: apt-get install nginx-light")
    (folder / "www" / "out").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(_user() + CONFIG.format(folder=folder, port=port))
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(config)])
    try:
        _wait_for(port)
        yield Ends(f"http://127.0.0.1:{port}", folder / "www", folder / "www" / "out")
    finally:
        process.terminate()
        process.wait()


def _user() -> str:
    # As root nginx would drop to nobody, who may not write here.
    return "user root;" if os.geteuid() == 0 else ""


def _wait_for(port: int) -> None:
    deadline_s = time.monotonic() + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise BenchError("nginx does not answer") from None
            time.sleep(0.02)
        else:
            return
