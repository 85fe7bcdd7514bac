"""`imgserve restart`: check, take the sockets over, stop what runs, then start."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from imgserve.commands import checks, start, stop
from imgserve.commands.exit_codes import CommandFailed
from imgserve.commands.flags import settings_from
from imgserve.commands.handover import Sockets, another, take
from imgserve.commands.listening import listen
from imgserve.commands.parser import Command
from imgserve.commands.pid_file import running_pid
from imgserve.commands.service_file import ServiceRecord, service_file
from imgserve.commands.start import Plan
from imgserve.config import load_settings

DESCRIPTION: Final = """\
Stop the service, if it runs, and start it again. Takes the flags of start; what is not said again
stays as it was, and what changes is shown. Flags win over former flags, those over the environment,
that over the environment of the former start, and that over the TOML file.

Settings, folders and ports are checked before anything is stopped: a restart that cannot succeed
leaves the service as it is. Clients that connect meanwhile wait and are answered. Where the new
service does not start all the same, the former one is started again.

example:
  imgserve restart -port 8080"""


def run(namespace: argparse.Namespace) -> int:
    """Stop, then start.

    Raises:
        ConfigError: a setting is wrong; what runs goes on.
        CommandFailed: something is missing or taken, and what runs goes on; or the new service
            did not start, and the former one runs again if that was possible.
    """
    former = _former(namespace)
    if former is not None:
        former.origin.under(namespace)
    plan = Plan.of(namespace)
    if former is None:
        stop.end(plan.settings, at_once=False)
        return start.begin(plan)
    for line in former.origin.changes(plan.origin):
        print(f"imgserve: {line}", file=sys.stderr)
    new, old = plan.settings, former.origin.effective
    if _differs(old, plan, "broker_host", "broker_port"):
        checks.check_broker_ports(new)
    taken = take(new.state_dir)
    sockets = _sockets(taken, old, plan)
    stop.end(new, at_once=False)
    try:
        return start.begin(plan, sockets)
    except CommandFailed as exc:
        _start_former(former, taken, exc)
        raise


def _former(namespace: argparse.Namespace) -> ServiceRecord | None:
    """Return what the running service says of itself, if one runs."""
    # By the state folder alone: whatever else the environment says is not of the former service.
    only_state = argparse.Namespace(state=namespace.state, config=namespace.config)
    settings = settings_from(only_state)
    if running_pid(settings.pid_file) is None:
        return None
    return ServiceRecord.read(service_file(settings.state_dir))


def _differs(old: dict[str, str], plan: Plan, *names: str) -> bool:
    return any(old.get(name) != plan.origin.effective[name] for name in names)


def _sockets(taken: Sockets | None, old: dict[str, str], plan: Plan) -> Sockets | None:
    """Take the former sockets where their addresses stay; bind the others now, before the stop.

    Raises: CommandFailed when an address cannot be had.
    """
    settings = plan.settings
    bound = []
    for kept, flag, names, host, port in (
        (taken and taken.http, "-port", ("host", "port"), settings.host, settings.port),
        (
            taken and taken.probes,
            "--probe-port",
            ("probe_host", "probe_port"),
            settings.probe_host,
            settings.probe_port or 0,
        ),
    ):
        if _differs(old, plan, *names):
            bound.append(listen(host, port, flag))
        elif kept is not None:
            bound.append(another(kept))
    if len(bound) == len(Sockets._fields):
        return Sockets(*bound)
    for each in bound:  # a former service of another version: its ports are free once it has ended
        each.close()
    return None


def _start_former(former: ServiceRecord, taken: Sockets | None, why: CommandFailed) -> None:
    """Start the service as it was; tell what came of it."""
    print(f"imgserve: {why}", file=sys.stderr)
    print("imgserve: the former service is started again", file=sys.stderr)
    settings = load_settings(
        {name: value for name, value in former.origin.effective.items() if value}
    )
    try:
        start.begin(Plan(settings, former.origin, foreground=False), taken)
    except CommandFailed as exc:
        print(f"imgserve: it did not start either: {exc}", file=sys.stderr)


COMMAND: Final = Command("restart", "stop, then start", DESCRIPTION, start.add_arguments, run)
