"""The tasks of the Celery worker; runs in the peers' environment, not in imgserve's."""

from __future__ import annotations

from functools import cache

import requests
from celery import Celery

from bench_lib import bare

app = Celery("bench")
TIMEOUT_S = 30


@cache
def session() -> requests.Session:
    """One pool of connections a process, made after the fork."""
    return requests.Session()


@app.task
def nothing() -> None:
    """Do nothing: what is left is Celery's own cost."""


@app.task
def thumbnail(source_url: str, target_url: str, width_px: int, height_px: int) -> None:
    """Fetch, resize with the very code of the bare loop, and PUT."""
    fetched = session().get(source_url, timeout=TIMEOUT_S)
    fetched.raise_for_status()
    small = bare.cover(fetched.content, width_px, height_px, "JPEG")
    session().put(target_url, data=small, timeout=TIMEOUT_S).raise_for_status()
