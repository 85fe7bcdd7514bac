"""Start imgserve, send it the README's requests, show request, reply, placeholder and result."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from scripts import demo_pictures
from scripts.demo_servers import FolderWatch, VersionedFtpServer, uploads
from tests.support.http_server import HttpServer

ROOT: Final = Path(__file__).resolve().parent.parent
OUTPUT: Final = ROOT / "demo-output"
STATE: Final = OUTPUT / "state"
JOB_TIMEOUT_S: Final = 30.0
FINAL_STATES: Final = ("done", "failed", "rejected", "cancelled")

Versions = Callable[[str], list[bytes]]


class DemoFailed(Exception):
    """Raised when something is not as the README promises."""


@dataclass(frozen=True, slots=True)
class Peers:
    """Where the README's example hosts are during the demo."""

    replacements: dict[str, str]
    versions: dict[str, Versions]


def main() -> int:
    """Run the demo; return 0 when every request did what the README says."""
    # A demo that is terminated stops its service on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    shutil.rmtree(OUTPUT, ignore_errors=True)
    files, ftp_root = OUTPUT / "files", OUTPUT / "ftp"
    for folder in (files, ftp_root, STATE):
        folder.mkdir(parents=True)
    began_s = time.monotonic()
    with HttpServer() as http, VersionedFtpServer(ftp_root) as ftp, FolderWatch(files) as watch:
        _publish(http)
        host = f"127.0.0.1:{http.port}"
        peers = Peers(
            replacements={
                "pictures.example.com": host,
                "storage.example.com": host,
                "www.example.com": host,
                "ftp.example.com": f"127.0.0.1:{ftp.port}",
                "/srv/pictures": str(files),
            },
            versions={
                "http": lambda name: uploads(http, name),
                "ftp": ftp.versions,
                "file": watch.versions,
            },
        )
        try:
            _show(peers, files)
        except (DemoFailed, OSError, subprocess.CalledProcessError) as exc:
            _say(_red(f"the demo failed: {exc}"))
            _log_tail()
            return 1
    _say(f"\nAll pictures are under {_short(OUTPUT)}/ ({time.monotonic() - began_s:.1f} s).")
    return 0


def readme_requests() -> list[str]:
    """Return the requests among the README's JSON blocks, as they are written there."""
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [block.strip() for block in blocks if "operationType" in json.loads(block)]


def _publish(http: HttpServer) -> None:
    http.files["/landscape.jpg"] = demo_pictures.landscape(demo_pictures.DAY, "JPEG")
    http.files["/night.png"] = demo_pictures.landscape(demo_pictures.NIGHT, "PNG")
    http.files["/logo.svg"] = demo_pictures.LOGO.encode()
    http.upload_page("/upload.html", "/receive", "image_file")


def _show(peers: Peers, files: Path) -> None:
    _say(_bold("$ imgserve start") + "   on free loopback ports, for this demo alone")
    flags = ["--host=127.0.0.1", "--port=0", "--broker-port=0", f"--file-root={files}"]
    # Loopback is denied by default: a request must not reach what only this machine sees.
    _say("  " + _imgserve("start", *flags, "--allow-network=127.0.0.0/8"))
    try:
        url = json.loads(_imgserve("status", "--json"))["url"]
        _say("\nThe requests are those of README.md; its example hosts are local servers here:")
        for name, place in peers.replacements.items():
            _say(f"  {name} is {_short(place)}")
        for number, text in enumerate(readme_requests(), start=1):
            _request(number, text, url, peers)
        _say("\n" + _bold("$ imgserve status"))
        _say(_imgserve("status"))
    finally:
        ended = _imgserve("stop")  # before anything is said: whoever reads this may have gone
        _say("\n" + _bold("$ imgserve stop"))
        _say("  " + ended)


def _request(number: int, text: str, url: str, peers: Peers) -> None:
    """Send one request; collect what was before, the placeholder and the result."""
    document = json.loads(text)
    _say("\n" + _bold(f"{number}. {_title(document)}"))
    _say(_indented(text))
    body = text
    for name, place in peers.replacements.items():
        body = body.replace(name, place)
    began_s = time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(url + "/", body.encode())) as response:  # noqa: S310
        reply = json.load(response)
        job_url = url + response.headers.get("Location", "")
    _say(f"  reply after {(time.monotonic() - began_s) * 1000:.0f} ms: {json.dumps(reply)}")
    if "dstURL" not in reply:
        raise DemoFailed(f"request {number} was refused")
    job = _await_job(job_url)
    _say(f"  done after {(time.monotonic() - began_s) * 1000:.0f} ms")
    scheme = reply["dstURL"].partition(":")[0]
    name = re.split("[/:]", reply["dstURL"])[-1]
    versions = peers.versions[scheme](name)
    if job["state"] != "done" or not versions:
        raise DemoFailed(f"request {number} ended {job['state']}: {job.get('detail')}")
    folder = OUTPUT / f"{number}-{document['operationType']}-{scheme}"
    folder.mkdir()
    with urllib.request.urlopen(json.loads(body)["srcURL"]) as response:  # noqa: S310
        _keep(folder / f"before.{document['srcURL'].rpartition('.')[2]}", response.read())
    if len(versions) > 1:
        _keep(folder / f"placeholder-{name}", versions[0])
    else:
        _say("  placeholder  (the result was there before this script could look)")
    _keep(folder / f"result-{name}", versions[-1], document["args"])


def _await_job(job_url: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + JOB_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with urllib.request.urlopen(job_url) as response:  # noqa: S310
            job: dict[str, Any] = json.load(response)
        if job["state"] in FINAL_STATES:
            return job
        time.sleep(0.05)
    raise DemoFailed(f"{job_url} did not end in {JOB_TIMEOUT_S:.0f} s")


def _keep(path: Path, content: bytes, args: dict[str, Any] | None = None) -> None:
    """Write a picture into demo-output/, say its size, and check it against the request."""
    path.write_bytes(content)
    label, what = path.name.partition("-")[0].partition(".")[0], "SVG"
    if path.suffix != ".svg":
        with Image.open(path) as picture:
            what = f"{picture.format} {picture.width} x {picture.height}"
            if args and picture.size != (args["width"], args["height"]):
                raise DemoFailed(f"{path} has {what}, not the size that was asked for")
    _say(f"  {label:<12} {_short(path)}  ({what}, {len(content):,} bytes)")


def _imgserve(command: str, *flags: str) -> str:
    words = [sys.executable, "-m", "imgserve", command, f"--state={STATE}", *flags]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    if ended.returncode:
        raise DemoFailed(f"imgserve {command}: {ended.stderr.strip()}")
    return ended.stdout.strip()


def _log_tail() -> None:
    log = STATE / "imgserve.log"
    lines = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
    _say(f"the end of {_short(log)}:\n" + _indented("\n".join(lines)))


def _title(document: dict[str, Any]) -> str:
    scheme = document["dstURL"].partition(":")[0]
    how = f"HTTP {document['args'].get('method', 'POST')}" if scheme == "http" else scheme.upper()
    return f"{document['operationType']}, result by {how}"


def _say(text: str) -> None:
    print(text, flush=True)


def _short(path: object) -> str:
    return str(path).removeprefix(f"{ROOT}/")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else text


def _red(text: str) -> str:
    return f"\x1b[31m{text}\x1b[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    sys.exit(main())
