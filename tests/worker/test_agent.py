"""A real worker process against a scripted broker."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator

import psutil
import pytest
from PIL import Image

from imgserve.protocol.events import TurnedAway
from imgserve.protocol.reports import Accepted, Beat, Bye, Done, Failed, Hello, Rejected, Returned
from imgserve.worker.agent import EXIT_TURNED_AWAY
from tests.support.http_server import Reply
from tests.support.lane_double import LaneDouble
from tests.support.requests import resize
from tests.support.sink import StallingSink
from tests.support.until import until
from tests.support.worker_process import WorkerProcess


def noise(side_px: int) -> bytes:
    """A PNG that does not compress: 3 bytes a pixel."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), os.urandom(3 * side_px**2)).save(
        out, "png", compress_level=0
    )
    return out.getvalue()


def test_a_job_is_accepted_and_done(broker, worker, http):
    """A worker says hello, takes its job, reports acceptance and the result's size."""
    broker.expect(Hello, lambda hello: hello.slots == 8 and hello.pid == worker.pid)
    broker.expect(Beat)
    broker.give("j1", resize(http.url("/a.png"), http.url("/out/{$width}-{$basename}.{$ext}")))
    done = broker.expect(Done)
    assert broker.said(Accepted)[0].dst_url == http.url("/out/40-a.png")
    assert (done.width_px, done.height_px) == (40, 30)
    stored = http.stored["/out/40-a.png"]
    assert len(stored) == done.size_bytes
    assert Image.open(io.BytesIO(stored)).size == (40, 30)


def test_files_are_read_and_written_under_their_root(broker, tmp_path, http):
    """A worker with a file root takes file: URLs, and leaves no temporary file behind."""
    root = tmp_path / "root"
    (root / "out").mkdir(parents=True)
    (root / "a.png").write_bytes(http.files["/a.png"])
    with WorkerProcess(broker.connection_file, tmp_path / "log", file_root=[str(root)]):
        broker.expect(Beat)
        broker.give("in", resize(f"file://{root}/a.png", f"file://{root}/out/b.png"))
        broker.expect(Done)
        broker.give("out", resize("file:///etc/a.png", f"file://{root}/out/c.png"))
        assert broker.expect(Rejected).code in (201, 301)
    assert sorted(path.name for path in root.rglob("*")) == ["a.png", "b.png", "out"]


def test_beats_say_what_is_held_and_used(broker, worker, http):
    """A beat lists the jobs held with their attempts, the pixel processes and the vitals."""
    gate = threading.Event()
    http.script["/slow.png"] = [Reply(body=http.files["/a.png"], gate=gate)]
    broker.expect(Beat)
    broker.give("j1", resize(http.url("/slow.png"), http.url("/out.png")), attempt=3)
    beat = broker.expect(Beat, lambda beat: beat.running == (("j1", 3),))
    # Beside them there are the template and the process that draws placeholders.
    assert set(beat.pixel_pids) < {child.pid for child in worker.children()}
    assert len(worker.children()) == len(beat.pixel_pids) + 2
    assert beat.vitals["rss_bytes"] > 10_000_000
    assert beat.vitals["cpu_s"] > 0
    gate.set()
    broker.expect(Done)
    broker.expect(Beat, lambda later: later.running == () and later.seq > beat.seq)


def test_reports_are_said_again_until_acknowledged(broker, worker, http):
    """A report without acknowledgement is sent again, its job listed until then."""
    broker.expect(Beat)
    broker.acks_reports = False
    broker.give("j1", resize(http.url("/a.png"), http.url("/out.png")))
    first, again = broker.expect_count(Done, 2)[:2]
    assert first == again
    assert [report.seq for report in broker.expect_count(Accepted, 2)][:2] == [
        broker.said(Accepted)[0].seq
    ] * 2
    beat = broker.said(Beat)[-1]
    assert beat.running == (("j1", 1),)
    broker.acks_reports = True
    broker.expect(Beat, lambda later: later.seq > beat.seq and not later.running)


