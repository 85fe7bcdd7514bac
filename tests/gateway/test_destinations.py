"""Patterns of destinations: part by part, whatever the spelling."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserve.gateway.destinations import Pattern
from imgserve.urls import parse_target


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("https://cdn.net/out/", "https://cdn.net/out/a.png"),
        ("https://cdn.net/out", "https://cdn.net/out"),
        ("https://cdn.net", "https://cdn.net/any/where.png?x=1"),
        ("https://cdn.net:443/", "https://CDN.net/a"),
        ("https://cdn.net/", "https://user:pw@cdn.net:443/a"),
        ("https://*.cdn.net/", "https://a.b.cdn.net/x"),
        ("ftp://*/in/", "ftp://anything.org/in/x.png"),
        ("http://[::1]:8080/", "http://[::1]:8080/x"),
        ("file:///srv/out", "file:///srv/out/x.png"),
        ("file:///srv/out", "file://localhost/srv/out/x.png"),
        ("https://cdn.net/a b/", "https://cdn.net/a%20b/c"),
        ("https://xn--fa-hia.de/", "https://faß.de/a.png"),
    ],
)
def test_what_is_within_a_pattern_is_permitted(pattern, url):
    """Default ports, case of the host, encoding and user info make no difference."""
    assert Pattern.parse(pattern).permits(url)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("https://cdn.net/out/", "http://cdn.net/out/a"),
        ("https://fass.de/", "https://faß.de/a.png"),
        ("https://cdn.net/out/", "https://cdn.net/outer/a"),
        ("https://cdn.net/out/", "https://cdn.net/a?/out/"),
        ("https://cdn.net/out/", "https://cdn.net/a#/out/"),
        ("https://cdn.net/out/", "https://cdn.net/out/../a"),
        ("https://cdn.net/out/", "https://cdn.net/out/%2E./a"),
        ("https://cdn.net/out/", "https://cdn.net/out/%252e%252e/a"),
        ("https://cdn.net/out/", "https://cdn.net/out/..\\a"),
        ("https://cdn.net/out/", "https://cdn.net/out/..;v=1/a"),
        ("https://cdn.net/", "https://cdn.net.evil.org/"),
        ("https://cdn.net/", "https://cdn.net@evil.org/"),
        ("https://cdn.net/", "https://cdn.net:444/"),
        ("https://cdn.net/", "https://cdn.net.:443/"),
        ("https://*.cdn.net/", "https://cdn.net/"),
        ("https://*.cdn.net/", "https://evilcdn.net/"),
        ("https://*.cdn.net/", "https://evil.org%2f.cdn.net/"),
        ("https://*.cdn.net/", "https://evil.org%23.cdn.net/"),
        ("https://*.cdn.net/", "https://evil.org\\.cdn.net/"),
        ("https://cdn.net/", "https://cdn.net:port/"),
        ("ftp://ftp.net/shop/", "ftp://ftp.net/shop/x.png?/../../secret/victim.png"),
        ("ftp://ftp.net/shop/", "ftp://ftp.net/shop/?/%2e%2e/../victim.png"),
        ("ftp://ftp.net/shop/", "ftp://ftp.net/shop%2Fx.png"),
        ("ftp://ftp.net/shop/", "ftp://ftp.net/shop/x%252Fy.png"),
        ("ftp://ftp.net/shop/", "ftp://ftp.net/shop/~/x.png"),
        ("ftp://ftp.net/shop/", "ftp://ftp.net/shop/%7Eroot/x.png"),
        ("ftps://ftp.net/", "ftps://ftp.net/~root/x.png"),
        ("ftp://ftp.net/", "ftp://ftp.net//etc/x.png"),
        ("http://cdn.net/a", "http://cdn.net/a/%25252e%25252e/x.png"),
        ("http://cdn.net/a", "http://cdn.net/a/%2525252525252e/x.png"),
        ("http://cdn.net/a", "http://cdn.net/a/%c0%ae%c0%ae/x.png"),
        ("http://cdn.net/a", "http://cdn.net/a/%EF%BC%8E%EF%BC%8E/x.png"),
        ("http://cdn.net/a", "http://cdn.net/a/..%20/x.png"),
        ("http://cdn.net/a", "http://cdn.net/a/.../x.png"),
        ("file:///srv/out", "file:///srv/out/a?/../../b.png"),
        ("file:///srv/out", "file:///srv/output/a"),
        ("file:///srv/out", "file:///srv/out/../a"),
    ],
)
def test_what_only_looks_like_it_is_not(pattern, url):
    """Text is never compared with text."""
    assert not Pattern.parse(pattern).permits(url)


@pytest.mark.parametrize(
    "pattern",
    [
        "", "cdn.net/out", "gopher://cdn.net/", "https:///out", "https://c*n.net/",
        "https://cdn.net/*", "https://u:p@cdn.net/", "https://cdn.net/a?b", "https://cdn.net/a/../b",
        "file://host/a", "https://cdn.net:99999/",
    ],
)  # fmt: skip
def test_a_pattern_that_is_none_is_refused(pattern):
    """When the file is read, not when it fails to match."""
    with pytest.raises(ValueError, match=r"."):
        Pattern.parse(pattern)


def whole(pieces):
    """Paths from pieces that servers and parsers read in different ways."""
    return st.lists(st.sampled_from(pieces), max_size=8).map("".join)


PIECES = ["/", "..", ".", "?", "#", ";", "%2e", "%2f", "%5c", "\\", "%25", "a", "shop", ":", "@"]


@given(whole(PIECES), st.sampled_from(["ftp", "file"]))
def test_a_permitted_path_lies_under_the_prefix_where_the_server_looks(path, scheme):
    """The path that the worker sends, read as a server reads it, stays in the token's folder."""
    host = "ftp.net" if scheme == "ftp" else ""
    url = f"{scheme}://{host}/shop/{path}"
    if Pattern.parse(f"{scheme}://{host}/shop/").permits(url):
        seen = parse_target(url).path_bytes.decode()
        assert f"{posixpath.normpath(seen)}/".startswith("/shop/")
