"""Which addresses may be connected to: a pure function over a table of networks.

The address is judged where the connection is made, never from a URL's text: a URL can spell an
address in many ways, and a name can resolve to any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Not ipaddress's is_reserved and friends: their meaning changes between Python versions.
# Source: the IANA special-purpose address registries (RFC 6890). Private networks are absent on
# purpose: internal storage is the common case.
_DENIED_BY_DEFAULT: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "an unspecified"),
        ("100.64.0.0/10", "a carrier-grade NAT"),
        ("127.0.0.0/8", "a loopback"),
        ("169.254.0.0/16", "a link-local"),
        ("192.0.0.0/24", "a reserved"),
        ("192.0.2.0/24", "a reserved"),
        ("192.88.99.0/24", "a reserved"),
        ("198.18.0.0/15", "a reserved"),
        ("198.51.100.0/24", "a reserved"),
        ("203.0.113.0/24", "a reserved"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("fe80::/10", "a link-local"),
        ("ff00::/8", "a multicast"),
        ("2001::/23", "a reserved"),
        ("2001:db8::/32", "a reserved"),
        ("3fff::/20", "a reserved"),
    )
)
# Services of the host itself, inside ranges that are otherwise open: credentials and start-up
# scripts of the machine. 169.254.169.254 and its neighbours are link-local, above.
_HOST_SERVICES: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        # AWS, "Use the Instance Metadata Service": metadata, DNS and time over IPv6.
        ("fd00:ec2::254/128", "a cloud metadata"),
        ("fd00:ec2::253/128", "a cloud resolver"),
        ("fd00:ec2::123/128", "a cloud time"),
        # AWS, "Amazon ECS task metadata endpoint" and "EKS Pod Identity": credentials over IPv6.
        ("fd00:ec2::23/128", "a cloud credentials"),
        # Google Cloud, "About VM metadata": IPv6-only instances.
        ("fd20:ce::254/128", "a cloud metadata"),
        # Microsoft, "What is IP address 168.63.129.16?": WireServer, which holds secrets.
        ("168.63.129.16/32", "a cloud host"),
        # Scaleway, "Instance metadata API": over IPv6.
        ("fd00:42::42/128", "a cloud metadata"),
    )
)
# RFC 1918 and RFC 4193; open unless the operator closes all of them.
_PRIVATE: tuple[Network, ...] = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
# All other IPv6 space is reserved: not yet given out, or local to a translator.
_IPV6_IN_USE = (ip_network("2000::/3"), ip_network("fc00::/7"))

_COMPATIBLE = ip_network("::/96")
_MAPPED = ip_network("::ffff:0:0/96")
_TRANSLATED = ip_network("::ffff:0:0:0/96")  # RFC 2765
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052
_6TO4 = ip_network("2002::/16")  # RFC 3056
_TEREDO = ip_network("2001::/32")  # RFC 4380
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214: the upper half of the interface id


@dataclass(frozen=True, slots=True)
class AddressRules:
    """The operator's networks: `allow` opens over the defaults, `deny` closes over everything."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    private: bool = True

    @classmethod
    def parse(
        cls, allow: Iterable[str], deny: Iterable[str], *, private: bool = True
    ) -> AddressRules:
        """Read networks in CIDR notation.

        Args:
            allow: opened over the default denials.
            deny: closed over everything.
            private: whether private networks that no entry names are open.

        Raises:
            ValueError: a text is not a network.
        """
        return cls(tuple(map(ip_network, allow)), tuple(map(ip_network, deny)), private)


@lru_cache(maxsize=4096)  # each connection asks, and peers are few
def judge(address: str, rules: AddressRules) -> str:
    """Say why an address may not be connected to.

    Args:
        address: an IPv4 or IPv6 address as text, a zone (`%eth0`) allowed.
        rules: the operator's own networks.

    Returns:
        One clause that names the address and the rule, or "" when it may be connected to.
    """
    try:
        outer = ip_address(address.partition("%")[0])
    except ValueError:
        return "the peer has no IP address"
    judged = tuple(_embedded(outer)) or (outer,)
    if _is_isatap(outer):
        judged += (outer,)
    for reading in (*judged, outer):
        for network in rules.deny:
            if reading in network:
                return f"{outer} is in the denied network {network}; --allow-network cannot open it"
    for reading in judged:
        if kind := _denied_kind(reading, rules):
            inside = "" if reading == outer else f" holding {reading},"
            return (
                f"{outer} is{inside} {kind} address, denied by default; "
                "--allow-network opens a network"
            )
    return ""


def _denied_kind(address: Address, rules: AddressRules) -> str:
    if any(address in network for network in rules.allow):
        return ""
    if not rules.private and any(address in network for network in _PRIVATE):
        return "a private"
    for network, kind in _DENIED_BY_DEFAULT + _HOST_SERVICES:
        if address in network:
            return kind
    if address.version == 6 and not any(address in network for network in _IPV6_IN_USE):
        return "a reserved"
    return ""


def _embedded(address: Address) -> Iterator[Address]:
    """Yield the IPv4 addresses that packets to an IPv6 address may end at."""
    if isinstance(address, IPv4Address):
        return
    bits = int(address)
    at_the_end = any(address in network for network in (_MAPPED, _TRANSLATED, _NAT64))
    # :: and ::1 are IPv6 addresses of their own.
    if at_the_end or _is_isatap(address) or (address in _COMPATIBLE and bits > 1):
        yield IPv4Address(bits & 0xFFFFFFFF)
    if address in _6TO4:
        yield IPv4Address(bits >> 80 & 0xFFFFFFFF)
    if address in _TEREDO:
        yield IPv4Address(bits >> 64 & 0xFFFFFFFF)  # the server
        yield IPv4Address(bits & 0xFFFFFFFF ^ 0xFFFFFFFF)  # the client, stored inverted


def _is_isatap(address: Address) -> bool:
    return address.version == 6 and int(address) >> 32 & 0xFFFFFFFF in _ISATAP
