"""The pool of pixel processes: jobs, deaths, time limits, order, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from imgserve.errors import (
    PixelProcessDied,
    PixelsFailed,
    PixelsTimedOut,
    SourceTooLarge,
    SourceTooSmall,
    SvgInvalid,
)
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels import PixelPool, PixelSettings, Rendered, Text
from tests.support import images

PNG = images.png(64, 48)
DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test ends with the processes that it began with."""
    children = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= children


@contextlib.asynccontextmanager
async def pool_of(processes: int, **settings: object) -> AsyncIterator[PixelPool]:
    """Open a pool; a stopped process must not outlive a failed test."""
    async with PixelPool(PixelSettings(processes=processes, **settings)) as pool:
        yield pool


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition with a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.005)


def stop(pid: int) -> None:
    """Stop a process, and wait until each of its threads stands still."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + DEADLINE_S
    while any(
        " (python) T " not in re.sub(r"\(.*\)", "(python)", stat.read_text())
        for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ):
        assert time.monotonic() < deadline, "the process does not stop"


def small(pool: PixelPool, side: int = 8) -> asyncio.Task[Rendered]:
    """Ask for a small picture."""
    return asyncio.create_task(pool.resize(PNG, kind=ImageKind.PNG, width_px=side, height_px=side))


def test_jobs_of_all_kinds_through_real_processes():
    """Results and errors come back to the caller that asked, whatever runs beside."""

    async def scenario() -> None:
        async with pool_of(2) as pool:
            big = images.jpeg(2000, 1500)  # more than a socket buffer
            resized = [small(pool, side) for side in range(1, 41)]
            large = await pool.resize(big, kind=ImageKind.JPEG, width_px=900, height_px=700)
            assert images.decoded(large.data).size == (900, 700)
            assert large.content_type == "image/jpeg"
            for side, task in enumerate(resized, 1):
                result = await task
                assert (result.width_px, result.height_px) == (side, side)
                assert images.decoded(result.data).size == (side, side)
            drawn = await pool.rasterize(images.svg(), width_px=40, height_px=20)
            assert drawn.content_type == "image/png"
            by_cairo = await pool.rasterize(
                images.svg("<text y='9'>a</text>"), width_px=40, height_px=20, renderer="cairosvg"
            )
            assert images.decoded(by_cairo.data).size == (40, 20)
            await pool.check_svg(images.svg())
            with pytest.raises(SvgInvalid, match="not well-formed"):
                await pool.check_svg(b"<svg>")
            with pytest.raises(SourceTooSmall, match="64x48"):
                await pool.resize(PNG, kind=ImageKind.PNG, width_px=65, height_px=1)
            for broken in (PNG[:200], images.jpeg()[:900], images.gif()[:500], b""):
                for kind in (ImageKind.PNG, ImageKind.JPEG, ImageKind.GIF):
                    with pytest.raises(PixelsFailed):
                        await pool.resize(broken, kind=kind, width_px=8, height_px=8)
            assert len(pool.pids) == 2
            assert pool.busy == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("renderer", list(Renderer))
@pytest.mark.parametrize(
    "face", ["", "font-weight='bold'", "font-family='serif' font-style='italic'"]
)
def test_text_is_drawn_in_a_locked_process(renderer, face):
    """Fonts that were not used before the lock can still be read after it."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            svg = images.svg(f"<text y='16' {face}>Mm</text>")
            drawn = await pool.rasterize(svg, width_px=80, height_px=40, renderer=renderer)
            assert images.decoded(drawn.data).getchannel("A").getextrema()[1] == 255

    asyncio.run(scenario())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_known_in_a_locked_process(encoding):
    """Many editors write them; a process that learns of one only then can no more read how."""

    async def scenario() -> None:
        async with PixelPool(PixelSettings(processes=1)) as pool:
            await pool.check_svg(images.svg().decode().encode(encoding))

    asyncio.run(scenario())


