"""What `start` checks before it becomes a daemon, so that mistakes are told at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from imgserve.commands.exit_codes import CommandFailed, ExitCode
from imgserve.commands.listening import is_loopback, probe
from imgserve.config import Settings
from imgserve.errors import ConfigError

BROKER_PORTS: Final = 3
"""Jobs, reports and events; lanes take what is free from there on."""


def make_folders(settings: Settings) -> None:
    """Make the folders of state, log and pid file where only they themselves are missing.

    Raises: CommandFailed when a parent is missing or a folder cannot be written.
    """
    for folder in {settings.state_dir, settings.log_file.parent, settings.pid_file.parent}:
        make_folder(folder)


def check_file_roots(settings: Settings) -> None:
    """Check that every --file-root is a folder.

    Raises: CommandFailed with the first that is not.
    """
    for root in settings.file_root:
        if not root.is_dir():
            raise CommandFailed(
                f"--file-root {root}: there is no such folder; make it first", ExitCode.NO_INPUT
            )


def check_key(settings: Settings) -> None:
    """Check that no single key is named for a gateway and a worker, whose roles differ.

    Raises: ConfigError when one is: either part would wait for a broker for ever.
    """
    if settings.key is not None:
        raise ConfigError(
            f"key = {str(settings.key)!r}: a gateway and a worker need a key each, and find theirs "
            f"in {settings.state_dir / 'keys'} (`imgserve keys init` makes them); leave --key and "
            "IMGSERVE_KEY out here, they are for a part that runs alone"
        )


def check_broker_ports(settings: Settings) -> None:
    """Check that the broker will find its ports free.

    Raises: CommandFailed when one is taken.
    """
    if settings.broker_port:
        for port in range(settings.broker_port, settings.broker_port + BROKER_PORTS):
            probe(settings.broker_host, port, "--broker-port")


def check_http(settings: Settings) -> None:
    """Check that tokens and certificate can be read, as the gateway will read them.

    Raises: ConfigError when one cannot be.
    """
    # Only here: most commands need none of the gateway's libraries.
    from imgserve.gateway.connections import tls_context  # noqa: PLC0415
    from imgserve.gateway.tokens import Tokens  # noqa: PLC0415

    Tokens(settings.tokens_path, required=settings.token_file is not None)
    tls_context(settings.tls_cert, settings.tls_key)


def warning(host: str, settings: Settings) -> str:
    """Return what an operator should know about an open HTTP port, or nothing."""
    if is_loopback(host):
        return ""
    cautions = [_open_door(host, settings), _open_networks(settings)]
    return "warning: " + "; ".join(filter(None, cautions)) if any(cautions) else ""


def _open_door(host: str, settings: Settings) -> str:
    if not os.path.lexists(settings.tokens_path):
        return (
            f"HTTP listens on {host}, so whoever reaches this machine can send requests; "
            "`imgserve token new NAME` asks for tokens, -host 127.0.0.1 keeps it private"
        )
    if settings.tls_cert is None:
        return (
            f"HTTP listens on {host} without TLS, so tokens can be read on their way; "
            "--tls-cert encrypts, or a proxy before it"
        )
    return ""


def _open_networks(settings: Settings) -> str:
    if not settings.deny_private:
        return "jobs may reach private networks, which --deny-private closes"
    if settings.allow_network:
        return f"jobs may reach {', '.join(settings.allow_network)} (--allow-network)"
    return ""


def make_folder(folder: Path) -> None:
    """Make a folder for this user alone, unless it is there.

    Raises: CommandFailed when its parent is missing or it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        raise CommandFailed(
            f"{folder}: its parent folder does not exist; make it first, or choose another place "
            "with --state",
            ExitCode.CANNOT_CREATE,
        ) from None
    except FileExistsError:
        raise CommandFailed(f"{folder} is a file, not a folder", ExitCode.CANNOT_CREATE) from None
    except OSError as exc:
        raise CommandFailed(f"{folder}: {exc.strerror}", ExitCode.CANNOT_CREATE) from exc
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandFailed(
            f"{folder} cannot be written by this user; choose another place with --state",
            ExitCode.CANNOT_CREATE,
        )