def test_a_job_that_comes_twice_is_done_once(broker, worker, http):
    """The same attempt sent again while it is held changes nothing."""
    broker.expect(Beat)
    broker.acks_reports = False
    request = resize(http.url("/a.png"), http.url("/out.png"))
    broker.give("j1", request)
    broker.expect(Done)
    broker.give("j1", request)
    broker.give("j2", resize(http.url("/a.png"), http.url("/other.png")))
    broker.expect(Done, lambda done: done.job_id == "j2")
    uploads = [item for item in http.requests if item.method == "PUT" and item.path == "/out.png"]
    assert len(uploads) == 2


def test_messages_of_another_epoch_or_language_are_skipped(broker, worker, http):
    """A job of another epoch, or a frame that is no message, is ignored; the next one is not."""
    broker.expect(Beat)
    request = resize(http.url("/a.png"), http.url("/out.png"))
    broker.give("old", request, epoch="another")
    broker.send_raw(b"\xc1 no message")
    broker.give("new", request)
    broker.expect(Done, lambda done: done.job_id == "new")
    assert broker.said(Accepted, "old") == []
    assert "unreadable" in worker.log


@pytest.fixture
def sink() -> Iterator[StallingSink]:
    """A destination that stalls at /slow.png."""
    with StallingSink() as sink:
        sink.stalled.add("/slow.png")
        yield sink


def big_job(http, sink) -> bytes:
    """A job whose result is about 6 MB, on its way to a destination that stalls."""
    http.files["/noise.png"] = noise(1450)
    return resize(http.url("/noise.png"), sink.url("/slow.png"), width=1400, height=1400)


def test_a_worker_that_hears_nothing_stops_its_uploads(tmp_path, http, sink):
    """When its lease ends an upload in flight breaks off, and nothing is reported for it."""
    with (
        LaneDouble(tmp_path, lease_s=1.5) as broker,
        WorkerProcess(broker.connection_file, tmp_path / "log") as worker,
    ):
        broker.expect(Beat)
        broker.give("j1", big_job(http, sink), accepted=True)
        sink.wait_for(sink.begun, "/slow.png")
        first = broker.incarnation
        broker.acks_beats = False
        broker.expect(Hello, lambda hello: hello.incarnation != first)
        sink.release()
        sink.wait_for(sink.broken, "/slow.png")
        assert sink.finished == []
        broker.acks_beats = True
        broker.expect(Beat, lambda beat: beat.incarnation != first and not beat.running)
        assert broker.said(Done) + broker.said(Failed) + broker.said(Returned) == []
        assert "nothing was heard" in worker.log


def test_a_restarted_broker_gets_a_fresh_incarnation(broker, worker, http, sink):
    """A beat of another epoch ends the incarnation: uploads break off, and a new one says hello."""
    broker.expect(Beat)
    first, epoch = broker.incarnation, broker.epoch
    broker.give("j1", big_job(http, sink), accepted=True)
    sink.wait_for(sink.begun, "/slow.png")
    broker.restart()
    broker.expect(Hello, lambda hello: hello.incarnation != first)
    sink.release()
    sink.wait_for(sink.broken, "/slow.png")
    broker.expect(Beat, lambda beat: beat.epoch != epoch and beat.incarnation != first)
    broker.give("j2", resize(http.url("/a.png"), http.url("/out.png")))
    broker.expect(Done, lambda done: done.job_id == "j2" and done.epoch == broker.epoch)
    assert broker.said(Failed) == []


def test_a_worker_that_is_turned_away_comes_back_anew(broker, worker):
    """Turned away, but not for good, a worker says hello with a fresh incarnation."""
    broker.expect(Beat)
    first = broker.incarnation
    broker.turn_away(final=False)
    broker.expect(Beat, lambda beat: beat.incarnation != first)


def test_a_worker_that_is_turned_away_for_good_ends(broker, worker):
    """Turned away for good, a worker says why in its log and exits with its own code."""
    broker.expect(Beat)
    broker.turn_away(final=True)
    assert worker.wait() == EXIT_TURNED_AWAY
    assert "the test said so" in worker.log


