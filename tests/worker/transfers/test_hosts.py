"""Host names by the operator's patterns: what is compared, and that every hop is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgserve.config import load_settings
from imgserve.errors import ConfigError, DestinationForbidden, SourceForbidden
from imgserve.request import Destination
from imgserve.worker.transfers.hosts import HostRules, judge_host
from imgserve.worker.transfers.urls import parse_target
from tests.support.http_server import HttpServer, Reply
from tests.worker.transfers.running import OPEN, fetch, upload

EXAMPLE = HostRules(allow=("*.example.com", "example.com"), deny=("secret.example.com",))


@pytest.mark.parametrize(
    "host", ["a.example.com", "a.b.example.com", "example.com", "example.com."]
)
def test_allowed_hosts_may_be_named(host: str) -> None:
    """A star stands for any number of labels, and a trailing dot changes nothing."""
    assert judge_host(host, EXAMPLE) == ""


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ("secret.example.com", "--deny-host secret.example.com"),
        ("secret.example.com.", "--deny-host secret.example.com"),
        ("badexample.com", "--allow-host"),
        ("example.com.evil.org", "--allow-host"),
        ("2130706433", "--allow-host"),
        ("[::1]", "--allow-host"),
    ],
)
def test_other_hosts_may_not(host: str, rule: str) -> None:
    """What no pattern allows, or one denies, is refused with the rule's name."""
    assert rule in judge_host(host, EXAMPLE)


@pytest.mark.parametrize(
    "spelling",
    ["SECRET.example.com", "secret%2eexample.com", "secret.ex%41mple.com", "ｓecret。example.com"],
)
def test_no_spelling_gets_around_a_denied_host(spelling: str) -> None:
    """Hosts are compared as they are connected to: lower case, decoded, IDNA."""
    target = parse_target(f"http://{spelling}/a.png")
    assert "--deny-host" in judge_host(target.host, EXAMPLE)
    assert target.url == "http://secret.example.com/a.png"


def test_a_denied_host_is_not_connected_to(server: HttpServer) -> None:
    """Sources and destinations of every scheme are judged."""
    rules = replace(OPEN, deny_hosts=("local*",))
    for scheme in ("http", "ftp"):
        with pytest.raises(SourceForbidden, match="--deny-host local"):
            fetch(f"{scheme}://LOCALHOST:{server.port}/a.png", rules)
        with pytest.raises(DestinationForbidden, match="--deny-host local"):
            upload(Destination(f"{scheme}://localhost:{server.port}/a.png"), b"x", rules)
    assert server.connections == 0


def test_a_redirect_to_a_denied_host_is_refused(server: HttpServer) -> None:
    """Each hop is judged, not only what the client named."""
    server.script["/a.png"] = [Reply(302, {"Location": server.url("/b.png", host="localhost")})]
    server.files["/b.png"] = b"x"
    assert fetch(server.url("/a.png")) == b"x"
    with pytest.raises(SourceForbidden, match="localhost is none of --allow-host"):
        fetch(server.url("/a.png"), replace(OPEN, allow_hosts=("127.0.0.*",)))
    assert [request.path for request in server.requests] == ["/a.png", "/b.png", "/a.png"]


def test_a_form_of_a_denied_host_is_refused(server: HttpServer) -> None:
    """The action of an upload form is judged like a destination."""
    server.upload_page("/page", server.url("/up", host="localhost"), "f")
    form = Destination(server.url("/page"), "POST", "f", "a.png")
    with pytest.raises(DestinationForbidden, match="--allow-host"):
        upload(form, b"x", replace(OPEN, allow_hosts=("127.0.0.1",)))
    assert not server.posted


def test_patterns_are_checked_by_the_settings() -> None:
    """A pattern is brought to lower case; what can match no host is refused."""
    settings = load_settings({"allow_host": "*.Example.com,other.org."})
    assert settings.allow_host == ("*.example.com", "other.org")
    with pytest.raises(ConfigError, match="deny_host"):
        load_settings({"deny_host": "http://example.com"})
