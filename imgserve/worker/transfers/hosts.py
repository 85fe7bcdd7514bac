"""Which host names may be named: a pure function over the operator's patterns.

Names are an operator's convenience: what a name resolves to is judged by policy.py all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class HostRules:
    """Patterns in which `*` stands for any characters; `deny` wins, an empty `allow` takes all."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@lru_cache(maxsize=4096)  # each request asks, and hosts are few
def judge_host(host: str, rules: HostRules) -> str:
    """Say why a host may not be named.

    Args:
        host: as `Target` has it: lower case, IDNA, nothing percent-encoded.
        rules: the operator's patterns.

    Returns:
        One clause that names the host and the rule, or "" when it may be named.
    """
    name = host.rstrip(".")  # a trailing dot names the same host (RFC 1034, 3.1)
    if denied := _matching(name, rules.deny):
        return f"the host {host} is denied by --deny-host {denied}"
    if rules.allow and not _matching(name, rules.allow):
        return f"the host {host} is none of --allow-host {', '.join(rules.allow)}"
    return ""


def _matching(name: str, patterns: Iterable[str]) -> str:
    return next((pattern for pattern in patterns if _expression(pattern).fullmatch(name)), "")


@lru_cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))))
