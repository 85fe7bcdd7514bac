"""A client in another language, written from docs/protocol.md alone, submits and hears its job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.looks import form
from tests.support import images
from tests.support.http_server import HttpServer
from tests.support.service import Service

SOURCE = Path(__file__).parent / "node_client"
INSTALL_TIMEOUT_S = 120
RUN_TIMEOUT_S = 60
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "ECONNREFUSED", "ENOTCACHED")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The client with its packages, in a folder of its own."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, so the client in Node cannot be tried")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules"))
    # The packages bring their compiled parts along; npm's own cache serves every later run.
    install = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"],
        cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False,
    )  # fmt: skip
    if install.returncode != 0:
        offline = any(word in install.stderr for word in OFFLINE)
        assert offline, install.stderr
        pytest.skip("npm cannot reach its registry, so the client in Node cannot be tried")
    yield folder / "client.mjs"
    shutil.rmtree(folder)


def run(client: Path, service: Service, request: dict[str, Any], *more: str) -> tuple[int, list]:
    """Run the client; return its exit code and the messages that it printed."""
    done = subprocess.run(
        ["node", str(client), str(service.connection), json.dumps(request), *more],
        capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def asked(web: HttpServer, name: str, width_px: int = 120) -> dict[str, Any]:
    """A request with characters beyond ASCII in its destination."""
    web.files[f"/{name}/photo.png"] = images.png(240, 160)
    return {
        "srcURL": web.url(f"/{name}/photo.png"),
        "operationType": "resize",
        "dstURL": web.url(f"/{name}/größe-{{$width}}.{{$ext}}"),
        "args": {"width": width_px, "height": 80, "method": "PUT"},
    }


def test_job_is_accepted_and_done(client: Path, service: Service, web: HttpServer, name: str):
    """It hears the final dstURL with `accepted`, and size and seconds with `done`."""
    code, (accepted, done) = run(client, service, asked(web, name))
    assert (code, accepted["state"], done["state"]) == (0, "accepted", "done")
    assert accepted["dst_url"] == done["dst_url"] == web.url(f"/{name}/größe-120.png")
    result = web.stored[f"/{name}/größe-120.png"]
    assert form(result) == ("PNG", (120, 80))
    assert (done["width_px"], done["height_px"], done["size_bytes"]) == (120, 80, len(result))
    assert done["warnings"] == []
    assert {"fetch", "pixels", "upload", "total"} <= done["seconds"].keys()
    assert service.job(f"/jobs/{done['job_id']}")["state"] == "done"


def test_refusal_is_heard_with_its_code(client: Path, service: Service, web: HttpServer, name: str):
    """A source that is too small is rejected with 203 and a sentence."""
    code, (rejected,) = run(client, service, asked(web, name, width_px=241))
    assert (code, rejected["state"], rejected["code"]) == (1, "rejected", 203)
    assert "240x160" in rejected["detail"]


def test_same_id_is_the_same_job_and_another_request_a_conflict(
    client: Path, service: Service, web: HttpServer, name: str
):
    """The original outcome is said again; the source is fetched once."""
    request = asked(web, name)
    assert run(client, service, request, "node-1")[0] == 0
    code, messages = run(client, service, dict(reversed(request.items())), "node-1")
    assert (code, messages[-1]["state"]) == (0, "done")
    fetched = [each for each in web.requests if each.path == f"/{name}/photo.png"]
    assert len(fetched) == 1
    code, (refused,) = run(client, service, asked(web, name, width_px=60), "node-1")
    assert (code, refused["kind"], refused["reason"]) == (1, "refused", "conflict")


def test_lock_file_names_no_registry():
    """The lock file holds versions and hashes, and no address."""
    text = (SOURCE / "package-lock.json").read_text()
    assert '"integrity"' in text
    assert "resolved" not in text
    assert "://" not in text
