"""Whoever makes the pictures."""

from __future__ import annotations

import time
from typing import Any, Final

from scripts.redteam_lib.attack import Arena, Result, attack
from scripts.redteam_lib.attacks.peers import service_of
from tests.support import hostile_images, images
from tests.support.http_server import HttpServer
from tests.support.service import Service

ENDED_S: Final = 30.0


def outcome(service: Service, web: HttpServer, name: str, data: bytes) -> dict[str, Any]:
    """Have a picture or an SVG made small; return the job's document."""
    web.files[f"/{name}"] = data
    svg = name.endswith(".svg")
    return service.submit(
        {
            "operationType": "rasterize" if svg else "resize",
            "srcURL": web.url(f"/{name}"),
            "dstURL": web.url(f"/out-{name}.png" if svg else f"/out/{name}"),
            "args": {"width": 20, "height": 10, "method": "PUT"},
        }
    )


def damaged() -> dict[str, bytes]:
    """Pictures that decoders take without a word and that are not what they were."""
    photo = images.jpeg(600, 600)
    middle = len(photo) // 2
    rows = (b"\0" + bytes(range(90)) * 10) * 100
    return {
        "zeroed.jpg": photo[:middle] + bytes(200) + photo[middle + 200 :],
        "missing.jpg": photo[:middle] + photo[middle + 400 :],
        "half.jpg": photo[:middle] + b"\xff\xd9",
        "rows.png": images.raw_png(300, 300, depth=8, color=2, rows=rows),
    }


@attack("whoever made an image", "a picture of damaged data is never done in silence")
def damaged_data(arena: Arena) -> Result:
    """Zeroed, missing and cut data with a clean end."""
    silent = []
    with service_of(arena) as (service, web):
        pictures = damaged()
        for name, data in pictures.items():
            document = outcome(service, web, name, data)
            if document["state"] == "done" and not document.get("warnings"):
                silent.append(name)
    return Result(not silent, f"{len(silent)} of {len(pictures)} done in silence {silent}")


@attack("whoever made an image", "bombs end with a code, in time, and disturb nobody")
def bombs(arena: Arena) -> Result:
    """Small files that are large or slow once they are decoded."""
    files = {
        "large.png": hostile_images.png_of_size(60_000, 60_000),
        "large.gif": hostile_images.gif_of_size(65_535, 65_535),
        "large.jpg": hostile_images.jpeg_of_size(65_000, 65_000),
        "text.png": hostile_images.png_with_text_bomb(),
        "profile.png": hostile_images.png_with_profile_bomb(),
        "frames.gif": hostile_images.gif_of_many_frames(20_000),
        "scans.jpg": images.jpeg_of_many_scans(4_000),
        "uses.svg": hostile_images.svg_of(hostile_images.doubling_uses(30)),
        "patterns.svg": hostile_images.svg_of(hostile_images.doubling_patterns(20)),
        "deep.svg": hostile_images.svg_of(hostile_images.nested(100_000)),
        "laughs.svg": hostile_images.svg_of(
            "<text>&c;</text>",
            before='<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>',
        ),
        "ring.svg": hostile_images.svg_of(
            "<style>:root{"
            + "".join(f"--v{n}:var(--v{(n + 1) % 50_000});" for n in range(50_000))
            + "}</style><path d='M0 0h9v9z' fill='var(--v0)'/>"
        ),
    }
    slow = []
    with service_of(arena) as (service, web):
        (before,) = service.record["parts"]["worker"]
        for name, data in files.items():
            began_s = time.monotonic()
            outcome(service, web, name, data)
            if time.monotonic() - began_s > ENDED_S:
                slow.append(name)
        plain = outcome(service, web, "plain.png", images.png())["state"]
        alive = service.record["parts"]["worker"] == [before]
    held = not slow and plain == "done" and alive
    lived = "lived" if alive else "died"
    return Result(held, f"{len(files)} bombs, {len(slow)} over {ENDED_S:.0f} s; the worker {lived}")


@attack("whoever made an SVG", "an SVG reads no file and asks no server")
def svg_that_looks_outside(arena: Arena) -> Result:
    """Images, styles, fonts, entities and includes that lead outside."""
    with service_of(arena) as (service, web):
        out = web.url("/leak")
        bodies = (
            f'<image href="{out}" width="9" height="9"/>',
            '<image href="file:///etc/passwd" width="9" height="9"/>',
            f'<style>@import url("{out}"); rect{{fill:url({out}#a)}}</style><rect/>',
            f"<style>@font-face{{font-family:a;src:url({out})}}</style><text>a</text>",
            f'<use href="{out}#a"/>',
            f'<filter id="f"><feImage href="{out}"/></filter><rect filter="url(#f)"/>',
            f'<script href="{out}"/><foreignObject><iframe src="{out}"/></foreignObject>',
        )
        befores = (
            f'<!DOCTYPE svg SYSTEM "{out}">',
            f'<!DOCTYPE svg [<!ENTITY e SYSTEM "{out}">]>',
            '<!DOCTYPE svg [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
            f'<?xml-stylesheet href="{out}"?>',
        )
        svgs = [hostile_images.svg_of(body) for body in bodies]
        svgs += [hostile_images.svg_of("<text>&e;</text>", before=each) for each in befores]
        for number, svg in enumerate(svgs):
            outcome(service, web, f"{number}.svg", svg)
        asked = [each for each in web.requests if each.path == "/leak"]
    return Result(not asked, f"{len(asked)} of {len(svgs)} SVGs asked a server")
