"""What every transfer scheme promises: the same cases over each of them."""

from __future__ import annotations

import pytest

from imgserve.errors import SourceTooLarge, SourceUnreachable, UploadFailed
from tests.worker.transfers.peers import Peer
from tests.worker.transfers.running import fetch, upload

BODY = bytes(range(256)) * 700
WRONG = "%C3%BCser:wrong"


def test_uploaded_bytes_are_fetched_again_unchanged(peer: Peer) -> None:
    """What was uploaded is what a fetch of the same URL returns."""
    upload(peer.destination("/a.png"), BODY, peer.settings)
    assert peer.stored() == {"/a.png": BODY}
    assert fetch(peer.url("/a.png"), peer.settings) == BODY


@pytest.mark.parametrize("path", ["/ä b/ç 'd'.png", "/%C3%A4%20b/%C3%A7%20'd'.png"])
def test_spaces_and_non_ascii_letters_are_encoded_once(peer: Peer, path: str) -> None:
    """A path is the same file whether it comes percent-encoded or not."""
    upload(peer.destination(path), BODY, peer.settings)
    assert peer.stored() == {"/ä b/ç 'd'.png": BODY}
    assert fetch(peer.url(path), peer.settings) == BODY


def test_a_percent_sign_in_a_name_survives(peer: Peer) -> None:
    """%25 is decoded once, and a stray percent sign stands for itself."""
    peer.put("/100%.png", BODY)
    assert fetch(peer.url("/100%25.png"), peer.settings) == BODY
    assert fetch(peer.url("/100%.png"), peer.settings) == BODY


def test_an_empty_source_is_fetched(peer: Peer) -> None:
    """A source of no bytes is no failure of its transfer."""
    peer.put("/empty.png", b"")
    assert fetch(peer.url("/empty.png"), peer.settings) == b""


def test_a_missing_source_is_unreachable_for_good(peer: Peer) -> None:
    """A source that is not there is 201 and not worth a retry."""
    with pytest.raises(SourceUnreachable) as caught:
        fetch(peer.url("/missing.png"), peer.settings)
    assert not caught.value.retryable


def test_a_wrong_password_fails_without_telling_it(peer: Peer) -> None:
    """A refused login is no reason to retry, and its detail holds no credentials."""
    if not peer.checks_passwords:
        pytest.skip("no passwords in this scheme")
    peer.put("/a.png", BODY)
    with pytest.raises(SourceUnreachable) as fetching:
        fetch(peer.url("/a.png", userinfo=WRONG), peer.settings)
    with pytest.raises(UploadFailed) as uploading:
        upload(peer.destination("/b.png", userinfo=WRONG), BODY, peer.settings)
    for error in (fetching.value, uploading.value):
        assert not error.retryable
        assert "wrong" not in error.detail
        assert "ser" not in error.detail.replace("server", "").replace("user name", "")


def test_a_refused_connection_is_worth_a_retry(peer: Peer) -> None:
    """A port where nobody listens is 201, retryable, and the detail names it."""
    if not peer.checks_passwords:
        pytest.skip("no connections in this scheme")
    url = peer.unreachable_url("/a.png")
    with pytest.raises(
        SourceUnreachable, match=r"connection refused by 127\.0\.0\.1:\d+"
    ) as caught:
        fetch(url, peer.settings)
    assert caught.value.retryable


@pytest.mark.parametrize("over_bytes", [-1, 0])
def test_a_source_up_to_the_limit_is_fetched(peer: Peer, over_bytes: int) -> None:
    """A source of one byte under the limit, and of the limit, is fetched."""
    body = bytes(1000 + over_bytes)
    peer.put("/a.png", body)
    assert fetch(peer.url("/a.png"), peer.settings, limit_bytes=1000) == body


def test_a_source_over_the_limit_is_refused(peer: Peer) -> None:
    """A source of one byte more than the limit is 206."""
    peer.put("/a.png", bytes(1001))
    with pytest.raises(SourceTooLarge, match="1000"):
        fetch(peer.url("/a.png"), peer.settings, limit_bytes=1000)


def test_an_existing_file_is_overwritten(peer: Peer) -> None:
    """A second upload replaces the first, also where it is shorter."""
    upload(peer.destination("/x/a.png"), BODY, peer.settings)
    upload(peer.destination("/x/a.png"), b"short", peer.settings)
    assert peer.stored() == {"/x/a.png": b"short"}


def test_missing_folders_are_made(peer: Peer) -> None:
    """An upload into folders that do not exist makes them."""
    upload(peer.destination("/x/y/z/a.png"), BODY, peer.settings)
    assert peer.stored() == {"/x/y/z/a.png": BODY}


def test_a_failed_upload_leaves_nothing_temporary(peer: Peer) -> None:
    """When an upload fails at its end, no part of it stays."""
    peer.refuse_uploads()
    with pytest.raises(UploadFailed):
        upload(peer.destination("/refused/a.png"), BODY, peer.settings)
    assert peer.stored() == {}


def test_an_empty_body_is_uploaded(peer: Peer) -> None:
    """A body of no bytes makes an empty file."""
    upload(peer.destination("/a.png"), b"", peer.settings)
    assert peer.stored() == {"/a.png": b""}
