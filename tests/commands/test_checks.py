"""What `imgserve start` warns of: an open port, and what jobs may reach through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imgserve.commands.checks import warning
from imgserve.config import Settings

OPEN = "jobs may reach private networks, which --deny-private closes"


def settings_of(folder: Path, **changes: Any) -> Settings:
    """Settings with a state folder of their own."""
    return Settings(state=folder, **changes)


@pytest.mark.parametrize("has_tokens", [False, True])
@pytest.mark.parametrize("has_tls", [False, True])
def test_warning_says_whether_private_networks_are_open(
    tmp_path: Path, *, has_tokens: bool, has_tls: bool
) -> None:
    """However well the port itself is kept: who may submit may reach them."""
    if has_tokens:
        (tmp_path / "tokens.json").write_text("{}")
    tls = {"tls_cert": tmp_path / "c", "tls_key": tmp_path / "k"} if has_tls else {}
    is_safe = has_tokens and has_tls
    for changes, said in (
        ({}, OPEN),
        ({"deny_private": True}, ""),
        ({"deny_private": True, "allow_network": "10.1.0.0/16"}, "jobs may reach 10.1.0.0/16"),
    ):
        text = warning("192.0.2.1", settings_of(tmp_path, **tls, **changes))
        assert said in text
        assert (OPEN in text) == (said == OPEN)
        assert ("HTTP listens on 192.0.2.1" in text) != is_safe
        assert text.startswith("warning: ") or (is_safe and not said and not text)


def test_nothing_is_said_of_a_port_that_nobody_else_reaches(tmp_path: Path) -> None:
    """A loopback address keeps it private."""
    assert warning("127.0.0.1", settings_of(tmp_path)) == ""