def test_a_message_to_another_incarnation_changes_nothing(broker, worker):
    """A welcome or refusal that names another incarnation is not for this one."""
    broker.expect(Beat)
    away = TurnedAway(broker.epoch, "somebody-else", True, "not you")
    broker.publish(broker.incarnation, away)
    seen = broker.said(Beat)[-1].seq
    broker.expect(Beat, lambda beat: beat.seq > seen + 3)
    assert len({beat.incarnation for beat in broker.said(Beat)}) == 1


def test_a_worker_waits_for_the_connection_file(tmp_path, http):
    """A worker that starts before its broker joins when the file is there."""
    folder = tmp_path / "later"
    with WorkerProcess(folder / "connection.json", tmp_path / "log") as worker:
        until(lambda: "waiting for the broker" in worker.log)
        folder.mkdir()
        with LaneDouble(folder) as broker:
            broker.expect(Beat)


def test_hello_is_repeated_until_welcome(tmp_path):
    """A hello that gets no answer is said again with the same incarnation."""
    with (
        LaneDouble(tmp_path, welcomes=False) as broker,
        WorkerProcess(broker.connection_file, tmp_path / "log"),
    ):
        hellos = broker.expect_count(Hello, 3)
        assert len({hello.incarnation for hello in hellos}) == 1
        broker.welcomes = True
        broker.expect(Beat, lambda beat: beat.incarnation == hellos[0].incarnation)


@pytest.mark.parametrize("how", ["signal", "lane"])
def test_a_drain_gives_back_finishes_and_ends(broker, worker, http, how):
    """A drained worker returns what it had not begun, finishes the rest, says bye, exits 0."""
    gate = threading.Event()
    body = noise(100)  # longer than the head that is waited for
    http.script["/never.png"] = [Reply(body=body, gate=threading.Event())]
    http.script["/begun.png"] = [Reply(body=body, gate=gate, gate_at=len(body) - 5)]
    broker.expect(Beat)
    broker.give("new", resize(http.url("/never.png"), http.url("/never.png")))
    broker.give("begun", resize(http.url("/begun.png"), http.url("/out.png")))
    broker.expect(Accepted)
    worker.terminate() if how == "signal" else broker.drain()
    returned = broker.expect(Returned)
    assert (returned.job_id, returned.reason) == ("new", "drained")
    broker.give("late", resize(http.url("/a.png"), http.url("/late.png")))
    broker.expect(Returned, lambda report: report.job_id == "late" and report.reason == "drained")
    assert broker.said(Done) == []
    gate.set()
    assert worker.wait() == 0
    assert broker.expect(Done).job_id == "begun"
    broker.expect(Bye)
    assert "/late.png" not in http.stored


def test_a_drain_ends_in_time(broker, tmp_path, http):
    """What is not finished when the time to drain is over goes back, and the worker exits 0."""
    body = noise(100)  # longer than the head that is waited for
    slow = Reply(body=body, gate=threading.Event(), gate_at=len(body) - 5)
    http.script["/begun.png"] = [slow]
    with WorkerProcess(broker.connection_file, tmp_path / "log", drain_timeout_s=0.3) as worker:
        broker.expect(Beat)
        broker.give("begun", resize(http.url("/begun.png"), http.url("/out.png")))
        broker.expect(Accepted)
        worker.terminate()
        assert broker.expect(Returned).reason == "drained"
        assert worker.wait() == 0


def test_a_worker_can_be_ended_while_it_waits_for_its_broker(tmp_path):
    """Without a broker there is nothing to drain: the worker exits 0 at once."""
    with WorkerProcess(tmp_path / "connection.json", tmp_path / "log") as worker:
        until(lambda: "waiting for the broker" in worker.log)
        worker.terminate()
        assert worker.wait() == 0


