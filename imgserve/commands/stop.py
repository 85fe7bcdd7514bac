"""`imgserve stop`: end the service in order, or at once."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import Final

from imgserve.commands.exit_codes import CommandFailed, ExitCode
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.parser import Command
from imgserve.commands.pid_file import running_pid
from imgserve.commands.processes import alive, descendants, kill
from imgserve.commands.service_file import ServiceRecord, service_file
from imgserve.commands.status import ask_broker
from imgserve.commands.supervisor import BROKER_GRACE_S, MARGIN_S
from imgserve.config import Settings

DESCRIPTION: Final = """\
End the service: the gateway answers who waits, the worker finishes its running jobs, the broker
writes its journal. What was not started stays in the journal for the next start.

examples:
  imgserve stop
  imgserve stop -KILL        at once; running jobs are done again after the next start"""

KILL_TIMEOUT_S: Final = 10.0
COUNT_EVERY_S: Final = 2.0
_POLL_S: Final = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add -KILL and the settings that say which service."""
    parser.add_argument(
        "--KILL", "--kill", action="store_true", dest="kill", help="kill every process at once"
    )
    add_settings(parser, ["state", "answer_timeout_s", "drain_timeout_s"])


def run(namespace: argparse.Namespace) -> int:
    """Stop the service with this state folder.

    Raises: CommandFailed when nothing runs, or when it does not end in time.
    """
    settings = settings_from(namespace)
    if running_pid(settings.pid_file) is None:
        raise CommandFailed(
            f"nothing to stop: no imgserve runs with state {settings.state_dir}",
            ExitCode.NOT_RUNNING,
        )
    end(settings, at_once=namespace.kill)
    print("imgserve has stopped")
    return ExitCode.OK


def end(settings: Settings, *, at_once: bool) -> None:
    """End the running service and wait until it is gone.

    Raises: CommandFailed when it does not end in time or belongs to someone else.
    """
    pid = running_pid(settings.pid_file)
    if not pid:
        return
    try:
        if at_once:
            _kill(settings, pid)
        else:
            kill(pid, signal.SIGTERM)
            _wait(settings, pid)
    except PermissionError:
        raise CommandFailed(
            f"the service (pid {pid}) belongs to another user", ExitCode.NO_PERMISSION
        ) from None


def _wait(settings: Settings, pid: int) -> None:
    """Wait for the supervisor's end; say what it waits for whenever that changes."""
    limit_s = settings.answer_timeout_s + settings.drain_timeout_s + BROKER_GRACE_S + 3 * MARGIN_S
    now_s = time.monotonic()
    deadline_s, count_at_s = now_s + limit_s, now_s + COUNT_EVERY_S
    said = ""
    while running_pid(settings.pid_file) == pid:
        now_s = time.monotonic()
        if now_s > deadline_s:
            raise CommandFailed(
                f"the service (pid {pid}) did not end in {limit_s:.0f} s; "
                "`imgserve stop -KILL` ends it at once",
                ExitCode.TIMED_OUT,
            )
        record = ServiceRecord.read(service_file(settings.state_dir))
        phase = record.phase if record and record.phase.startswith("stopping") else said
        if phase != said:
            print(f"imgserve: {phase}", file=sys.stderr)
            said = phase
        if said and now_s > count_at_s:
            _say_count(settings)
            count_at_s = time.monotonic() + COUNT_EVERY_S
        time.sleep(_POLL_S)


def _say_count(settings: Settings) -> None:
    """Say how many jobs a long stop waits for, if the broker tells."""
    if (figures := ask_broker(settings)) is not None:
        print(f"imgserve: jobs in flight: {figures['in_flight']}", file=sys.stderr)


def _kill(settings: Settings, pid: int) -> None:
    """Kill the supervisor and all below it, and clear away what they leave."""
    kill(pid, signal.SIGSTOP)  # nobody is born between the listing and the kill
    below = descendants(pid)
    for each in (pid, *below):
        kill(each, signal.SIGKILL)
    deadline_s = time.monotonic() + KILL_TIMEOUT_S
    while any(alive(each) for each in (pid, *below)):
        if time.monotonic() > deadline_s:
            raise CommandFailed("some processes did not die", ExitCode.TIMED_OUT)
        time.sleep(_POLL_S)
    for path in (settings.pid_file, service_file(settings.state_dir), settings.connection_file):
        path.unlink(missing_ok=True)


COMMAND: Final = Command(
    "stop", "finish what runs, then end the service", DESCRIPTION, add_arguments, run
)
