"""`imgserve restart`: stop what runs, then start."""

from __future__ import annotations

import argparse
from typing import Final

from imgserve.commands import checks, start, stop
from imgserve.commands.flags import settings_from
from imgserve.commands.parser import Command

DESCRIPTION: Final = """\
Stop the service, if it runs, and start it with these flags. Takes the flags of start; what is not
said again has its default.

example:
  imgserve restart -port 8080"""


def run(namespace: argparse.Namespace) -> int:
    """Stop, then start."""
    settings = settings_from(namespace)
    checks.check_key(settings)  # before anything is stopped
    stop.end(settings, at_once=False)
    return start.run(namespace)


COMMAND: Final = Command("restart", "stop, then start", DESCRIPTION, start.add_arguments, run)
