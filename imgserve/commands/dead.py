"""`imgserve dead`: list, inspect, retry and drop jobs that ended `failed`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from imgserve.commands.exit_codes import CommandFailed, ExitCode
from imgserve.commands.flags import add_settings, settings_from
from imgserve.commands.parser import Command
from imgserve.commands.submit import connect
from imgserve.errors import ServiceUnavailable
from imgserve.urls import without_user_info

DESCRIPTION: Final = """\
Work with dead letters: jobs that ended `failed`.

  list        print one JSON object per dead letter
  show ID     print one with its request and why each attempt ended
  retry ID    submit its request again as a new job
  drop ID     forget it

examples:
  imgserve dead list
  imgserve dead retry 3f6c1d"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action, its ID and the settings that say where the broker is."""
    parser.add_argument("action", choices=("list", "show", "retry", "drop"), help="what to do")
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="the job; not for list")
    add_settings(parser, ["connection", "state", "key"])


def run(namespace: argparse.Namespace) -> int:
    """Do it and print what the broker says.

    Raises: CommandFailed when the broker does not answer or knows no such job.
    """
    if (namespace.action == "list") == bool(namespace.id):
        needs = "takes no ID" if namespace.id else "needs an ID; `imgserve dead list` prints them"
        raise CommandFailed(f"imgserve dead {namespace.action} {needs}", ExitCode.USAGE)
    with connect(settings_from(namespace)) as client:
        try:
            # What is dropped is gone, so whether it was there is asked before.
            found = namespace.action == "list" or client.dead("show", namespace.id).letters
            answer = client.dead(namespace.action, namespace.id)
        except ServiceUnavailable as exc:
            raise CommandFailed(exc.detail, ExitCode.UNAVAILABLE) from exc
    for letter in answer.letters:
        print(json.dumps(_printable(letter)))
    if answer.detail:
        print(f"imgserve: {answer.detail}", file=sys.stderr)
    return ExitCode.OK if found else ExitCode.NO_INPUT


def _printable(value: Any) -> Any:
    """A payload is bytes of JSON: show it as JSON, without its URLs' user names and passwords."""
    if isinstance(value, bytes):
        try:
            return _printable(json.loads(value))
        except ValueError:
            return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return without_user_info(value)
    if isinstance(value, list | tuple):
        return [_printable(each) for each in value]
    if hasattr(value, "items"):
        return {key: _printable(each) for key, each in value.items()}
    return value


COMMAND: Final = Command(
    "dead",
    "list and retry failed jobs",
    DESCRIPTION,
    add_arguments,
    run,
    "list|show|retry|drop [ID]",
)
