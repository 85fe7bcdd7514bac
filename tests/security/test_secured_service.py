"""The whole service with keys, tokens and TLS at once."""

from __future__ import annotations

import json
import ssl
import urllib.request

from PIL import Image

from imgserve.protocol.connection import Connection
from tests.security.keyed import key_of, keys
from tests.support.command_line import Daemon, imgserve
from tests.support.tls import make_certificate
from tests.support.until import until


def test_keys_init_is_all_that_start_needs(tmp_path):
    """Gateway, worker, status and submit each find the key of their role; a job is done."""
    with Daemon(tmp_path / "state") as service:
        service.state.mkdir(mode=0o700)
        keys(service.state, "init")
        Image.new("RGB", (64, 64), "teal").save(tmp_path / "a.png")
        service.start(f"--file-root={tmp_path}")
        assert Connection.read(service.state / "connection.json").server_key
        assert len(service.status()["workers"]) == 1
        request = {
            "operationType": "resize",
            "srcURL": f"file://{tmp_path}/a.png",
            "dstURL": f"file://{tmp_path}/b.png",
            "args": {"width": 8, "height": 8},
        }
        ended = service.run("submit", "-", input=json.dumps(request) + "\n")
        assert ended.returncode == 0, ended.stdout
        body = json.dumps(request).encode()
        with urllib.request.urlopen(service.record.url, body, timeout=30) as answer:  # noqa: S310
            assert json.load(answer) == {"dstURL": request["dstURL"]}
        assert service.run("stop").returncode == 0


def test_a_service_with_keys_tokens_and_tls_does_jobs(tmp_path):
    """From HTTPS to the file; also after its worker's and its gateway's key was replaced."""
    state, files = tmp_path / "state", tmp_path / "files"
    for folder in (state, files):
        folder.mkdir(mode=0o700)
    Image.new("RGB", (64, 64), "teal").save(files / "a.png")
    certificate = make_certificate(tmp_path)
    keys(state, "init")
    token = imgserve("token", "new", "me", f"--state={state}").stdout.strip()
    context = ssl.create_default_context(cafile=certificate.ca_file)

    def job(name: str) -> object:
        document = {
            "operationType": "resize",
            "srcURL": f"file://{files}/a.png",
            "dstURL": f"file://{files}/{name}.png",
            "args": {"width": 8, "height": 8},
        }
        request = urllib.request.Request(  # noqa: S310 (https, as just made)
            service.record.url, json.dumps(document).encode(), {"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    with Daemon(state) as service:
        service.start(f"--file-root={files}", f"--tls-cert={certificate.server_file}")
        assert service.record.url.startswith("https://")
        assert job("b") == {"dstURL": f"file://{files}/b.png"}
        status = service.status()
        assert status["ready"]
        assert len(status["workers"]) == 1
        keys(state, "rotate", "local-worker")
        keys(state, "rotate", "local-submitter")
        fresh = key_of(state, "local-worker").public
        assert fresh in keys(state, "list")
        until(lambda: service.status()["epoch"] not in (None, status["epoch"]), 30)
        until(lambda: len(service.status()["workers"]) == 1, 30)
        # The gateway, too, has to be back with its new key: until then it answers 503.
        until(lambda: service.status()["ready"], 30)
        assert job("c") == {"dstURL": f"file://{files}/c.png"}
        assert service.run("stop").returncode == 0
