"""Which addresses are judged how: tables."""

from __future__ import annotations

import pytest

from imgserve.worker.transfers.policy import AddressRules, judge

NONE = AddressRules()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0.0.0.0", "unspecified"),  # noqa: S104 (judged, not bound)
        ("0.1.2.3", "unspecified"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.127.255.255", "carrier-grade NAT"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fd00:ec2::254", "cloud metadata"),
        ("fd00:ec2::253", "cloud resolver"),
        ("fd00:ec2::123", "cloud time"),
        ("fd00:ec2::23", "cloud credentials"),
        ("fd20:ce::254", "cloud metadata"),
        ("fd00:42::42", "cloud metadata"),
        ("168.63.129.16", "cloud host"),
        ("::ffff:168.63.129.16", "cloud host"),
        ("192.0.2.1", "reserved"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "reserved"),
        ("ff02::1", "multicast"),
        ("100::1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("4000::1", "reserved"),
        ("64:ff9b:1::7f00:1", "reserved"),
    ],
)
def test_special_addresses_are_denied_by_default(address: str, kind: str) -> None:
    """An address that is no ordinary host's is refused, and the text says why and what helps."""
    reason = judge(address, NONE)
    assert kind in reason
    assert "--allow-network" in reason


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "100.63.255.255",
        "100.128.0.0",
        "128.0.0.0",
        "126.255.255.255",
        "223.255.255.255",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "fd00::1",
        "2606:4700::1111",
        "2a00:1450::1",
    ],
)
def test_public_and_private_addresses_are_permitted(address: str) -> None:
    """Ordinary hosts may be reached, private networks among them."""
    assert judge(address, NONE) == ""


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.255.255"),
        *("fc00::1", "fd12:3456::1", "fec0::1", "fe80::1%eth0", "169.254.1.1", "100.64.0.1"),
        *("127.0.0.1", "::1", "0.0.0.1", "192.0.0.1", "198.18.0.1", "240.0.0.1"),
        *("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:c0a8:101::", "2a00:1450::5efe:ac10:1"),
    ],
)
def test_everything_private_can_be_closed(address: str) -> None:
    """In one go, in every spelling; a network that is allowed by name stays open."""
    closed = AddressRules.parse([], [], private=False)
    assert judge(address, closed)
    allowed = AddressRules.parse(["0.0.0.0/0", "::/0"], [], private=False)
    assert judge(address, allowed) == ""
    for public in ("172.15.0.1", "172.32.0.1", "11.0.0.1", "2a00:1450::1", "2606:4700::1111"):
        assert judge(public, closed) == ""


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:127.0.0.1",  # mapped
        "::127.0.0.1",  # compatible
        "::ffff:0:127.0.0.1",  # translated
        "2002:7f00:1::",  # 6to4
        "64:ff9b::7f00:1",  # NAT64
        "2001:0:7f00:1::f7f7:f7f7",  # Teredo, the server
        "2001:0:102:304::80ff:fffe",  # Teredo, the client inverted
        "2a00:1450::5efe:7f00:1",  # ISATAP
        "2a00:1450::200:5efe:7f00:1",  # ISATAP, globally unique
    ],
)
def test_ipv4_inside_ipv6_is_unwrapped(address: str) -> None:
    """A loopback address in the clothes of IPv6 is still loopback."""
    assert "127.0.0.1 is" in judge("127.0.0.1", NONE)
    assert "holding 127.0.0.1, a loopback" in judge(address, NONE)
    assert judge(address, AddressRules.parse(["127.0.0.1"], [])) == ""


@pytest.mark.parametrize(
    "address", ["::ffff:8.8.8.8", "2002:808:808::", "64:ff9b::808:808", "2001:0:808:808::f7f7:f7f7"]
)
def test_ordinary_ipv4_inside_ipv6_is_permitted(address: str) -> None:
    """The wrapping itself is no reason to refuse."""
    assert judge(address, NONE) == ""


def test_isatap_under_link_local_stays_link_local() -> None:
    """An ordinary IPv4 address inside does not open the prefix that it hangs under."""
    assert "link-local" in judge("fe80::5efe:808:808", NONE)


def test_allow_opens_a_range_and_no_more() -> None:
    """An allowed network wins over the defaults up to its last address."""
    rules = AddressRules.parse(["127.0.0.0/31"], [])
    assert judge("127.0.0.1", rules) == ""
    assert judge("127.0.0.2", rules) != ""


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
def test_deny_wins_over_allow(address: str) -> None:
    """A denied network is closed whatever else opens it."""
    rules = AddressRules.parse(["10.0.0.0/8"], ["10.1.0.0/16"])
    assert "10.1.0.0/16" in judge(address, rules)
    assert judge("10.2.0.1", rules) == ""


@pytest.mark.parametrize("text", ["", "/run/socket", "localhost", "1.2.3"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """A peer that is no IP address, such as a Unix socket, is refused."""
    assert judge(text, NONE) != ""