def test_encodings_are_known_in_a_locked_process():
    """What can be read is read, and what cannot is refused as not valid, not as a fault."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            for name in ("windows-1251", "koi8-r", "iso-8859-7", "shift_jis", "gb18030", "big5"):
                declared = f"<?xml version='1.0' encoding='{name}'?>".encode()
                await pool.check_svg(declared + images.svg())
            for name in ("zip", "rot13", "base64", "nothing"):
                declared = f"<?xml version='1.0' encoding='{name}'?>".encode()
                with pytest.raises(SvgInvalid, match=f"encoding is {name}, which is not supported"):
                    await pool.check_svg(declared + images.svg())

    asyncio.run(scenario())


def test_death_fails_one_job_only():
    """When a process dies under a job, that job is code 405; others go on, and it is replaced."""

    async def scenario() -> None:
        async with pool_of(2) as pool:
            before = pool.pids
            for pid in before:
                stop(pid)
            jobs = [small(pool), small(pool), small(pool)]
            await until(lambda: pool.busy == 2)
            os.kill(before[0], signal.SIGKILL)
            os.kill(before[1], signal.SIGCONT)
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
            died = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            assert [type(outcome) for outcome in died] == [PixelProcessDied]
            assert died[0].code == 405
            await until(lambda: before[0] not in pool.pids and len(pool.pids) == 2)
            assert before[1] in pool.pids
            await asyncio.gather(*(small(pool) for _ in range(4)))

    asyncio.run(scenario())


def test_late_process_is_killed():
    """A job past its time is code 402; its process is killed and replaced."""

    async def scenario() -> None:
        async with pool_of(1, pixel_timeout_s=0.3) as pool:
            (pid,) = pool.pids
            stop(pid)
            with pytest.raises(PixelsTimedOut, match=r"0\.3 s") as caught:
                await small(pool)
            assert caught.value.code == 402
            assert (await small(pool)).width_px == 8
            assert pid not in pool.pids
            assert not psutil.pid_exists(pid)

    asyncio.run(scenario())


def test_idle_process_that_dies_is_replaced_at_once():
    """A process that dies between jobs costs no job, and is not missed until the next."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            (pid,) = pool.pids
            os.kill(pid, signal.SIGKILL)
            await until(lambda: pool.pids not in ([], [pid]))
            assert (await small(pool)).width_px == 8

    asyncio.run(scenario())


def test_death_that_is_not_noticed_yet_costs_no_job():
    """A job given to a process that died a moment before goes to its successor."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            (pid,) = pool.pids
            os.kill(pid, signal.SIGKILL)
            # Blocking on purpose: the loop must not see the death before it gets the job.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
            assert (await small(pool)).width_px == 8

    asyncio.run(scenario())


def test_cancelled_jobs_leave_or_are_dropped():
    """Cancelled while it waits a job never runs; cancelled while it runs its result is dropped."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            (pid,) = pool.pids
            stop(pid)
            running, waiting, kept = small(pool, 5), small(pool, 6), small(pool, 7)
            await until(lambda: pool.busy == 1)
            running.cancel()
            waiting.cancel()
            await asyncio.gather(running, waiting, return_exceptions=True)
            assert "1 wait" in repr(pool)
            os.kill(pid, signal.SIGCONT)
            assert (await kept).width_px == 7
            assert images.decoded((await small(pool, 9)).data).size == (9, 9)
            assert pool.pids == [pid]

    asyncio.run(scenario())


def test_short_jobs_go_first():
    """A check passes heavy jobs that wait."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            (pid,) = pool.pids
            stop(pid)
            order: list[str] = []
            first = small(pool)
            await until(lambda: pool.busy == 1)
            large = images.jpeg(2000, 1500)
            heavy = asyncio.create_task(
                pool.resize(large, kind=ImageKind.JPEG, width_px=900, height_px=700)
            )
            check = asyncio.create_task(pool.check_svg(images.svg()))
            jobs = {"first": first, "heavy": heavy, "check": check}
            for name, task in jobs.items():
                task.add_done_callback(lambda _, name=name: order.append(name))
            await until(lambda: "2 wait" in repr(pool))
            os.kill(pid, signal.SIGCONT)
            await asyncio.gather(*jobs.values())
            assert order.index("heavy") == 2

    asyncio.run(scenario())


def test_closing_ends_running_jobs():
    """Leaving the pool ends every process at once; jobs under way are cancelled."""

    async def scenario() -> list[asyncio.Task[Rendered]]:
        async with pool_of(1) as pool:
            stop(pool.pids[0])
            jobs = [small(pool), small(pool)]
            await until(lambda: pool.busy == 1)
        await asyncio.wait(jobs, timeout=DEADLINE_S)
        return jobs

    assert all(job.cancelled() for job in asyncio.run(scenario()))


def test_stop_signals_of_the_group_do_not_reach_them():
    """SIGTERM and SIGINT to a pixel process change nothing: the worker decides when it ends."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            before = pool.pids
            for number in (signal.SIGTERM, signal.SIGINT):
                os.kill(before[0], number)
            assert (await small(pool)).width_px == 8
            assert pool.pids == before

    asyncio.run(scenario())


def test_leaving_at_once_leaves_nothing():
    """A pool left before its keepers had a turn ends its processes all the same."""

    async def scenario() -> None:
        async with pool_of(2):
            pass

    asyncio.run(scenario())


def test_failed_start_leaves_nothing():
    """Entering a pool whose processes cannot start raises, and leaves none of them."""

    async def scenario() -> None:
        with pytest.raises(ConnectionError):
            async with pool_of(2, memory_limit_bytes=1_000_000):
                pass

    asyncio.run(scenario())


def test_byte_limits():
    """A source or an SVG of more bytes than the limit is code 206, and goes to no process."""

    async def scenario() -> None:
        data = images.svg()
        async with pool_of(1, svg_limit_bytes=len(data), source_limit_bytes=len(PNG)) as pool:
            await pool.check_svg(data)
            await small(pool)
            with pytest.raises(SourceTooLarge, match=f"{len(data)} are allowed"):
                await pool.check_svg(data + b" ")
            with pytest.raises(SourceTooLarge):
                await pool.rasterize(data + b" ", width_px=9, height_px=9)
            with pytest.raises(SourceTooLarge):
                await pool.resize(PNG + b" ", kind=ImageKind.PNG, width_px=9, height_px=9)

    asyncio.run(scenario())


