"""Keys of the ZeroMQ sockets: who holds which, and the files that they are in.

A key pair is CURVE's (RFC 26), written in Z85 (RFC 32). The broker has one; every peer has one,
made for one role. The secret files are JSON, mode 0600; a file that others can read is refused.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import zmq

from imgserve.errors import ConfigError

_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\Z")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Role(StrEnum):
    """What a peer is."""

    SUBMITTER = "submitter"
    WORKER = "worker"
    WATCHER = "watcher"


class Domain(StrEnum):
    """A kind of socket that the broker binds; its name is the socket's ZAP domain (RFC 27)."""

    JOBS = "jobs"
    REPORTS = "reports"
    EVENTS = "events"
    LANE = "lane"


REACH: Final[dict[Domain, frozenset[Role]]] = {
    Domain.JOBS: frozenset({Role.SUBMITTER}),
    Domain.REPORTS: frozenset({Role.WORKER}),
    Domain.EVENTS: frozenset(Role),
    Domain.LANE: frozenset({Role.WORKER}),
}
"""Which roles may connect to which socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKey:
    """The broker's own key pair."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """Return a fresh one."""
        public, secret = zmq.curve_keypair()
        return cls(public=public.decode(), secret=secret.decode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read its file.

        Raises: ConfigError when it cannot be used as it is.
        """
        document = _read_secret(path)
        return cls(**_keys_of(path, document, "public", "secret"))

    def write(self, path: Path) -> None:
        """Write its file."""
        write_secret(path, {"public": self.public, "secret": self.secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerKey:
    """A peer's key pair, and the only broker that it is for.

    Args:
        role: what the broker permits it as.
        name: whose it is, for people.
        public, secret: its own pair.
        server: the broker's public key: a broker that cannot prove it is none.
    """

    role: Role
    name: str
    public: str
    secret: str = field(repr=False)
    server: str

    @classmethod
    def make(cls, role: Role, name: str, server: str) -> Self:
        """Return a fresh one."""
        public, secret = zmq.curve_keypair()
        pair = {"public": public.decode(), "secret": secret.decode()}
        return cls(role=role, name=name, server=server, **pair)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read its file.

        Raises: ConfigError when it cannot be used as it is.
        """
        document = _read_secret(path)
        keys = _keys_of(path, document, "public", "secret", "server")
        try:
            return cls(role=Role(document["role"]), name=checked_name(document["name"]), **keys)
        except (KeyError, ValueError, TypeError) as exc:
            raise ConfigError(f"{path} is not a key file of imgserve") from exc

    def write(self, path: Path) -> None:
        """Write its file."""
        pair = {"public": self.public, "secret": self.secret, "server": self.server}
        write_secret(path, {"role": self.role, "name": self.name, **pair})


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a peer has its key.

    Args:
        file: the key that it was told to use, if it was.
        folders: state folders where the key of this machine's own peers may lie.
    """

    file: Path | None = None
    folders: tuple[Path, ...] = ()

    def find(self, role: Role, server: str) -> PeerKey | None:
        """Return the key to reach a broker with; None where neither side has any.

        Args:
            role: what this peer is.
            server: the public key in the connection file, empty for a broker without keys.

        Raises: ConfigError when only one side has keys, or the key is for another role or broker.
        """
        if self.file is None and not server:
            return None
        key = PeerKey.read(self.file or self._own(role))
        if key.role is not role:
            raise ConfigError(f"the key {key.name} is a {key.role}'s; a {role}'s is needed here")
        if key.server != server:
            theirs = "has another key" if server else "has none"
            raise ConfigError(f"the key {key.name} is for another broker: this one {theirs}")
        return key

    def _own(self, role: Role) -> Path:
        paths = [folder / "keys" / f"{own_name(role)}.key" for folder in self.folders]
        for path in paths:
            if path.exists():
                return path
        looked = ", ".join(map(str, paths)) or "nowhere"
        raise ConfigError(f"the broker asks for a {role}'s key; --key names one (looked: {looked})")


def own_name(role: Role) -> str:
    """Return the name of the key that this machine's own peers use."""
    return f"local-{role}"


def checked_name(name: str) -> str:
    """Return a key's name.

    Raises: ValueError when it could not be a file's.
    """
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is not 1 to 64 of A-Z a-z 0-9 _ . -, or begins with . or -")
    return name


def is_public(text: str) -> bool:
    """Tell whether a text can be a public key in Z85."""
    return _Z85.match(text) is not None


def write_secret(path: Path, document: dict[str, str]) -> None:
    """Write a file for its owner alone, whole or not at all, and never through a symlink."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
    draft.rename(path)


def _read_secret(path: Path) -> dict[str, Any]:
    try:
        with path.open() as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ConfigError(f"{path} is open to others than its owner; chmod 600 {path}")
            document = json.load(file)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(f"{path} is not a key file of imgserve") from exc
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a key file of imgserve")
    return document


def _keys_of(path: Path, document: dict[str, Any], *names: str) -> dict[str, str]:
    keys = {name: document.get(name) for name in names}
    if not all(isinstance(key, str) and is_public(key) for key in keys.values()):
        raise ConfigError(f"{path} is not a key file of imgserve")
    return keys  # type: ignore[return-value]
