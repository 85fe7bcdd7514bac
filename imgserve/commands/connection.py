"""`imgserve connection`: the connection file of a broker that has a name and fixed ports."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Final

import imgserve
from imgserve.commands.exit_codes import ExitCode, UsageError
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.parser import Command
from imgserve.protocol.codec import PROTOCOL_VERSION
from imgserve.protocol.connection import Connection
from imgserve.protocol.keys import ServerKey

DESCRIPTION: Final = """\
Print the connection file of a broker at --advertise and --broker-port, running or not, so that it
can be handed out before the broker starts and stays good over its restarts: into a Kubernetes
Secret, a configuration management, an image. With a state folder that has keys it names the
broker's public key.

examples:
  imgserve connection --advertise broker.example.com > connection.json
  imgserve connection --advertise imgserve-broker --state ./state | kubectl create secret generic \\
    imgserve-connection --from-file=connection.json=/dev/stdin"""

FIXED_EPOCH: Final = "fixed"
"""Who reads the file learns the broker's real epoch from its beats."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings that say where the broker is, and whose keys it has."""
    add_settings(parser, ["advertise", "broker_port", "state"])


def run(namespace: argparse.Namespace) -> int:
    """Print it.

    Raises: UsageError when the host or the port is left open; ConfigError for a bad key file.
    """
    settings = settings_from(namespace)
    if not settings.advertise or not settings.broker_port:
        raise UsageError(
            "imgserve connection needs --advertise, the name that others reach the broker by, and "
            "a --broker-port that is not 0"
        )
    jobs, reports, events = (
        f"tcp://{settings.advertise}:{settings.broker_port + offset}" for offset in range(3)
    )
    key_file = settings.state_dir / "keys" / "server.key"
    document = Connection(
        protocol=PROTOCOL_VERSION,
        version=imgserve.__version__,
        epoch=FIXED_EPOCH,
        jobs=jobs,
        reports=reports,
        events=events,
        server_key=ServerKey.read(key_file).public if key_file.exists() else "",
    )
    print(json.dumps(asdict(document), indent=2))
    return ExitCode.OK


COMMAND: Final = Command(
    "connection",
    "print the connection file of a broker with a fixed address",
    DESCRIPTION,
    add_arguments,
    run,
)
