"""URLs: encoding, credentials, and what is left of them in logs."""

from __future__ import annotations

import pytest

from imgserve.worker.transfers import redact
from imgserve.worker.transfers.trouble import TransferFailed
from imgserve.worker.transfers.urls import parse_target


@pytest.mark.parametrize(
    ("url", "encoded"),
    [
        ("http://h/a b.png", "http://h/a%20b.png"),
        ("http://h/é.png?q=é b", "http://h/%C3%A9.png?q=%C3%A9%20b"),
        ("http://h/%C3%A9%20.png", "http://h/%C3%A9%20.png"),
        ("http://h/100%.png", "http://h/100%25.png"),
        ("http://h/%zz%41", "http://h/%25zz%41"),
        ("http://h:81/a.png#part", "http://h:81/a.png"),
        ("HTTP://H/A.png", "http://h/A.png"),
        ("http://bücher.example/a", "http://xn--bcher-kva.example/a"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("http://u:p@h/a", "http://h/a"),
        ("ftp://h/a?b.png", "ftp://h/a%3Fb.png"),
        ("file:///a b", "file:///a%20b"),
    ],
)
def test_what_must_be_encoded_is_encoded_once(url: str, encoded: str) -> None:
    """A URL for the wire is ASCII, keeps what was encoded already, and holds no credentials."""
    assert parse_target(url).url == encoded


def test_credentials_are_decoded_and_kept_apart() -> None:
    """User name and password are percent-decoded as UTF-8, and no repr shows them."""
    target = parse_target("ftp://%C3%BCser:p%40ss%3Aw%2Frd@h/a")
    assert (target.username, target.password) == ("üser", "p@ss:w/rd")
    assert "ser" not in repr(target)
    assert "p@ss" not in repr(target)


@pytest.mark.parametrize(
    "url",
    ["http://h:99999/", "http://h:x/", "http://[::1/", "//h/a", "ftp://u%0d%0aDELE:p@h/a", ""],
)
def test_a_malformed_url_is_refused(url: str) -> None:
    """What cannot be taken apart, or smuggles control characters, is no URL."""
    with pytest.raises(TransferFailed):
        parse_target(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:secret@h:81/a.png?token=secret#secret", "http://h:81/a.png"),
        ("ftp://user:se@cret@h/a.png", "ftp://h/a.png"),
        ("https://secret@[::1]:8/a", "https://[::1]:8/a"),
        ("file:///data/a.png", "file:///data/a.png"),
        ("http://u:secret@h/page.html?secret:100-a.png", "http://h/page.html"),
        ("http:/u:secret@h/a", "(malformed URL)"),
        ("user:secret@h/a", "(malformed URL)"),
        ("http://u:secret@h:port/a", "(malformed URL)"),
        ("http://[u:secret", "(malformed URL)"),
        ("", "(malformed URL)"),
    ],
)
def test_redacted_urls_hold_no_secret(url: str, shown: str) -> None:
    """Neither user info nor query nor fragment survives, whatever the URL looks like."""
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("faß.de", "xn--fa-hia.de"),
        ("FASS.de", "fass.de"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("نامه\u200cای.com", "xn--mgba3gch31f060k.com"),
        ("Bücher。example", "xn--bcher-kva.example"),
        ("xn--fa-hia.de", "xn--fa-hia.de"),
        ("i❤.ws", "xn--i-7iq.ws"),
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        ("①②⑦.0.0.1", "127.0.0.1"),
    ],
)
def test_host_is_asked_for_as_browsers_ask(host: str, asked: str) -> None:
    """UTS 46, not transitional: IDNA 2003 would ask another owner's host."""
    assert parse_target(f"http://{host}/a.png").host == asked