def test_a_cancelled_job_ends_with_406(broker, worker, http):
    """Cancelled after acceptance, a job's placeholder is replaced; before, nothing is uploaded."""
    body = noise(100)  # longer than the head that is waited for
    http.script["/none.png"] = [Reply(body=body, gate=threading.Event())]
    http.script["/half.png"] = [Reply(body=body, gate=threading.Event(), gate_at=len(body) - 5)]
    broker.expect(Beat)
    broker.give("before", resize(http.url("/none.png"), http.url("/before.png")))
    broker.give("after", resize(http.url("/half.png"), http.url("/after.png")))
    broker.expect(Accepted)
    broker.cancel("before")
    broker.cancel("after", attempt=2)
    broker.cancel("after")
    failed = broker.expect_count(Failed, 2)
    assert {(report.job_id, report.code) for report in failed} == {("before", 406), ("after", 406)}
    puts = [item.path for item in http.requests if item.method == "PUT"]
    assert puts == ["/after.png", "/after.png"]


def test_a_killed_pixel_process_returns_only_its_job(tmp_path, http):
    """The job of a killed pixel process goes back as crashed; others end well."""
    http.files["/noise.png"] = noise(1200)
    with (
        LaneDouble(tmp_path) as broker,
        WorkerProcess(broker.connection_file, tmp_path / "log") as worker,
    ):
        beat = broker.expect(Beat, lambda beat: beat.pixel_pids)
        child = psutil.Process(beat.pixel_pids[0])
        child.send_signal(signal.SIGSTOP)
        broker.give("j1", resize(http.url("/noise.png"), http.url("/1.png")), accepted=True)
        broker.give("j2", resize(http.url("/a.png"), http.url("/2.png")), accepted=True)
        until(lambda: len([item for item in http.requests if item.method == "GET"]) == 2)
        # The bytes are on their way to the process that stands still.
        until(lambda: psutil.Process(worker.pid).cpu_percent(0.1) < 20)
        child.kill()
        returned = broker.expect(Returned)
        assert (returned.reason, returned.code) == ("crashed", 405)
        other = "j1" if returned.job_id == "j2" else "j2"
        assert broker.expect(Done).job_id == other
        broker.expect(Beat, lambda beat: beat.pixel_pids and child.pid not in beat.pixel_pids)


def test_a_large_source_is_fetched_within_the_memory(broker, tmp_path, http):
    """A source over its slot's share of memory is fetched anew with more, and done."""
    http.files["/noise.png"] = noise(600)
    with WorkerProcess(broker.connection_file, tmp_path / "log", download_memory_bytes=8_000_000):
        broker.expect(Beat)
        for number in range(8):
            request = resize(http.url("/noise.png"), http.url(f"/{number}.png"))
            broker.give(f"j{number}", request)
        broker.expect_count(Done, 8)


def test_results_wait_for_slow_destinations_within_the_memory(broker, tmp_path, http):
    """Large ones are not made before there is room for them; small ones pass them by."""
    http.files["/noise.png"] = noise(600)
    gate = threading.Event()
    large = [f"/{number}.png" for number in range(7)]
    for path in large:
        # The placeholder, and then a result that nobody has taken until the gate is open.
        http.script[path] = [Reply(201), Reply(201, gate=gate, body=b"x")]

    def results() -> list[int]:
        return [size for each in http.requests if (size := len(each.body)) > 1_000_000]

    # Of 8 MB half is the 8 slots' own, and 4 are shared by results of 1.08 MB.
    with WorkerProcess(broker.connection_file, tmp_path / "log", upload_memory_bytes=8_000_000):
        broker.expect(Beat)
        for path in large:
            request = resize(http.url("/noise.png"), http.url(path), width=600, height=600)
            broker.give(path.strip("/"), request)
        until(lambda: len(results()) >= 3 and len(broker.said(Accepted)) == 7)
        broker.give("small", resize(http.url("/a.png"), http.url("/small.png")))
        assert broker.expect(Done).job_id == "small"
        assert len(results()) == 3
        gate.set()
        broker.expect_count(Done, 8)
