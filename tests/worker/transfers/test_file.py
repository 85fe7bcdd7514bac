"""file: what lies beneath a root, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgserve.errors import DestinationForbidden, SourceForbidden, SourceUnreachable, UploadFailed
from imgserve.request import Destination
from imgserve.worker.transfers import TransferSettings
from tests.worker.transfers.running import fetch, upload


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    return folder


@pytest.fixture
def settings(root: Path) -> TransferSettings:
    return TransferSettings(file_roots=(root,))


def test_without_a_root_file_is_refused(tmp_path: Path) -> None:
    """The detail names the flag that would permit it."""
    with pytest.raises(SourceForbidden, match="--file-root"):
        fetch(f"file://{tmp_path}/a.png", TransferSettings())
    with pytest.raises(DestinationForbidden, match="--file-root"):
        upload(Destination(f"file://{tmp_path}/a.png"), b"x", TransferSettings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "{root}/../secret.png",
        "{root}/%2e%2e/secret.png",
        "{root}/x/../../secret.png",
        "{root}/%2e%2e%2fsecret.png",
        "{root}/link.png",
        "{root}/folder/secret.png",
        "{root}/magic/cwd/secret.png",
        "{root}-sibling/secret.png",
        "/etc/passwd",
        "/proc/self/environ",
    ],
)
def test_nothing_leads_out_of_the_root(root: Path, settings: TransferSettings, path: str) -> None:
    """Neither dots nor links nor look-alike names reach a file outside, at either end."""
    (root / "x").mkdir()
    (root / "link.png").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    (root / "magic").symlink_to("/proc/self")
    sibling = root.with_name("root-sibling")
    sibling.mkdir()
    (sibling / "secret.png").write_bytes(b"secret")
    url = f"file://{path.format(root=root)}"
    with pytest.raises(SourceForbidden):
        fetch(url, settings)
    if not path.endswith("link.png"):
        with pytest.raises(DestinationForbidden):
            upload(Destination(url), b"x", settings)
    assert (root.parent / "secret.png").read_bytes() == b"secret"
    assert (sibling / "secret.png").read_bytes() == b"secret"


def test_a_link_at_the_destination_is_replaced_not_followed(
    root: Path, settings: TransferSettings
) -> None:
    """The rename puts a file in the link's place and leaves its target alone."""
    (root / "link.png").symlink_to(root.parent / "secret.png")
    upload(Destination(f"file://{root}/link.png"), b"x", settings)
    assert not (root / "link.png").is_symlink()
    assert (root.parent / "secret.png").read_bytes() == b"secret"


def test_a_fifo_is_refused_at_once(root: Path, settings: TransferSettings) -> None:
    """A FIFO without a writer does not hold the transfer up."""
    os.mkfifo(root / "a.png")
    with pytest.raises(SourceUnreachable, match="not a regular file"):
        fetch(f"file://{root}/a.png", settings)


def test_a_folder_is_no_file(root: Path, settings: TransferSettings) -> None:
    """A folder is neither a source nor a destination, and nothing temporary stays."""
    (root / "a.png").mkdir()
    with pytest.raises(SourceUnreachable):
        fetch(f"file://{root}/a.png", settings)
    for path in ("/a.png", "/", "/x/"):
        with pytest.raises(UploadFailed):
            upload(Destination(f"file://{root}{path}"), b"x", settings)
    assert [file.name for file in root.iterdir() if file.name.startswith(".")] == []


def test_a_link_inside_the_root_is_refused_too(root: Path, settings: TransferSettings) -> None:
    """Whoever may make links beneath a root decides nothing about where they lead later."""
    (root / "x").mkdir()
    (root / "x" / "a.png").write_bytes(b"x")
    (root / "link").symlink_to("x")
    with pytest.raises(SourceForbidden, match="symbolic link"):
        fetch(f"file://{root}/link/a.png", settings)
    with pytest.raises(DestinationForbidden, match="symbolic link"):
        upload(Destination(f"file://{root}/link/b.png"), b"x", settings)


@pytest.mark.parametrize("host", ["elsewhere", "127.0.0.1"])
def test_a_file_url_of_another_host_is_refused(
    root: Path, settings: TransferSettings, host: str
) -> None:
    """Only no host and localhost mean this machine."""
    (root / "a.png").write_bytes(b"x")
    assert fetch(f"file://localhost{root}/a.png", settings) == b"x"
    with pytest.raises(SourceForbidden, match="localhost"):
        fetch(f"file://{host}{root}/a.png", settings)


def test_any_of_several_roots_serves(root: Path, tmp_path: Path) -> None:
    """A path is looked up beneath the longest root that it begins with."""
    (root / "in").mkdir()
    (root / "in" / "a.png").write_bytes(b"x")
    settings = TransferSettings(file_roots=(tmp_path / "none", tmp_path, root / "in"))
    assert fetch(f"file://{root}/in/a.png", settings) == b"x"
    assert fetch(f"file://{tmp_path}/secret.png", settings) == b"secret"
    with pytest.raises(SourceForbidden):
        fetch(f"file://{root}/in/../../secret.png", settings)


def test_a_nul_byte_is_a_malformed_url(root: Path, settings: TransferSettings) -> None:
    """No system call sees a path with a NUL byte."""
    with pytest.raises(SourceUnreachable, match="malformed"):
        fetch(f"file://{root}/a%00.png", settings)
    with pytest.raises(UploadFailed, match="malformed"):
        upload(Destination(f"file://{root}/a%00.png"), b"x", settings)