def test_memory_limit():
    """A picture that needs more memory than allowed fails alone."""

    async def scenario() -> None:
        async with pool_of(1, memory_limit_bytes=700 * 1024 * 1024) as pool:
            (failed,) = pool.pids
            large = images.encode(images.Image.new("RGBA", (9000, 9000)), "PNG", compress_level=1)
            with pytest.raises((PixelsFailed, PixelProcessDied)):
                await pool.resize(large, kind=ImageKind.PNG, width_px=8, height_px=8)
            assert (await small(pool)).width_px == 8
            assert failed not in pool.pids, "what a failed allocation left may be half made"

    asyncio.run(scenario())


def test_deepest_svg_does_not_overflow_the_stack():
    """500 levels, which are allowed, are rendered by the process that has the large stack."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            (pid,) = pool.pids
            body = "<g opacity='0.99'>" * 498 + "<rect width='9' height='9'/>" + "</g>" * 498
            drawn = await pool.rasterize(images.svg(body), width_px=40, height_px=20)
            assert images.decoded(drawn.data).size == (40, 20)
            assert pool.pids == [pid]

    asyncio.run(scenario())


def test_processes_end_with_their_worker(tmp_path: Path):
    """When the worker is killed, its pixel processes end, even stopped in the middle of a job."""
    program = (
        "import asyncio\n"
        "from imgserve.worker.pixels import PixelPool, PixelSettings\n"
        "async def main():\n"
        "    async with PixelPool(PixelSettings(processes=2)) as pool:\n"
        "        print(*pool.all_pids, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # the program above
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as worker:
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        for pid in pids:
            stop(pid)
        worker.kill()
    assert len(pids) == 4, "with the template and the process that draws"

    def ended(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    asyncio.run(until(lambda: all(map(ended, pids))))


def test_environment_of_the_worker_is_not_passed_on(monkeypatch: pytest.MonkeyPatch):
    """Secrets in the worker's environment are not in that of a pixel process."""
    monkeypatch.setenv("IMGSERVE_SECRET", "hunter2")

    async def scenario() -> None:
        async with pool_of(1) as pool:
            (pid,) = pool.pids
            environment = await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)
            assert b"hunter2" not in environment

    asyncio.run(scenario())


def test_placeholder_is_rendered_once():
    """Equal placeholders asked for at once, and later, are the same object."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            asked = {"kind": ImageKind.GIF, "width_px": 90, "height_px": 50, "text": Text.FAILED}
            results = await asyncio.gather(*(pool.placeholder(**asked) for _ in range(5)))
            results.append(await pool.placeholder(**asked))
            assert len({id(result) for result in results}) == 1
            assert results[0].content_type == "image/gif"
            other = await pool.placeholder(**asked | {"text": Text.PROCESSING})
            assert other.data != results[0].data

    asyncio.run(scenario())


def test_no_descriptor_is_left_open():
    """In a process of its own: in this one other tests open and close descriptors meanwhile."""
    subprocess.run([sys.executable, "-c", COUNT_DESCRIPTORS], check=True, timeout=120)


COUNT_DESCRIPTORS = """
import gc, os
from tests.worker.pixels import test_pool as tests

def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

tests.test_leaving_at_once_leaves_nothing()  # whatever is opened once and kept
for test in (
    tests.test_death_fails_one_job_only,
    tests.test_late_process_is_killed,
    tests.test_idle_process_that_dies_is_replaced_at_once,
    tests.test_cancelled_jobs_leave_or_are_dropped,
    tests.test_closing_ends_running_jobs,
    tests.test_leaving_at_once_leaves_nothing,
    tests.test_failed_start_leaves_nothing,
):
    before = descriptors()
    test()
    assert descriptors() == before, f"{test.__name__} left {descriptors() - before} open"
"""


TEXT_SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30">'
    b'<text x="5" y="20" font-size="16">Text</text></svg>'
)


def test_a_worn_process_draws_what_a_fresh_one_draws() -> None:
    """What one large job leaves in the allocator takes nothing from the next: no text vanishes."""

    async def scenario() -> None:
        many = b"<path d='M0 0 L1 1'/>" * 300_000
        large = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">' + many + b"</svg>"
        async with pool_of(1) as pool:
            fresh = await pool.rasterize(TEXT_SVG, width_px=90, height_px=30)
            (worn,) = pool.pids
            await pool.rasterize(large, width_px=9, height_px=9)
            for _ in range(3):
                again = await pool.rasterize(TEXT_SVG, width_px=90, height_px=30)
                assert again.data == fresh.data
            assert worn not in pool.pids, "a process that has grown so much is replaced"

    asyncio.run(scenario())
