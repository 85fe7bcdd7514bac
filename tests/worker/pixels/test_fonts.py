"""Fonts that are replaced, removed or installed while the service runs: text never vanishes."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from imgserve.errors import PixelsFailed
from imgserve.request import Renderer
from imgserve.worker.pixels import PixelPool, Rendered
from imgserve.worker.pixels import pool as pool_module
from imgserve.worker.pixels.families import FontsChanged, load_fonts
from imgserve.worker.pixels.fonts import font_files, see_fonts
from imgserve.worker.pixels.settings import system_font_dirs
from tests.support import images
from tests.worker.pixels.test_pool import TEXT_SVG, nothing_left, pool_of, until

__all__ = ["nothing_left"]  # a fixture that holds for this file, too

INSTALLED = [path for path in font_files(system_font_dirs()) if "Mono" not in path]
needs_font = pytest.mark.skipif(not INSTALLED, reason="no font is installed")


@pytest.fixture
def fonts(tmp_path: Path) -> Path:
    """A folder with one font."""
    folder = tmp_path / "fonts"
    folder.mkdir()
    if INSTALLED:
        shutil.copy(INSTALLED[0], folder / "one.ttf")
    return folder


def upgrade(folder: Path) -> None:
    """Put a new file in the old one's place, as packages do."""
    shutil.copy(folder / "one.ttf", folder / "one.new")
    (folder / "one.new").rename(folder / "one.ttf")


async def text(pool: PixelPool, renderer: Renderer = Renderer.RESVG) -> Rendered:
    """Draw text."""
    return await pool.rasterize(TEXT_SVG, width_px=90, height_px=30, renderer=renderer)


def shows_something(drawn: Rendered) -> bool:
    return images.decoded(drawn.data).getchannel("A").getextrema()[1] > 0


@needs_font
@pytest.mark.parametrize("renderer", list(Renderer))
def test_upgraded_font_is_drawn(fonts, renderer):
    """The first text after it is whole, though the locked process cannot read the new file."""

    async def scenario() -> None:
        async with pool_of(2, font_dirs=(fonts,)) as pool:
            before, old = await text(pool, renderer), pool.pids
            assert shows_something(before)
            for _ in range(2):
                upgrade(fonts)
                again = await asyncio.gather(*(text(pool, renderer) for _ in range(4)))
                assert {drawn.data for drawn in again} == {before.data}
            await until(lambda: not set(old) & set(pool.pids))

    asyncio.run(scenario())


@needs_font
def test_removed_last_font_fails_with_words(fonts):
    """Text without a font is an error, never a picture without the text; no text needs no font."""

    async def scenario() -> None:
        async with pool_of(1, font_dirs=(fonts,)) as pool:
            assert shows_something(await text(pool))
            (fonts / "one.ttf").unlink()
            for _ in range(2):
                with pytest.raises(PixelsFailed, match="no font is installed"):
                    await text(pool)
            await pool.rasterize(images.svg(), width_px=40, height_px=20)

    asyncio.run(scenario())


@needs_font
@pytest.mark.parametrize(
    "change",
    [upgrade, lambda folder: shutil.copy(folder / "one.ttf", folder / "two.ttf"),
     lambda folder: (folder / "one.ttf").unlink()],
    ids=["upgraded", "installed", "removed"],
)  # fmt: skip
def test_change_is_noticed_without_a_job(
    fonts: Path, change: Callable[[Path], object], monkeypatch
):
    """All processes are replaced, those that wait at once."""
    monkeypatch.setattr(pool_module, "LOOK_S", 0.01)

    async def scenario() -> None:
        async with pool_of(2, font_dirs=(fonts,)) as pool:
            before = set(pool.all_pids)
            change(fonts)
            await until(lambda: len(pool.all_pids) == 4 and not before & set(pool.all_pids))

    asyncio.run(scenario())


@needs_font
def test_installed_first_font_is_drawn(fonts, monkeypatch):
    """A service that began without fonts need not be started again."""
    monkeypatch.setattr(pool_module, "LOOK_S", 0.01)
    waiting = fonts.parent / "waiting.ttf"
    (fonts / "one.ttf").rename(waiting)

    async def scenario() -> None:
        async with pool_of(1, font_dirs=(fonts,)) as pool:
            with pytest.raises(PixelsFailed, match="no font is installed"):
                await text(pool)
            before = pool.pids
            waiting.rename(fonts / "one.ttf")
            await until(lambda: pool.pids not in ([], before))
            assert shows_something(await text(pool))

    asyncio.run(scenario())


@needs_font
def test_fonts_that_change_for_ever_end_the_job_with_words(fonts, monkeypatch):
    """A job is tried anew once: then it fails, rather than going round."""
    real = pool_module.Spawner.look

    async def look(self) -> None:
        await real(self)
        upgrade(fonts)

    monkeypatch.setattr(pool_module.Spawner, "look", look)

    async def scenario() -> None:
        async with pool_of(1, font_dirs=(fonts,)) as pool:
            upgrade(fonts)
            with pytest.raises(PixelsFailed, match="installed fonts changed"):
                await text(pool)

    asyncio.run(scenario())


@needs_font
def test_fonts_are_not_gone_when_descriptors_are(fonts):
    """A folder that cannot be looked at just now is an error, not a folder without fonts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            see_fonts((fonts,))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@needs_font
@pytest.mark.parametrize("change", ["upgrade", "remove", "touch"])
def test_change_is_seen_in_the_process(fonts, change):
    """By inode, size and time; and nothing is seen where nothing has changed."""
    loaded = load_fonts((fonts,))
    loaded.require_unchanged()
    seen = see_fonts((fonts,))
    assert seen == see_fonts((fonts,))
    if change == "upgrade":
        upgrade(fonts)
    elif change == "remove":
        (fonts / "one.ttf").unlink()
    else:
        os.utime(fonts / "one.ttf", (1, 1))
    with pytest.raises(FontsChanged):
        loaded.require_unchanged()
    assert seen != see_fonts((fonts,))
