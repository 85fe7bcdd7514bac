"""The template: what it forks, what outlives it, and what happens when the system refuses."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from imgserve.errors import PixelsFailed
from imgserve.request import ImageKind
from imgserve.worker.pixels import PixelPool, Text
from imgserve.worker.pixels import pool as pool_module
from imgserve.worker.pixels.frames import Fate, PixelOperation, Request
from imgserve.worker.pixels.process import require_role
from imgserve.worker.pixels.settings import Role
from tests.worker.pixels.test_pool import PNG, nothing_left, pool_of, small, stop, until

__all__ = ["nothing_left"]  # a fixture that holds for this file, too

ROOT = Path(__file__).parents[3]


def template_of(pool: PixelPool) -> int:
    """Say which process is the template."""
    (pid,) = pool._spawner.pids
    return pid


def test_pixel_processes_are_children_of_the_worker():
    """Not of the template: the worker waits for them, and the kernel ends them with it."""

    async def scenario() -> None:
        async with pool_of(2) as pool:
            pids = pool.all_pids
            assert len(pids) == 4, "two that work, one that draws, and the template"
            assert {psutil.Process(pid).ppid() for pid in pids} == {os.getpid()}

    asyncio.run(scenario())


def test_death_of_the_template_costs_no_process():
    """What it forked works on; the next process comes from another template."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            dead, (pid,) = template_of(pool), pool.pids
            os.kill(dead, signal.SIGKILL)
            await until(lambda: not pool._spawner.pids)
            assert (await small(pool)).width_px == 8
            assert pool.pids == [pid]
            os.kill(pid, signal.SIGKILL)
            await until(lambda: pool.pids not in ([], [pid]))
            assert (await small(pool)).width_px == 8
            assert template_of(pool) != dead

    asyncio.run(scenario())


def test_death_of_the_template_is_noticed(monkeypatch):
    """Another stands ready before a process is missing."""
    monkeypatch.setattr(pool_module, "LOOK_S", 0.01)

    async def scenario() -> None:
        async with pool_of(1) as pool:
            dead, pids = template_of(pool), pool.pids
            os.kill(dead, signal.SIGKILL)
            await until(lambda: pool._spawner.pids not in ([], [dead]))
            assert pool.pids == pids

    asyncio.run(scenario())


def test_template_that_does_not_answer_is_replaced(monkeypatch):
    """A fork that takes too long ends the template; no late answer goes to another request."""
    monkeypatch.setattr("imgserve.worker.pixels.spawner.FORK_TIMEOUT_S", 0.2)

    async def scenario() -> None:
        async with pool_of(1) as pool:
            stuck, (pid,) = template_of(pool), pool.pids
            stop(stuck)
            os.kill(pid, signal.SIGKILL)
            assert (await small_again(pool)).width_px == 8
            assert template_of(pool) != stuck

    asyncio.run(scenario())


async def small_again(pool: PixelPool):
    """Ask for a small picture once the pool has seen the death."""
    await until(lambda: not pool.pids)
    return await small(pool)


@pytest.mark.parametrize("whose", ["the worker's", "the template's"])
def test_refused_descriptors_are_tried_again(whose, caplog):
    """Where the system refuses a process its place is kept, and filled later; nothing is leaked."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            (pid,), before = pool.pids, descriptors()
            target = os.getpid() if whose == "the worker's" else template_of(pool)
            soft, hard = resource.prlimit(target, resource.RLIMIT_NOFILE)
            resource.prlimit(target, resource.RLIMIT_NOFILE, (3, hard))
            os.kill(pid, signal.SIGKILL)
            try:
                await until(lambda: "a pixel process did not start" in caplog.text)
            finally:
                resource.prlimit(target, resource.RLIMIT_NOFILE, (soft, hard))
            assert (await small(pool)).width_px == 8
            assert descriptors() == before

    asyncio.run(scenario())


def descriptors() -> int:
    """Count what this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_keeper_survives_what_nobody_expected(monkeypatch, caplog):
    """Any exception while a process is served costs that process only; its caller is told."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            (pid,) = pool.pids
            (child,) = [each for each in pool._children if each.pid == pid]

            async def faulty(*_: object) -> None:
                raise RuntimeError("nobody expected this")

            monkeypatch.setattr(child, "call", faulty)
            with pytest.raises(Exception, match="died while it worked"):
                await small(pool)
            assert (await small(pool)).width_px == 8
            assert "nobody expected this" in caplog.text
            assert pool.busy == 0

    asyncio.run(scenario())


def test_processes_are_replaced_by_count():
    """After `process_jobs` jobs the next is another process's; none is lost."""

    async def scenario() -> None:
        async with pool_of(1, process_jobs=3) as pool:
            seen = []
            for _ in range(7):
                seen.append(*pool.pids)
                await small(pool)
                if len(seen) % 3 == 0:
                    await until(lambda: pool.pids not in ([], [seen[-1]]))
            assert [seen.count(pid) for pid in dict.fromkeys(seen)] == [3, 3, 1]

    asyncio.run(scenario())


