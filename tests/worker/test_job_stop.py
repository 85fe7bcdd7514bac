"""An attempt that is ended early: cancelled, drained, abandoned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from imgserve.errors import PixelsFailed
from imgserve.protocol.lane import Job
from imgserve.worker.pixels import Text
from tests.support.job_fakes import Bench, Script, a_job, live

PLACEHOLDER, FAILURE = Text.PROCESSING.value, Text.FAILED.value


def stopped_at(
    step: str, stop: Callable[[Bench], Any], job: Job | None = None, **script: Any
) -> Bench:
    """Live an attempt that is stopped while it waits at a step, which then goes on."""

    async def life() -> Bench:
        gate = asyncio.Event()
        bench = Bench(job or a_job(), Script(gates={step: gate}, **script))
        task = bench.start()
        await bench.until(step)
        stop(bench)
        await asyncio.sleep(0)
        gate.set()
        await asyncio.wait([task], timeout=5)
        assert task.done()
        return bench

    return asyncio.run(life())


def cancel(bench: Bench) -> None:
    """As the submitter."""
    bench.attempt.cancel()


def drain(bench: Bench) -> None:
    """As a worker that is asked to end."""
    bench.attempt.drain(at_once=False)


def drain_at_once(bench: Bench) -> None:
    """As a worker whose time to drain is over."""
    bench.attempt.drain(at_once=True)


def abandon(bench: Bench) -> None:
    """As a worker whose lease is over."""
    bench.attempt.abandon()


def test_a_cancelled_job_without_placeholder_uploads_nothing():
    """Cancelled while the head is awaited, the fetch is aborted and nothing is uploaded."""
    bench = stopped_at("head", cancel)
    assert (bench.kinds, bench.final.code) == (["failed"], 406)
    assert (bench.script.uploads, bench.script.aborted) == ([], ["head"])


def test_a_cancel_during_the_placeholder_lets_it_finish_and_replaces_it():
    """An upload in flight is finished; then the failure placeholder replaces it."""
    bench = stopped_at(f"upload {PLACEHOLDER}", cancel)
    assert (bench.kinds, bench.final.code) == (["failed"], 406)
    assert bench.script.uploads == [PLACEHOLDER, FAILURE]
    assert bench.script.aborted == []


@pytest.mark.parametrize("step", ["body", "pixels"])
def test_a_cancel_after_acceptance_replaces_the_placeholder(step):
    """Cancelled while body or pixels are awaited, that wait ends at once."""
    bench = stopped_at(step, cancel)
    assert (bench.kinds, bench.final.code) == (["accepted", "failed"], 406)
    assert (bench.script.uploads, bench.script.aborted) == ([PLACEHOLDER, FAILURE], [step])


def test_a_cancel_of_a_later_attempt_replaces_the_earlier_placeholder():
    """The placeholder of an earlier attempt is replaced too."""
    bench = stopped_at("head", cancel, a_job(accepted=True))
    assert (bench.final.code, bench.script.uploads) == (406, [FAILURE])


def test_a_cancel_during_the_last_upload_comes_too_late():
    """A result on its way is finished, and the job is done."""
    bench = stopped_at("upload result", cancel)
    assert bench.kinds == ["accepted", "done"]


def test_cancelling_twice_is_cancelling_once():
    """A second cancellation does not stop the failure placeholder."""
    bench = stopped_at(f"upload {FAILURE}", cancel, pixels_error=PixelsFailed("no"))
    assert (bench.final.code, bench.script.uploads) == (401, [PLACEHOLDER, FAILURE])


def test_a_job_cancelled_before_its_first_step_ends():
    """A cancellation that comes before the attempt's task has run is not lost."""

    async def life() -> Bench:
        bench = Bench(a_job(), Script())
        task = bench.start()
        bench.attempt.cancel()
        await asyncio.wait_for(task, 5)
        return bench

    bench = asyncio.run(life())
    assert (bench.kinds, bench.final.code, bench.script.reached) == (["failed"], 406, [])


def test_a_drain_gives_back_what_has_uploaded_nothing():
    """A job that waits for its source goes back and burns no attempt."""
    bench = stopped_at("head", drain)
    assert (bench.final.KIND, bench.final.reason) == ("returned", "drained")
    assert bench.script.uploads == []


@pytest.mark.parametrize("step", [f"upload {PLACEHOLDER}", "body", "pixels", "upload result"])
def test_a_drain_lets_a_job_finish_that_has_begun_to_upload(step):
    """Once the placeholder is on its way the job is finished."""
    assert stopped_at(step, drain).kinds == ["accepted", "done"]


@pytest.mark.parametrize("step", [f"upload {PLACEHOLDER}", "body", "pixels", "upload result"])
def test_when_the_time_to_drain_is_over_everything_goes_back(step):
    """At the end of the time, uploads are aborted too and the job goes back."""
    bench = stopped_at(step, drain_at_once)
    assert (bench.final.KIND, bench.final.reason) == ("returned", "drained")
    assert bench.script.aborted == [step]


def test_when_the_time_to_drain_is_over_a_failure_is_reported_as_it_is():
    """A failure whose placeholder cannot be replaced in time stays a failure."""
    bench = stopped_at(f"upload {FAILURE}", drain_at_once, pixels_error=PixelsFailed("no"))
    assert (bench.final.KIND, bench.final.code) == ("failed", 401)
    assert "could not be replaced" in bench.final.detail


@pytest.mark.parametrize(
    "step", ["head", f"upload {PLACEHOLDER}", "body", "pixels", "upload result"]
)
def test_an_abandoned_attempt_stops_everything_and_says_nothing(step):
    """Abandoned, an attempt aborts transfers and pixels and reports nothing more."""
    bench = stopped_at(step, abandon)
    assert bench.script.aborted == [step]
    assert "done" not in bench.kinds
    assert "failed" not in bench.kinds


def test_an_abandoned_attempt_does_not_replace_its_placeholder():
    """Abandoned while it fails, an attempt leaves the destination to the next one."""
    bench = stopped_at(f"upload {FAILURE}", abandon, pixels_error=PixelsFailed("no"))
    assert (bench.kinds, bench.script.uploads) == (["accepted"], [PLACEHOLDER])


@pytest.mark.parametrize("refused", [1, 2])
def test_no_upload_begins_once_the_lease_is_over(refused):
    """An attempt that comes to an upload after the lease uploads nothing and says nothing."""
    asked: list[int] = []

    def may_upload() -> bool:
        asked.append(1)
        return len(asked) < refused

    async def life() -> Bench:
        bench = Bench(a_job(), Script(), may_upload=may_upload)
        await asyncio.wait([bench.start()], timeout=5)
        return bench

    bench = asyncio.run(life())
    assert bench.script.uploads == [PLACEHOLDER][: refused - 1]
    assert bench.kinds == ["accepted"][: refused - 1]


def test_cancelled_pixels_are_an_error_of_the_job_and_not_its_end():
    """A cancellation that nobody asked for, from inside the pool, ends in a final report."""
    bench = live(a_job(), Script(pixels_error=asyncio.CancelledError()))  # type: ignore[arg-type]
    assert (bench.final.KIND, bench.final.code) == ("failed", 401)
