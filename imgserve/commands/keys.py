"""`imgserve keys`: make, list, replace and revoke the keys of the ZeroMQ sockets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from imgserve.commands import checks
from imgserve.commands.exit_codes import CommandFailed, ExitCode, UsageError
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.parser import Command
from imgserve.config import Settings
from imgserve.protocol.keys import PeerKey, Role, ServerKey, checked_name, own_name

DESCRIPTION: Final = """\
Make and revoke the keys of the ZeroMQ sockets. A broker whose state folder has keys talks only to
peers with a permitted key: submitters (clients, gateways) may submit, workers may work, watchers
may listen.

  init            make the broker's key, and one of each role for this machine; then restart
  new ROLE NAME   make a key, permit it, and say which secret file to move to the peer
  rotate NAME     replace a key; the former one is turned out. `rotate server`: the broker's own
  list            print role, name and public key of everyone permitted
  revoke NAME     permit a key no longer; who is connected with it is turned out

A running broker notices within a second or two; after `init` and `rotate server` restart it.

examples:
  imgserve keys init
  imgserve keys new worker node7     then move keys/node7.key there: imgserve worker --key node7.key
  imgserve keys revoke node7"""

SERVER: Final = "server"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action, its operands and the setting that says which service."""
    parser.add_argument("action", choices=sorted(ACTIONS), help="what to do")
    parser.add_argument("operands", nargs="*", metavar="[ROLE] [NAME]", help="as above")
    add_settings(parser, ["state"])


def run(namespace: argparse.Namespace) -> int:
    """Do it.

    Raises: CommandFailed when it cannot be done; ConfigError when a key file is not one.
    """
    action, operands = ACTIONS[namespace.action]
    if len(namespace.operands) != len(operands):
        wanted = " ".join((namespace.action, *operands))
        raise UsageError(f"this is `imgserve keys {wanted}`; see imgserve keys --help")
    settings = settings_from(namespace)
    try:
        action(settings, *namespace.operands)
    except OSError as exc:
        raise CommandFailed(f"{exc.filename}: {exc.strerror}", ExitCode.CANNOT_CREATE) from exc
    return ExitCode.OK


def _init(settings: Settings) -> None:
    folder = _folder(settings)
    if folder.exists():
        raise CommandFailed(f"{folder} is there already; remove it to begin anew", ExitCode.USAGE)
    checks.make_folder(settings.state_dir)
    # Made beside its place: a broker that starts meanwhile sees all of it or nothing.
    draft = folder.with_name(f".keys.{os.getpid()}")
    draft.mkdir(mode=0o700)
    server = ServerKey.make()
    server.write(draft / "server.key")
    for role in Role:
        _make(draft, role, own_name(role), server)
    draft.rename(folder)
    print(f"made keys for this machine in {folder}; they count from the broker's next start on")


def _new(settings: Settings, role: str, name: str) -> None:
    folder = _existing(settings)
    if role not in list(Role):
        raise UsageError(f"there is no role {role!r}; it is submitter, worker or watcher")
    _check_free(folder, name)
    path = _make(folder, Role(role), name, ServerKey.read(folder / "server.key"))
    print(f"permitted {name} as {role}; move {path} to it (--key FILE), with connection.json")


def _rotate(settings: Settings, name: str) -> None:
    folder = _existing(settings)
    if name == SERVER:
        _rotate_server(folder)
        return
    role, _ = _find(folder, name)
    path = _make(folder, role, name, ServerKey.read(folder / "server.key"))
    print(f"replaced the key of {role} {name}; move {path} to it")


def _rotate_server(folder: Path) -> None:
    server = ServerKey.make()
    server.write(folder / "server.key")
    for path in sorted(folder.glob("*.key")):
        if path.name != "server.key":
            key = PeerKey.read(path)
            pair = {"public": key.public, "secret": key.secret, "server": server.public}
            PeerKey(role=key.role, name=key.name, **pair).write(path)
    print(
        f"replaced the broker's key; restart it. The key files in {folder} name the new one; "
        "`imgserve keys rotate NAME` makes one for each peer whose file is not there"
    )


def _list(settings: Settings) -> None:
    folder = _existing(settings)
    for role in Role:
        for path in sorted((folder / "permitted" / role).glob("*.pub")):
            print(f"{role}\t{path.stem}\t{path.read_text().strip()}")


def _revoke(settings: Settings, name: str) -> None:
    folder = _existing(settings)
    role, path = _find(folder, name)
    path.unlink()
    (folder / f"{name}.key").unlink(missing_ok=True)
    print(f"{role} {name} is permitted no longer")


def _make(folder: Path, role: Role, name: str, server: ServerKey) -> Path:
    """Write the secret file before the permission: whoever is permitted can have its key."""
    key = PeerKey.make(role, name, server.public)
    path = folder / f"{name}.key"
    key.write(path)
    permitted = folder / "permitted" / role
    for made in (permitted.parent, permitted):
        made.mkdir(mode=0o700, exist_ok=True)
    draft = permitted / f".{name}.{os.getpid()}"
    draft.write_text(key.public + "\n")
    draft.rename(permitted / f"{name}.pub")
    return path


def _folder(settings: Settings) -> Path:
    return settings.state_dir / "keys"


def _existing(settings: Settings) -> Path:
    folder = _folder(settings)
    if not folder.is_dir():
        raise CommandFailed(f"{folder} is not there; `imgserve keys init` makes it", ExitCode.USAGE)
    return folder


def _check_free(folder: Path, name: str) -> None:
    try:
        checked_name(name)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    taken = [role for role in Role if (folder / "permitted" / role / f"{name}.pub").exists()]
    if taken or name == SERVER:
        raise UsageError(f"{name} is the name of a key already; `rotate` replaces it")


def _find(folder: Path, name: str) -> tuple[Role, Path]:
    for role in Role:
        path = folder / "permitted" / role / f"{name}.pub"
        if "/" not in name and path.exists():
            return role, path
    raise CommandFailed(
        f"nobody named {name} is permitted; `imgserve keys list` prints who is", ExitCode.NO_INPUT
    )


ACTIONS: Final[dict[str, tuple[Callable[..., None], tuple[str, ...]]]] = {
    "init": (_init, ()),
    "new": (_new, ("ROLE", "NAME")),
    "rotate": (_rotate, ("NAME",)),
    "list": (_list, ()),
    "revoke": (_revoke, ("NAME",)),
}

COMMAND: Final = Command(
    "keys",
    "make and revoke the keys of the ZeroMQ sockets",
    DESCRIPTION,
    add_arguments,
    run,
    "init|new|rotate|list|revoke [ROLE] [NAME]",
)
