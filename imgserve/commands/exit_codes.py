"""The exit codes of every command, and the errors that end a command with one of them."""

from __future__ import annotations

from enum import IntEnum

from imgserve.errors import ImgserveError


class ExitCode(IntEnum):
    """What a command's exit says. Values from 64 up are those of sysexits(3)."""

    OK = 0
    JOBS_FAILED = 1  # submit: at least one job was refused or failed
    NOT_RUNNING = 3  # status, stop: nothing runs here (the number is LSB's)
    ALREADY_RUNNING = 4  # start: a service runs with this state folder
    USAGE = 64  # unknown command or flag
    NO_INPUT = 66  # a file, folder or job that was named is not there
    NO_BROKER = 68  # worker: no broker answered within --death-timeout
    UNAVAILABLE = 69  # the service did not start, or does not answer
    SOFTWARE = 70  # a part ended by an error of its own
    PORT_TAKEN = 71  # an address or port cannot be bound
    NO_FONTS = 72  # worker: --require-fonts, and this host has none
    CANNOT_CREATE = 73  # the state folder, pid file or log cannot be written
    OUTPUT_CLOSED = 74  # whoever read the output has gone
    TIMED_OUT = 75  # the service did not end in time; it may still
    TURNED_AWAY = 76  # worker: the broker does not want it as it is
    NO_PERMISSION = 77  # a port needs root, or the process is of another user
    CONFIG = 78  # a setting is wrong
    INTERRUPTED = 130  # Ctrl-C, or a second signal to a part


class CommandFailed(ImgserveError):
    """Raised when a command cannot do what was asked.

    Args:
        sentence: what is wrong and what to do about it; it goes to stderr as it is.
        exit_code: how the command ends.
    """

    def __init__(self, sentence: str, exit_code: ExitCode) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class UsageError(CommandFailed):
    """Raised when a command line names something that does not exist or leaves something out."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, ExitCode.USAGE)
