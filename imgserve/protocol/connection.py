"""The connection file: how clients, gateways and workers find the broker.

The broker writes it at start (mode 0600, whole or not at all); the others wait for it. It is JSON:
`{"protocol": 1, "version": "…", "epoch": "…", "jobs": "tcp://…", "reports": "tcp://…",
"events": "tcp://…"}`, and `"server_key": "…"` where the broker's sockets ask for keys.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from imgserve import __version__
from imgserve.errors import ConfigError
from imgserve.protocol.codec import PROTOCOL_VERSION


class OtherProtocol(ConfigError):
    """Raised when the broker of a connection file speaks another version of the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where one life of the broker is.

    Args:
        protocol: the protocol version it speaks.
        version: its program version, for people.
        epoch: this life of it.
        jobs, reports, events: the ZeroMQ endpoints to connect to.
        server_key: the public key that the broker proves itself by; empty: it has no keys.
    """

    protocol: int
    version: str
    epoch: str
    jobs: str
    reports: str
    events: str
    server_key: str = ""

    @classmethod
    def read(cls, path: Path) -> Connection:
        """Read a connection file.

        Raises:
            FileNotFoundError: it is not there (yet).
            ConfigError: it is no connection file, or of another protocol version.
        """
        try:
            document = json.loads(path.read_text())
            named = {"server_key": ""} | document
            connection = cls(**{field: named[field] for field in cls.__slots__})
        except (ValueError, TypeError, KeyError) as exc:
            raise ConfigError(f"{path} is not a connection file of an imgserve broker") from exc
        if connection.protocol != PROTOCOL_VERSION:
            raise OtherProtocol(
                f"{path} is of a broker (imgserve {connection.version}) that speaks protocol "
                f"version {connection.protocol}; this imgserve {__version__} speaks version "
                f"{PROTOCOL_VERSION}: run the same imgserve on both"
            )
        return connection

    def write(self, path: Path) -> None:
        """Write the file beside its place, readable by its owner alone, then rename it there."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file, indent=2)
            file.write("\n")
        draft.rename(path)
