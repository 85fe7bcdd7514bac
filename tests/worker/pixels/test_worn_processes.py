"""A process that has done many jobs answers as a fresh one does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.pixels.mixed_jobs import differences, mixed_jobs

ROOT = Path(__file__).parents[3]
JOBS = 250


def test_worn_and_fresh_processes_answer_alike():
    """Pictures of all kinds, text, failures, one of 300,000 paths and one beyond the memory."""
    jobs = list(mixed_jobs(JOBS))
    assert {"300,000 paths", "out of memory", "broken"} < {job.name for job in jobs}
    assert asyncio.run(differences(iter(jobs))) == []


# The limit rises from what cannot draw to what can, in steps smaller than a font. Below zero it is
# where it was when it did not count what the process held.
TIGHT = """
import os, resource, socket, sys
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels import process
from imgserve.worker.pixels.families import load_fonts
from imgserve.worker.pixels.frames import OK, PixelOperation, Request
from imgserve.worker.pixels.operations import Tools, warm_up
from imgserve.worker.pixels.settings import PixelSettings, Role
settings = PixelSettings(processes=1)
tools = Tools(settings, load_fonts(settings.font_dirs))
warm_up(tools)
svg = (b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30">'
       b'<text y="20">Text</text></svg>')
asked = Request(operation=PixelOperation.RASTERIZE, kind=ImageKind.SVG, width_px=90, height_px=30,
                renderer=Renderer(sys.argv[1]), size_bytes=len(svg), memory_bytes=10**8)
right = process.perform(svg, asked, Role.WORK, tools)
assert right.status == OK
outcomes = []
for step in range(-64, 448, 4):
    pid = os.fork()
    if pid == 0:
        memory = process.AddressSpace.of_this_process()
        fonts_bytes = tools.fonts.largest_bytes
        os.close(2)
        limit = process.limit_memory(memory.size_bytes() + step * 64 * 1024)
        answer = process.perform(svg, asked, Role.WORK, tools)
        if CHECKED and answer.status == OK:
            answer = process.hold_against_peak(answer, asked, memory, limit - fonts_bytes)
        os._exit(0 if answer.data == right.data else 1 if answer.status == OK else 2)
    outcomes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(*sorted(set(outcomes)))
"""


def tight(renderer: str, *, checked: bool) -> set[str]:
    """Draw text at many limits: 0 the right picture, 1 another one, 2 an error, less a death."""
    program = TIGHT.replace("CHECKED", str(checked))
    done = subprocess.run(
        [sys.executable, "-c", program, renderer],
        capture_output=True, text=True, cwd=ROOT, check=True, timeout=120,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize("renderer", ["resvg", "cairosvg"])
def test_no_limit_of_memory_makes_text_vanish(renderer):
    """However little is left: the right picture, an error or a death, but no other picture."""
    outcomes = tight(renderer, checked=True)
    assert "1" not in outcomes
    assert {"0", "2"} <= outcomes


def test_text_would_vanish_unless_that_were_checked():
    """The renderer says nothing when a font cannot be mapped: the limits above are those."""
    assert "1" in tight("resvg", checked=False)
