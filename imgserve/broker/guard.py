"""Who may connect to the broker's sockets: its keys, and the ZAP handler (RFC 27) that asks them.

It runs on the broker's own loop: a handler that dies takes the broker with it, and while none
answers nobody is let in (`ZAP_ENFORCE_DOMAIN`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from imgserve.config import Settings
from imgserve.errors import ConfigError
from imgserve.protocol.keys import REACH, Domain, Role, ServerKey, checked_name, is_public
from imgserve.protocol.sockets import new_socket

ENDPOINT: Final = "inproc://zeromq.zap.01"
VERSION: Final = b"1.0"
TURN_LIMIT: Final = 200
"""Handshakes answered in one turn: a flood of them must not stop the loop's other work."""

REREAD_S: Final = 1.0
"""How soon a key that was permitted or revoked counts."""

COMPLAIN_EVERY_S: Final = 5.0
_FEW: Final = (b"?",) * 4

log = logging.getLogger(__name__)

Permitted = dict[str, tuple[Role, str]]
"""Public key in Z85 -> role and name."""


class KeyFolder:
    """STATE/keys: `server.key`, and `permitted/ROLE/NAME.pub` for each permitted peer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = ServerKey.read(path / "server.key")

    def permitted(self) -> Permitted:
        """Read who is permitted; a file that holds no key permits nobody.

        Raises: OSError when the files cannot be read now, for want of descriptors for example.
        """
        return {key: (role, name) for role in Role for name, key in self._keys(role)}

    def _keys(self, role: Role) -> Iterator[tuple[str, str]]:
        folder = self.path / "permitted" / role
        for file in folder.glob("*.pub"):
            try:
                name, key = checked_name(file.stem), file.read_text()
            except (FileNotFoundError, ValueError):  # revoked just now, or no key file at all
                continue
            if is_public(key.strip()):
                yield name, key.strip()


def key_folder(settings: Settings, *, demanded: bool = False) -> KeyFolder | None:
    """Return the keys of this state folder, None where there are none.

    Args:
        settings: of the broker.
        demanded: keys were used before: having lost them must not open the sockets.

    Raises: ConfigError when they are there and cannot be used, or are demanded and not there.
    """
    path = settings.state_dir / "keys"
    if path.is_dir():
        return KeyFolder(path)
    if demanded:
        raise ConfigError(f"{path} is gone: the broker does not go on without its keys")
    return None


class Guard:
    """Answers libzmq's questions whether a key may connect.

    Args:
        context: of the sockets that it guards; they are bound after it was made.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: KeyFolder) -> None:
        self.keys = keys
        self.socket = new_socket(context, zmq.REP)
        self.socket.bind(ENDPOINT)
        self._permitted = keys.permitted()
        self._admitted: Permitted = {}
        self._refused = 0
        self._read_s = time.monotonic()
        self._complained_s = float("-inf")

    def answer(self) -> bool:
        """Answer the handshakes that wait, up to a turn's worth; True when there may be more."""
        for _ in range(TURN_LIMIT):
            try:
                request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self.socket.send_multipart(self._reply(request))
        return True

    def revoked(self) -> str:
        """Read the permitted keys again when it is time.

        Returns: the name of a key that is in and may no longer be; libzmq cannot turn a peer out,
            so its sockets have to go.
        """
        now_s = time.monotonic()
        if now_s - self._read_s < REREAD_S:
            return ""
        self._read_s = now_s
        try:
            self._permitted = self.keys.permitted()
        except OSError as exc:
            log.error("%s cannot be read, and stays as it was: %s", self.keys.path, exc)  # noqa: TRY400
            return ""
        for key, who in self._admitted.items():
            if self._permitted.get(key) != who:
                return f"{who[0]}/{who[1]}"
        return ""

    def close(self) -> None:
        """Let nobody in any more."""
        self.socket.close(linger=0)

    def _reply(self, request: list[bytes]) -> list[bytes]:
        request_id = request[1] if len(request) > 1 else b""
        who = self._judge(request)
        if who:
            return [VERSION, request_id, b"200", b"OK", who.encode(), b""]
        return [VERSION, request_id, b"400", b"no such key is permitted here", b"", b""]

    def _judge(self, request: list[bytes]) -> str:
        """Return who it is, empty for nobody.

        The frames are version, request id, domain, address, identity, mechanism, credentials.
        """
        if len(request) != 7 or request[0] != VERSION or request[5] != b"CURVE":
            return self._refuse("a handshake without a key", request)
        if len(request[6]) != 32:
            return self._refuse("a handshake with half a key", request)
        key = z85.encode(request[6]).decode()
        role, name = self._permitted.get(key, (None, ""))
        if role is None:
            return self._refuse("an unknown key", request)
        if role not in _reach(request[2]):
            return self._refuse(f"the {role}'s key {name}", request)
        self._admitted[key] = role, name
        return f"{role}/{name}"

    def _refuse(self, what: str, request: list[bytes]) -> str:
        self._refused += 1
        if time.monotonic() - self._complained_s >= COMPLAIN_EVERY_S:
            self._complained_s = time.monotonic()
            where, address = (part.decode("ascii", "replace") for part in (*request, *_FEW)[2:4])
            log.warning(
                "%s from %s is refused at %s; %d handshakes refused so far",
                what, address, where, self._refused,
            )  # fmt: skip
        return ""


def _reach(domain: bytes) -> frozenset[Role]:
    """An unknown domain is nobody's."""
    try:
        return REACH[Domain(domain.decode("ascii", "replace"))]
    except ValueError:
        return frozenset()
