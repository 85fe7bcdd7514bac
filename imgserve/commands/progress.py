"""A progress bar on standard error, when that is a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich import progress
from rich.console import Console


class Progress:
    """Shows how many jobs have ended, how many of them badly, and how fast.

    Args:
        total: how many there are; None when that is not known.
    """

    def __init__(self, total: int | None) -> None:
        console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("{task.completed:,.0f} jobs"),
            progress.BarColumn(),
            progress.TaskProgressColumn(show_speed=True),
            progress.TextColumn("[red]{task.fields[bad]}"),
            progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=False,  # outcomes go to stdout as they are, whoever reads it
        )
        self._task = self._bar.add_task("submit", total=total, bad="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, counts: Mapping[str, int]) -> None:
        """Show how many jobs ended in each state."""
        ended, done = sum(counts.values()), counts.get("done", 0)
        bad = f"{ended - done:,} not done" if ended > done else ""
        self._bar.update(self._task, completed=ended, bad=bad)
