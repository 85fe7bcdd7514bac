"""The command line: finds the command, runs it, turns errors into one sentence and an exit code."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import imgserve
from imgserve.commands import (
    connection,
    dead,
    keys,
    parts,
    restart,
    start,
    status,
    stop,
    submit,
    token,
    top,
)
from imgserve.commands.exit_codes import CommandFailed, ExitCode, UsageError
from imgserve.commands.parser import Command, parse, suggestion, two_dashes
from imgserve.errors import ConfigError

_HEAD: Final = """\
imgserve: resize pictures and rasterize SVGs, from URL to URL

usage: imgserve COMMAND [OPTIONS]; long options take one dash or two
"""
_FOOT: Final = """
start here:
  imgserve start                                  serves http://0.0.0.0:8602
  imgserve status
  curl -d @request.json http://localhost:8602/    the reply is {"dstURL": "..."}
  imgserve stop

`imgserve COMMAND --help` tells the options of one command and gives examples.\
"""


def _nothing(_parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def _version(_namespace: argparse.Namespace) -> int:
    print(f"imgserve {imgserve.__version__} (Python {platform.python_version()})")
    return ExitCode.OK


def _help_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="the command to explain")


def _help(namespace: argparse.Namespace) -> int:
    if namespace.command is None:
        print(overview())
    else:
        _command(namespace.command).parser().print_help()
    return ExitCode.OK


COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for command in (
        start.COMMAND,
        stop.COMMAND,
        restart.COMMAND,
        status.COMMAND,
        submit.COMMAND,
        dead.COMMAND,
        keys.COMMAND,
        token.COMMAND,
        top.COMMAND,
        connection.COMMAND,
        *parts.COMMANDS,
        Command("version", "print the version", "Print the version.", _nothing, _version),
        Command("help", "explain a command", "Explain a command, or all.", _help_arguments, _help),
    )
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        words: the arguments; None for those of this process.

    Returns: the exit code, a value of `ExitCode`.
    """
    try:
        return _run(list(sys.argv[1:] if words is None else words))
    except CommandFailed as exc:
        return _complain(str(exc), exc.exit_code)
    except ConfigError as exc:
        return _complain(str(exc), ExitCode.CONFIG)
    except BrokenPipeError:
        # Python flushes stdout once more at its end; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OUTPUT_CLOSED
    except KeyboardInterrupt:
        return _complain("interrupted", ExitCode.INTERRUPTED)


def overview() -> str:
    """Return the list of commands."""
    lines = [f"  {command.name:<10} {command.summary}" for command in COMMANDS.values()]
    return "\n".join([_HEAD, "commands:", *lines, _FOOT])


def _run(words: list[str]) -> int:
    name = two_dashes(words[:1])
    if not name:
        print(overview(), file=sys.stderr)
        return ExitCode.USAGE
    if name[0] in ("-h", "--help"):
        return _help(argparse.Namespace(command=None))
    if name[0] in ("-V", "--version"):
        return _version(argparse.Namespace())
    command = _command(name[0])
    try:
        return command.run(parse(command, words[1:]))
    except SystemExit:  # argparse has printed --help
        return ExitCode.OK


def _command(name: str) -> Command:
    if name not in COMMANDS:
        hint = suggestion(name, COMMANDS) or "; `imgserve help` lists them"
        raise UsageError(f"there is no command {name!r}{hint}")
    return COMMANDS[name]


def _complain(sentence: str, exit_code: ExitCode) -> int:
    print(f"imgserve: {sentence}", file=sys.stderr)
    return exit_code
