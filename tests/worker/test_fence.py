"""The fence: what a worker may no longer send, it does not send, whatever woke first."""

from __future__ import annotations

import asyncio
import socket
import time

from imgserve.worker.fence import Fence, FencedEventLoop, running_fence
from imgserve.worker.transfers.beneath import write_beneath
from imgserve.worker.transfers.parcel import anonymous


def run_fenced(coroutine):
    """Run a coroutine on a loop with a fence."""
    with asyncio.Runner(loop_factory=FencedEventLoop) as runner:
        return runner.run(coroutine)


def test_the_end_of_a_lease_comes_before_sockets_that_are_ready():
    """A loop that slept past the lease ends the session before it writes to a ready socket."""
    happened = []

    async def live():
        loop = asyncio.get_running_loop()
        lease_ends_s = time.monotonic() + 0.05
        running_fence().guard(
            lambda: time.monotonic() < lease_ends_s,
            lambda: (happened.append("end"), loop.remove_writer(ours)),
        )
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            loop.add_writer(ours, lambda: happened.append("write"))
            time.sleep(0.1)  # noqa: ASYNC251 (the whole process stops, as by SIGSTOP)
            await asyncio.sleep(0.05)

    run_fenced(live())
    assert happened == ["end"]


def test_a_lease_that_holds_lets_everything_through():
    """While the lease holds, the fence changes nothing."""

    async def live():
        fence = running_fence()
        fence.guard(lambda: True, lambda: None)
        assert fence.open()
        reader, writer = await asyncio.open_connection(sock=pair[0])
        pair[1].send(b"x")
        assert await reader.read(1) == b"x"
        writer.close()
        await writer.wait_closed()

    pair = socket.socketpair()
    with pair[1]:
        run_fenced(live())


def test_the_session_is_ended_once():
    """A fence that has ended its session lets the loop clean up."""
    ended = []
    fence = Fence()
    fence.guard(lambda: False, lambda: ended.append(1))
    assert not fence.let_through()
    assert fence.let_through()
    assert ended == [1]
    assert not fence.open()


def test_nothing_may_be_sent_before_a_session():
    """Without a session there is no lease."""
    assert not Fence().open()


def test_a_file_does_not_appear_after_the_lease(tmp_path):
    """A write that the disk held up past the lease leaves the former file as it was."""
    (tmp_path / "a.png").write_bytes(b"result")
    try:
        write_beneath(
            tmp_path, "a.png", b"late placeholder", by=anonymous(), may_appear=lambda: False
        )
    except OSError:
        pass
    assert (tmp_path / "a.png").read_bytes() == b"result"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
