"""Real nginx and Apache, configured as their handbooks say."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgserve.errors import SourceUnreachable, UploadFailed
from imgserve.request import Destination
from imgserve.worker.transfers import Transfers
from tests.support.outside_server import free_port, running
from tests.worker.transfers.running import OPEN, fetch, upload

_PATH = "/usr/sbin:/usr/bin"
NGINX, APACHE = shutil.which("nginx", path=_PATH), shutil.which("apache2", path=_PATH)
MODULES = Path("/usr/lib/apache2/modules")
# More than what is sent before a question for credentials could be missed.
BODY = bytes(range(256)) * 8_000

needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx")
needs_apache = pytest.mark.skipif(
    APACHE is None or not MODULES.is_dir(), reason="needs apache2 and its modules"
)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """Make a folder that a server may use that gives up root's rights."""
    folder = Path(tempfile.mkdtemp())
    (folder / "files" / "there").mkdir(parents=True)
    for each in (folder, folder / "files", folder / "files" / "there"):
        each.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def nginx(*directives: str) -> Iterator[tuple[Path, str]]:
    """Serve a folder with nginx's own WebDAV; yield the folder and where."""
    with folder_for_all() as folder:
        port = free_port()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
            + ("user root;\n" if os.geteuid() == 0 else "")
            + f"events {{}} http {{ access_log off; {temporary} client_max_body_size 100m;\n"
            f"server {{ listen 127.0.0.1:{port}; root {folder}/files;\n"
            f"dav_methods PUT DELETE; {' '.join(directives)} }} }}\n"
        )
        command = (str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"))
        with running(folder, port, *command):
            yield folder / "files", f"127.0.0.1:{port}"


@contextmanager
def apache(scheme: str) -> Iterator[tuple[Path, str]]:
    """Serve a folder with mod_dav to user:secret; yield the folder and where."""
    with folder_for_all() as folder:
        port = free_port()
        names = (
            *("mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "dav", "dav_fs"),
            *("auth_basic", "auth_digest"),
        )
        md5 = hashlib.md5(b"user:pictures:secret", usedforsecurity=False).hexdigest()
        sha = base64.b64encode(hashlib.sha1(b"secret", usedforsecurity=False).digest()).decode()
        line = f"user:pictures:{md5}" if scheme == "Digest" else f"user:{{SHA}}{sha}"
        (folder / "users").write_text(line + "\n")
        (folder / "apache.conf").write_text(
            "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in names)
            + f"ServerRoot {folder}\nServerName localhost\nListen 127.0.0.1:{port}\n"
            f"PidFile {folder}/pid\nErrorLog {folder}/error.log\nMutex file:{folder}\n"
            f"DocumentRoot {folder}/files\nDavLockDB {folder}/files/.locks\n"
            + ("User www-data\nGroup www-data\n" if os.geteuid() == 0 else "")
            + f'LogFormat "%m %>s %{{Authorization}}i" sent\nCustomLog {folder}/access.log sent\n'
            f"<Directory {folder}/files>\nDav On\nAuthType {scheme}\nAuthName pictures\n"
            f"Auth{scheme}Provider file\nAuthUserFile {folder}/users\nRequire valid-user\n"
            "</Directory>\n"
        )
        command = (str(APACHE), "-D", "FOREGROUND", "-f", str(folder / "apache.conf"))
        with running(folder, port, *command):
            yield folder / "files", f"127.0.0.1:{port}"


@needs_apache
@pytest.mark.parametrize("scheme", ["Digest", "Basic"])
def test_apache_gives_and_takes_pictures_with_a_password(scheme: str) -> None:
    """It is asked without first; afterwards Basic goes along, and Digest never shows it."""
    with apache(scheme) as (files, where):
        base = f"http://user:secret@{where}/there"

        async def run() -> None:
            async with Transfers(OPEN) as transfers:
                for number in range(2):
                    destination = Destination(f"{base}/{number}.png")
                    await transfers.upload(destination, BODY, content_type="image/png")
                    async with transfers.fetch(f"{base}/{number}.png") as download:
                        assert await download.body() == BODY

        asyncio.run(run())
        assert (files / "there" / "1.png").read_bytes() == BODY
        lines = (files.parent / "access.log").read_text().splitlines()
    sent = [line.split()[2] for line in lines]
    assert set(sent) == {"-", scheme}
    assert sent.count("-") == (4 if scheme == "Digest" else 1)


@needs_apache
@pytest.mark.parametrize("scheme", ["Digest", "Basic"])
def test_apache_refuses_a_wrong_password(scheme: str) -> None:
    """Its 401 is final, at either end."""
    with apache(scheme) as (_, where):
        with pytest.raises(SourceUnreachable, match="401 Unauthorized") as fetching:
            fetch(f"http://user:wrong@{where}/there/a.png")
        with pytest.raises(UploadFailed, match="401 Unauthorized") as uploading:
            upload(Destination(f"http://user:wrong@{where}/there/a.png"), BODY)
    assert not fetching.value.retryable
    assert not uploading.value.retryable


@needs_apache
def test_apache_without_the_folder_is_explained() -> None:
    """It says 409, in words, and that does not pass."""
    with (
        apache("Basic") as (_, where),
        pytest.raises(UploadFailed, match=r"409 Conflict.*the folder does not exist") as caught,
    ):
        upload(Destination(f"http://user:secret@{where}/missing/a.png"), BODY)
    assert not caught.value.retryable


@needs_nginx
@pytest.mark.parametrize("folder", ["there", "missing/folder"])
def test_nginx_takes_pictures(folder: str) -> None:
    """With `create_full_put_path` it makes the folder itself."""
    with nginx("create_full_put_path on;") as (files, where):
        upload(Destination(f"http://{where}/{folder}/a.png"), BODY)
        assert (files / folder / "a.png").read_bytes() == BODY


@needs_nginx
def test_nginx_without_the_folder_is_explained() -> None:
    """Its 500 would read as if the server were broken; that it is missing does not pass."""
    with (
        nginx() as (_, where),
        pytest.raises(UploadFailed, match=r"the folder does not exist.*create_full_put_path") as no,
    ):
        upload(Destination(f"http://{where}/missing/a.png"), BODY)
    assert not no.value.retryable


@needs_nginx
def test_nginx_that_is_broken_is_tried_again() -> None:
    """The same 500, here for a name that is too long, with the folder in its place."""
    with nginx() as (_, where), pytest.raises(UploadFailed, match="500") as caught:
        upload(Destination(f"http://{where}/there/{300 * 'a'}.png"), BODY)
    assert caught.value.retryable
