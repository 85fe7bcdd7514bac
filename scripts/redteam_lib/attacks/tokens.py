"""Holders of a token, and people without one."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Final

from scripts.redteam_lib.attack import Arena, Result, attack
from tests.support import images
from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer
from tests.support.service import Service, command, eventually

SMALL: Final = ("--processes", "1", "--retry-limit", "0")

# Below ftp://…/shop: what some server or parser may read as a way out of it.
WAYS_OUT: Final = (
    *("/x.png?/../../secret/victim.png", "/x.png;/../../secret/victim.png"),
    *("/../secret/victim.png", "/%2e%2e/secret/victim.png", "/.%2e/secret/victim.png"),
    *("/%252e%252e/secret/victim.png", "/..%2fsecret%2fvictim.png", "/..;/secret/victim.png"),
    *("/..%5csecret%5cvictim.png", "/..\\secret\\victim.png", "/x/../../secret/victim.png"),
    *("%2f..%2fsecret/victim.png", "/%2e%2e%2fsecret/victim.png", "/~/secret/victim.png"),
    *("/x.png%00/../../secret/victim.png", "/x.png#/../../secret/victim.png"),
    *("/%c0%ae%c0%ae/secret/victim.png", "/\uff0e\uff0e/secret/victim.png", "/.../secret/v.png"),
    *("/x.png%0d%0aDELE%20/secret/victim.png", "/ /../../secret/victim.png", "//secret/victim.png"),
    *("/./../secret/victim.png", "/%2F..%2F..%2Fsecret/victim.png", "/..//secret/victim.png"),
    "-other/victim.png",
)


def new_token(file: Path, name: str, *flags: str) -> dict[str, str]:
    """Make a token as its operator does; return the header that it goes into."""
    words = command("token", "new", name, "--token-file", str(file), *flags)
    made = subprocess.run(words, capture_output=True, text=True, check=True)
    return {"Authorization": f"Bearer {made.stdout.split()[-1]}"}


def resize(src_url: str, dst_url: str) -> dict[str, Any]:
    """An ordinary request."""
    args: dict[str, Any] = {"width": 20, "height": 10}
    if dst_url.startswith("http"):
        args["method"] = "PUT"
    return {"operationType": "resize", "srcURL": src_url, "dstURL": dst_url, "args": args}


@attack("a client with a token", "no result lands outside of the token's destinations")
def token_leaves_its_prefix(arena: Arena) -> Result:
    """Ask for destinations that a parser may read as lying elsewhere."""
    root = arena.folder / "ftp"
    for name in ("shop", "secret", "shop-other"):
        (root / name).mkdir(parents=True)
    tokens = arena.folder / "tokens.json"
    flags = (*SMALL, "--token-file", str(tokens))
    with HttpServer() as web, FtpServer(root) as ftp:
        headers = new_token(tokens, "shop", "--destination", f"ftp://127.0.0.1:{ftp.port}/shop/")
        with Service(arena.folder / "service", *flags) as service:
            web.files["/photo.png"] = images.png()
            for way in WAYS_OUT:
                request = resize(web.url("/photo.png"), ftp.url("/shop" + way))
                answer = service.post(request, "/jobs", headers)
                if answer.status == 202:
                    _await_end(service, answer.document["links"]["self"], headers)
    written = [path for path in root.rglob("*") if path.is_file()]
    outside = [path for path in written if (root / "shop") not in path.parents]
    return Result(not outside, f"{len(outside)} of {len(WAYS_OUT)} URLs wrote outside of /shop/")


def _await_end(service: Service, location: str, headers: dict[str, str]) -> None:
    def ended() -> bool:
        state = service.send("GET", location, headers=headers).document.get("state")
        return state in {"done", "failed", "rejected", "cancelled"}

    eventually(ended, "the job's end", timeout_s=30)


@attack("anyone", "the first token locks the door within a second", timed=True)
def door_without_a_lock(arena: Arena) -> Result:
    """Start without tokens, make one, and go on without it."""
    with Service(arena.folder / "service", *SMALL) as service:
        tokens = service.state / "tokens.json"
        new_token(tokens, "first")
        began_s = time.monotonic()
        statuses: set[int] = set()
        while statuses != {401} and time.monotonic() - began_s < 5:
            wrong = {"Authorization": "Bearer wrong"}
            statuses = {service.post({}, "/jobs", headers).status for headers in ({}, wrong)}
        took_s = time.monotonic() - began_s
        tokens.unlink()
    if statuses != {401}:
        return Result(held=False, figure=f"open after {took_s:.0f} s: answers {sorted(statuses)}")
    return Result(took_s < 1.0, f"locked {took_s:.2f} s after the first token")


@attack("a client with a token", "nobody sees, cancels or meets another token's jobs")
def meddling_with_others_jobs(arena: Arena) -> Result:
    """As token B, use A's ids and A's Idempotency-Key."""
    got = []
    tokens = arena.folder / "tokens.json"
    ours, theirs = new_token(tokens, "a"), new_token(tokens, "b")
    flags = (*SMALL, "--token-file", str(tokens))
    with HttpServer() as web, Service(arena.folder / "service", *flags) as service:
        web.files["/photo.png"] = images.png()
        secret = "topsecret"  # noqa: S105 (what must not be shown)
        request = resize(web.url("/photo.png"), web.url("/out.png", userinfo=f"u:{secret}"))
        answer = service.post(request, "/jobs", ours | {"Idempotency-Key": "order-1"})
        location = answer.document["links"]["self"]
        _await_end(service, location, ours)
        if service.send("GET", location, headers=theirs).status != 404:
            got.append("reads the job")
        if service.send("DELETE", location, headers=theirs).status != 404:
            got.append("cancels the job")
        if service.send("GET", "/jobs/order-1", headers=theirs).status != 404:
            got.append("reads it by its key")
        other = resize(web.url("/photo.png"), web.url("/other.png"))
        again = service.post(other, "/jobs", theirs | {"Idempotency-Key": "order-1"})
        if again.status != 202:
            got.append(f"is refused its own key ({again.status})")
        if secret.encode() in service.send("GET", location, headers=ours).body:
            got.append("the document shows the destination's password")
        if secret in service.log(10_000):
            got.append("the log shows the destination's password")
    return Result(not got, "; ".join(got) or "nothing of 6 tries")
