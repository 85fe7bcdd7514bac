"""Pages that make a visitor's browser ask for them."""

from __future__ import annotations

import json
from typing import Final

from scripts.redteam_lib.attack import Arena, Result, attack
from scripts.redteam_lib.attacks.tokens import SMALL, resize
from tests.support import images
from tests.support.http_server import HttpServer
from tests.support.service import Service

CROSS_SITE: Final = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}


@attack("a page in a user's browser", "no request of another site is carried out")
def cross_site_requests(arena: Arena) -> Result:
    """Post what a page may post without asking first."""
    carried_out = []
    with HttpServer() as web, Service(arena.folder / "service", *SMALL) as service:
        web.files["/photo.png"] = images.png()
        number = 0
        for path in ("/", "/jobs"):
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
                for headers in (CROSS_SITE, {"Origin": "http://evil.example"}):
                    number += 1
                    request = resize(web.url("/photo.png"), web.url(f"/{number}.png"))
                    answer = service.send(
                        "POST", path, json.dumps(request).encode(), headers | {"Content-Type": kind}
                    )
                    if answer.status < 300:
                        carried_out.append(f"{path} {kind}")
    return Result(not carried_out, f"{len(carried_out)} of {number} were carried out")


@attack("a page in a user's browser", "a service on loopback answers to its own names alone")
def dns_rebinding(arena: Arena) -> Result:
    """Ask with the name of a page's own site, which now leads to loopback."""
    answered = []
    with Service(arena.folder / "service", *SMALL) as service:
        port = service.record["port"]
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
            answered += [
                path
                for path in ("/queue", "/metrics", "/jobs/none")
                if service.send("GET", path, headers={"Host": host}).status in (200, 404)
            ]
    return Result(not answered, f"{len(answered)} of 9 were answered")
