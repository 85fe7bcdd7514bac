"""file: URLs that try to leave their root, or name what is no regular file."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.conftest import Hostile
from tests.support import images

PHOTO = images.png(200, 150)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the root, with a picture that must not be read."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.png").write_bytes(PHOTO)
    return folder


@pytest.fixture(scope="module")
def root(watched: Hostile, outside: Path) -> Iterator[Path]:
    """The service's root with everything in it that could lead astray."""
    root = watched.service.files
    (root / "good.png").write_bytes(PHOTO)
    (root / "folder.png").mkdir()
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "inner.png").symlink_to("good.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "away").symlink_to(outside)
    (root / "proc").symlink_to("/proc/self")
    (root / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listener:
        # By a short relative name: such addresses hold 108 bytes.
        here = Path.cwd()
        os.chdir(root)
        listener.bind("socket.png")
        os.chdir(here)
        try:
            os.mknod(root / "device.png", 0o600 | 0o020000, os.makedev(1, 5))
        except PermissionError:  # not root
            (root / "device.png").symlink_to("/dev/zero")
        with (root / "huge.png").open("wb") as huge:
            huge.write(PHOTO)
            huge.truncate(10**12)
        yield root
    for each in ("fifo.png", "socket.png", "device.png", "huge.png"):
        (root / each).unlink()


PATHS = {
    "{root}/../files/../../outside/secret.png": {301},
    "{root}/%2e%2e/%2e%2e/secret.png": {301},
    "{root}/..%2f..%2fetc%2fpasswd.png": {301},
    "{root}/good.png/../../../secret.png": {201, 301},
    "{root}/./../x.png": {301},
    "{outside}/secret.png": {301},
    "/proc/self/environ.png": {301},
    "/etc/passwd.png": {301},
    "{root}/link.png": {301},
    "{root}/inner.png": {301},
    "{root}/loop.png": {301},
    "{root}/away/secret.png": {301},
    "{root}/proc/root{outside}/secret.png": {301},
    "{root}/proc/fd/0.png": {301},
    "{root}/zero.png": {301},
    "{root}/folder.png": {201},
    "{root}/fifo.png": {201},
    "{root}/socket.png": {201},
    "{root}/device.png": {201, 301},
    "{root}/huge.png": {206},
    "{root}/absent.png": {201},
    "{root}/good.png%00.png": {116, 201},
    "{root}/" + "a/" * 2000 + "x.png": {201},
    "{root}/" + "x" * 5000 + ".png": {201},
    "//{root}/good.png": {116, 301},
}


@pytest.mark.parametrize("path", PATHS)
def test_path_that_leads_astray_is_refused(hostile: Hostile, root: Path, outside: Path, path: str):
    """Nothing outside the root is read, and nothing but regular files within it."""
    document = hostile.source("file://" + path.format(root=root, outside=outside))
    assert document["code"] in PATHS[path], document


@pytest.mark.parametrize(
    "path",
    [
        "{root}/../up.png",
        "{root}/%2e%2e/up.png",
        "{root}/away/up.png",
        "{root}/proc/cwd/up.png",
        "{outside}/up.png",
        "{root}/good.png/up.png",
        "{root}/fifo.png/up.png",
        "{root}/folder.png",
        "{root}/" + "x" * 300 + ".png",
    ],
)
def test_destination_that_leads_astray_is_refused(
    hostile: Hostile, root: Path, outside: Path, path: str
):
    """Nothing outside the root is written, and no folder or link is written through."""
    request = hostile.ask(
        (root / "good.png").as_uri(),
        "file://" + path.format(root=root, outside=outside),
        method="PUT",
    )
    document = hostile.end(request)
    assert document["code"] in {205, 302}, document
    assert [each.name for each in outside.iterdir()] == ["secret.png"]
    assert not (root.parent / "up.png").exists()


def test_link_at_the_destination_is_replaced(hostile: Hostile, root: Path, outside: Path):
    """A result replaces a link; what it pointed to stays as it was."""
    before = (outside / "secret.png").read_bytes()
    request = hostile.ask((root / "good.png").as_uri(), (root / "link.png").as_uri(), method="PUT")
    assert hostile.end(request)["state"] == "done"
    assert (outside / "secret.png").read_bytes() == before
    assert not (root / "link.png").is_symlink()
    (root / "link.png").unlink()
    (root / "link.png").symlink_to(outside / "secret.png")