def test_placeholders_come_from_a_process_of_their_own():
    """They are drawn while all that get pictures stand still, and again when it was killed."""

    async def scenario() -> None:
        async with pool_of(2) as pool:
            for pid in pool.pids:
                stop(pid)
            asked = {"kind": ImageKind.PNG, "height_px": 9, "text": Text.PROCESSING}
            assert (await pool.placeholder(width_px=9, **asked)).width_px == 9
            (drawing,) = set(pool.all_pids) - {*pool.pids, template_of(pool)}
            os.kill(drawing, signal.SIGKILL)
            await until(lambda: drawing not in pool.all_pids)
            assert (await pool.placeholder(width_px=10, **asked)).width_px == 10

    asyncio.run(scenario())


@pytest.mark.parametrize("operation", list(PixelOperation))
@pytest.mark.parametrize("role", list(Role))
def test_role_of_each_operation(role, operation):
    """The process that draws does nothing else, and no other process draws."""
    if (role is Role.DRAW) == (operation is PixelOperation.PLACEHOLDER):
        require_role(role, operation)
    else:
        with pytest.raises(RuntimeError, match=operation.name):
            require_role(role, operation)


def test_what_a_process_says_is_logged(caplog):
    """A locked process may write no file, but its stderr is a pipe; no line is the image's own."""

    async def scenario() -> None:
        async with pool_of(1) as pool:
            child = await pool._spawner.spawn(Role.DRAW)
            await child.ready()
            asked = Request(
                operation=PixelOperation.RESIZE, kind=ImageKind.PNG, size_bytes=len(PNG)
            )
            reply, detail, _ = await child.call(asked, PNG)
            assert (reply.status, reply.fate) == (PixelsFailed.code, Fate.RETIRE)
            assert detail == b"the image could not be processed: RuntimeError"
            await child.close()
            said = f"pixel process {child.pid} says: RuntimeError: RESIZE was asked of a process"
            assert said in caplog.text

    asyncio.run(scenario())


def test_failed_start_says_what_the_process_said(monkeypatch):
    """The sentence of a process that ends before it is ready is in the error."""

    async def scenario() -> None:
        with pytest.raises(ConnectionError, match="require_sandbox is set"):
            async with pool_of(1, require_sandbox=True):
                pass

    # The template inherits what this process may ask of prctl: nothing about seccomp.
    program = (
        "import runpy, sys\n"
        "from imgserve.worker.pixels import sandbox\n"
        "sandbox.seccomp.supported = lambda: 'the test says so'\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_module('imgserve.worker.pixels.template', run_name='__main__', alter_sys=True)\n"
    )
    monkeypatch.setattr(
        "imgserve.worker.pixels.spawner._command",
        lambda settings: [sys.executable, "-c", program, "t", settings.to_json(), str(os.getpid())],
    )
    asyncio.run(scenario())


def test_no_fork_with_threads():
    """A lock that another thread holds would never open in the new process."""
    with pytest.raises(RuntimeError, match="several threads"):
        program = (
            "import threading\n"
            "from imgserve.worker.pixels.forking import fork_sibling\n"
            "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
            "fork_sibling()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 1
        raise RuntimeError(done.stderr)


def test_failed_fork_says_why():
    """The number of the error is the system's."""
    program = (
        "import errno, os, resource\n"
        "from imgserve.worker.pixels.forking import fork_sibling\n"
        "if os.geteuid() == 0:\n    os.setuid(65534)  # root may fork in spite of the limit\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "try:\n    fork_sibling()\n"
        "except OSError as exc:\n    print(errno.errorcode[exc.errno])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "EAGAIN\n"


GCC = "#!/bin/sh\ntouch {trace}\nexit 1\n"


def test_libcairo_is_found_without_compiler_and_without_files(tmp_path: Path):
    """On a read-only system that has gcc nothing can be written, and nothing need be."""
    trace, gcc = tmp_path / "gcc-ran", tmp_path / "gcc"
    gcc.write_text(GCC.format(trace=trace))
    gcc.chmod(0o755)
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from imgserve.worker.pixels.cairo import cairosvg\n"
        'svg = b\'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\'\n'
        "assert cairosvg.svg2png(bytestring=svg)[:4] == b'\\x89PNG'\n"
    )
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, env=environment)
    assert not trace.exists()
