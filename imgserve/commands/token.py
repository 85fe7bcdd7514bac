"""`imgserve token`: make, list and revoke bearer tokens of the HTTP interface."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from imgserve.commands import checks
from imgserve.commands.exit_codes import CommandFailed, ExitCode, UsageError
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.parser import Command

DESCRIPTION: Final = """\
Make and revoke bearer tokens. With a token file, every HTTP request but /healthz and /readyz needs
`Authorization: Bearer TOKEN`. The file (--token-file, else tokens.json in the state folder) keeps
hashes only: a token is printed once. A running service notices within a second; from its first
token on it asks every request for one, until its next start without the file.

A token sees and cancels its own jobs alone; an operator's sees and cancels everyone's.

  new NAME       make a token and print it
  list           print names and limits
  revoke NAME    refuse it from now on

examples:
  imgserve token new shop --requests-per-s 20 --destination https://cdn.example.com/shop/
  imgserve token revoke shop"""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_BYTES: Final = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action, its name, the token's limits and the settings that say which file."""
    parser.add_argument("action", choices=sorted(ACTIONS), help="what to do")
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="whose; not for list")
    parser.add_argument(
        "--requests-per-s", type=float, metavar="N", help="requests a second (default: any)"
    )
    parser.add_argument(
        "--burst", type=float, metavar="N", help="requests at once (default: a second's worth)"
    )
    parser.add_argument(
        "--destination",
        action="append",
        metavar="PATTERN",
        help="where results may go, as scheme://host/path: the path's beginning, and *.host for "
        "all beneath (repeatable; default: anywhere)",
    )
    parser.add_argument(
        "--source",
        action="append",
        metavar="PATTERN",
        help="what jobs may fetch, in the same form (repeatable; default: anything)",
    )
    parser.add_argument(
        "--operator", action="store_true", default=None, help="sees and cancels every job"
    )
    add_settings(parser, ["state", "token_file"])


def run(namespace: argparse.Namespace) -> int:
    """Do it.

    Raises: CommandFailed when it cannot be done.
    """
    settings = settings_from(namespace)
    if (namespace.action == "list") == bool(namespace.name):
        needs = "takes no NAME" if namespace.name else "needs a NAME"
        raise UsageError(f"imgserve token {namespace.action} {needs}")
    path = settings.tokens_path
    if settings.token_file is None and namespace.action == "new":
        checks.make_folder(settings.state_dir)
    try:
        ACTIONS[namespace.action](path, namespace)
    except OSError as exc:
        raise CommandFailed(f"{path}: {exc.strerror}", ExitCode.CANNOT_CREATE) from exc
    return ExitCode.OK


def _new(path: Path, namespace: argparse.Namespace) -> None:
    entries = _read(path) if path.exists() else {}
    if not _NAME.match(namespace.name):
        raise UsageError(f"{namespace.name!r} is not 1 to 64 of A-Z a-z 0-9 _ . -")
    if namespace.name in entries:
        raise UsageError(f"there is a token {namespace.name} already; revoke it first")
    token = secrets.token_urlsafe(_BYTES)
    entry: dict[str, Any] = {"sha256": hashlib.sha256(token.encode()).hexdigest()}
    limits = {
        "requests_per_s": namespace.requests_per_s,
        "burst": namespace.burst,
        "destinations": namespace.destination,
        "sources": namespace.source,
        "operator": namespace.operator,
    }
    entry |= {name: value for name, value in limits.items() if value is not None}
    _check(path, {namespace.name: entry})
    _write(path, entries | {namespace.name: entry})
    print(token)


def _list(path: Path, namespace: argparse.Namespace) -> None:
    del namespace
    for name, entry in _read(path).items():
        limits = {key: value for key, value in entry.items() if key != "sha256"}
        print(f"{name}\t{json.dumps(limits)}")


def _revoke(path: Path, namespace: argparse.Namespace) -> None:
    entries = _read(path)
    if namespace.name not in entries:
        raise CommandFailed(f"{path} has no token {namespace.name}", ExitCode.NO_INPUT)
    del entries[namespace.name]  # the file stays, even empty: then nobody gets in
    _write(path, entries)
    print(f"revoked {namespace.name}")


def _read(path: Path) -> dict[str, Any]:
    """Read the file, held to what the gateway would take, so that nothing broken is made worse."""
    try:
        entries = json.loads(path.read_text())
    except ValueError as exc:
        raise CommandFailed(f"{path} is not JSON", ExitCode.CONFIG) from exc
    _check(path, entries)
    return dict(entries)


def _check(path: Path, entries: object) -> None:
    """Raise ConfigError when the gateway would refuse these entries."""
    from imgserve.gateway.tokens import tokens_of  # noqa: PLC0415 (only this command needs it)

    tokens_of(path, entries)


def _write(path: Path, entries: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(entries, file, indent=2)
        file.write("\n")
    draft.rename(path)


ACTIONS: Final[dict[str, Callable[[Path, argparse.Namespace], None]]] = {
    "new": _new,
    "list": _list,
    "revoke": _revoke,
}

COMMAND: Final = Command(
    "token",
    "make and revoke bearer tokens for HTTP",
    DESCRIPTION,
    add_arguments,
    run,
    "new|list|revoke [NAME]",
)
