"""The command line's grammar: one dash or two, no abbreviations, suggestions for slips."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from imgserve.commands.exit_codes import UsageError

_ONE_DASH = re.compile(r"-[A-Za-z][A-Za-z0-9_-]+(=.*)?", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError` where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting with 2."""
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the command line.

    Args:
        name: what the user types.
        summary: one line for the list of commands.
        description: what it does, with examples, for its own --help.
        arguments: adds its flags to the parser.
        run: does it; returns the exit code.
        operands: what comes besides options.
    """

    name: str
    summary: str
    description: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    operands: str = ""

    @property
    def usage(self) -> str:
        """The first line of --help; the options follow below it, one by one."""
        return f"imgserve {self.name} [OPTIONS] {self.operands}".rstrip()

    def parser(self) -> Parser:
        """Return the parser of this command's arguments."""
        parser = Parser(
            prog=f"imgserve {self.name}",
            usage=self.usage,
            description=self.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.arguments(parser)
        return parser


def parse(command: Command, words: Sequence[str]) -> argparse.Namespace:
    """Parse the words after a command's name.

    Raises: UsageError that names the nearest flag when one is unknown.
    """
    parser = command.parser()
    namespace, unknown = parser.parse_known_args(two_dashes(words))
    if unknown:
        options = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001 (argparse has no public list)
        raise UsageError(_unknown(parser.prog, unknown[0], options))
    return namespace


def two_dashes(words: Iterable[str]) -> list[str]:
    """Write `-host` as `--host`: long options take one dash or two, as they always did."""
    written: list[str] = []
    literal = False
    for word in words:
        literal = literal or word == "--"
        written.append(f"-{word}" if not literal and _ONE_DASH.fullmatch(word) else word)
    return written


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` for the nearest known word, or nothing."""
    nearest = get_close_matches(word.lower(), {name.lower(): name for name in known}, n=1)
    if not nearest:
        return ""
    return f"; did you mean {next(name for name in known if name.lower() == nearest[0])}?"


def _unknown(prog: str, word: str, options: list[str]) -> str:
    if not word.startswith("-"):
        return f"{prog}: {word!r} is one argument too many; see {prog} --help"
    flag = word.partition("=")[0]
    hint = suggestion(flag, options) or f"; see {prog} --help"
    return f"{prog} has no option {flag}{hint}"
