"""What the worker and its pixel processes use, for `status`: read from /proc, cheaply."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def vitals(pixel_pids: Iterable[int]) -> dict[str, float]:
    """Return CPU seconds and resident bytes of this process and its pixel processes together.

    Processes that ended count too, once they were waited for.

    Source: proc_pid_stat(5), fields 14 to 17 and 24.
    """
    ticks = pages = 0
    for pid in (os.getpid(), *pixel_pids):
        fields = _stat(pid)
        if fields:
            # Ended children are counted by their parent: in a pixel process there are none.
            ticks += sum(map(int, fields[11:15]))
            pages += int(fields[21])
    return {
        "cpu_s": ticks / os.sysconf("SC_CLK_TCK"),
        "rss_bytes": float(pages * os.sysconf("SC_PAGE_SIZE")),
    }


def _stat(pid: int) -> list[str]:
    """The fields from the third on: the second, the name, may hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has just ended
        return []
    return text.rpartition(")")[2].split()
