"""One attempt's life: every way it goes and every code it can end with."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from imgserve.errors import (
    DestinationForbidden,
    PixelProcessDied,
    PixelsFailed,
    PixelsTimedOut,
    SourceForbidden,
    SourceTooLarge,
    SourceTooManyPixels,
    SourceUnreachable,
    SvgInvalid,
    UploadFailed,
)
from imgserve.worker.pixels import Text
from tests.support.job_fakes import SVG, Script, a_job, live, payload, png_head

PLACEHOLDER, FAILURE = Text.PROCESSING.value, Text.FAILED.value


def test_a_good_job_uploads_a_placeholder_then_the_result():
    """The placeholder is up before acceptance is reported, the result before done."""
    bench = live(a_job(), Script())
    assert bench.kinds == ["accepted", "done"]
    assert bench.script.uploads == [PLACEHOLDER, "result"]
    assert bench.reports[0].dst_url == "http://127.0.0.1/out/a.png"
    assert [report.seq for report in bench.reports] == [1, 2]
    done = bench.final
    assert (done.width_px, done.height_px, done.size_bytes) == (40, 30, 6)
    assert set(done.seconds) == {"fetch", "placeholder", "accepted", "pixels", "upload", "total"}


def test_a_later_attempt_uploads_no_placeholder():
    """An attempt at an accepted job uploads only the result, and reports only done."""
    bench = live(a_job(accepted=True), Script())
    assert bench.kinds == ["done"]
    assert bench.script.uploads == ["result"]


def test_the_renderer_asked_for_is_used():
    """A request that names a renderer gets that one."""
    args = {"width": 4, "height": 3, "method": "PUT", "renderer": "cairosvg"}
    svg = payload(operationType="rasterize", srcURL="http://127.0.0.1/a.svg", args=args)
    bench = live(a_job(payload=svg), Script())
    assert bench.final.KIND == "done"
    assert bench.script.rendered == [{"width_px": 4, "height_px": 3, "renderer": "cairosvg"}]


BEFORE: list[tuple[int, Script]] = [
    (201, Script(head_error=SourceUnreachable())),
    (206, Script(head_error=SourceTooLarge())),
    (301, Script(head_error=SourceForbidden())),
    (202, Script(source=b"no image at all, whatever its name says")),
    (203, Script(source=png_head(39, 300))),
    (203, Script(source=png_head(400, 29))),
    (207, Script(source=png_head(1001, 1000))),
    (208, Script(source=b"GIF89a\x90\x01\x2c\x01" + bytes(32))),
    (205, Script(placeholder_error=UploadFailed("no"))),
    (302, Script(placeholder_error=DestinationForbidden("no"))),
]


@pytest.mark.parametrize(("code", "script"), BEFORE)
def test_what_is_found_before_acceptance_rejects(code, script):
    """Trouble with source or destination before acceptance is a rejection with its own code."""
    bench = live(a_job(), script)
    assert bench.kinds == ["rejected"]
    assert bench.final.code == code
    assert bench.script.uploads == []


@pytest.mark.parametrize(
    ("size", "code"), [((50, 40), 0), ((20, 100), 0), ((50, 41), 115), ((1, 101), 115)]
)
def test_the_workers_own_limits_of_results_hold(size, code):
    """Whatever gateway or native client let the request through; nothing is fetched for it."""
    args = {"width": size[0], "height": size[1], "method": "PUT"}
    bench = live(a_job(payload=payload(args=args)), Script(source=png_head(1000, 1000)))
    assert (bench.final.KIND, getattr(bench.final, "code", 0)) == (
        ("rejected", code) if code else ("done", 0)
    )
    assert bool(bench.script.fetched) is not bool(code)


def test_a_job_that_another_worker_accepted_and_this_one_may_not_do_says_so_at_its_destination():
    """Where workers have different limits: the placeholder does not stand for ever."""
    args = {"width": 1, "height": 101, "method": "PUT"}
    bench = live(a_job(payload=payload(args=args), accepted=True), Script())
    assert (bench.kinds, bench.final.code) == (["failed"], 401)
    assert bench.script.uploads == [FAILURE]


@pytest.mark.parametrize("size", [(40, 30), (1000, 1000)])
def test_a_source_at_its_limits_is_taken(size):
    """A source exactly as large as the result, or as the pixel limit, will do."""
    assert live(a_job(), Script(source=png_head(*size))).final.KIND == "done"


def test_an_invalid_svg_is_rejected():
    """An SVG is checked as a whole before acceptance."""
    bench = live(a_job(payload=SVG), Script(svg_error=SvgInvalid("no")))
    assert (bench.kinds, bench.final.code) == (["rejected"], 204)
    assert bench.script.fetched == [1000]


def test_a_request_that_does_not_pass_the_checks_is_rejected():
    """A native client's request is held to the same checks as the gateway's."""
    bench = live(a_job(payload=payload(operationType="melt")), Script())
    assert (bench.kinds, bench.final.code) == (["rejected"], 102)
    bench = live(a_job(payload=b"{"), Script())
    assert (bench.kinds, bench.final.code) == (["rejected"], 101)


AFTER: list[tuple[int, Script]] = [
    (403, Script(body_error=SourceUnreachable("gone"))),
    (403, Script(body_error=SourceTooLarge("more"))),
    (401, Script(pixels_error=PixelsFailed("no"))),
    (401, Script(pixels_error=SourceTooManyPixels("scans"))),
    (402, Script(pixels_error=PixelsTimedOut("no"))),
    (404, Script(result_error=UploadFailed("no"))),
    (404, Script(result_error=DestinationForbidden("no"))),
    (401, Script(pixels_error=ValueError("a bug"))),
]


@pytest.mark.parametrize(("code", "script"), AFTER)
def test_after_acceptance_a_failure_replaces_the_placeholder(code, script):
    """After acceptance every failure is 4xx, and the failure placeholder is uploaded."""
    bench = live(a_job(), script)
    assert bench.kinds == ["accepted", "failed"]
    assert bench.final.code == code
    assert bench.script.uploads == [PLACEHOLDER, FAILURE]


LATER: list[tuple[int, dict[str, Any], Script]] = [
    (403, {}, Script(head_error=SourceUnreachable())),
    (403, {}, Script(head_error=SourceTooLarge())),
    (403, {}, Script(head_error=SourceForbidden())),
    (401, {}, Script(source=b"no image at all, whatever its name says")),
    (401, {}, Script(source=png_head(39, 300))),
    (401, {}, Script(source=png_head(1001, 1000))),
    (401, {}, Script(source=b"GIF89a\x90\x01\x2c\x01" + bytes(32))),
    (401, {"payload": SVG}, Script(svg_error=SvgInvalid("no"))),
    (404, {}, Script(result_error=DestinationForbidden("no"))),
]


@pytest.mark.parametrize(("code", "fields", "script"), LATER)
def test_an_accepted_job_only_fails(code, fields, script):
    """What a later attempt finds wrong with an accepted job is a failure, never a rejection."""
    bench = live(a_job(accepted=True, **fields), script)
    assert bench.kinds == ["failed"]
    assert bench.final.code == code
    assert bench.script.uploads == [FAILURE]


def test_transient_trouble_gives_the_job_back():
    """Trouble that may pass returns the job with the code it would have had and the delay."""
    slow = SourceUnreachable("503", retryable=True, retry_after_s=7)
    returned = live(a_job(), Script(head_error=slow)).final
    assert (returned.KIND, returned.reason, returned.code) == ("returned", "transient", 201)
    assert returned.delay_s == 7
    full = Script(placeholder_error=UploadFailed("full", retryable=True))
    assert (live(a_job(), full).final.KIND, full.uploads) == ("returned", [])
    late = Script(result_error=UploadFailed("full", retryable=True))
    bench = live(a_job(), late)
    assert (bench.kinds, bench.final.code) == (["accepted", "returned"], 404)
    assert late.uploads == [PLACEHOLDER]


def test_a_refused_job_replaces_what_a_lost_attempt_may_have_left():
    """A refusal uploads nothing, but after a lost attempt a placeholder may stand there."""
    gone = SourceUnreachable("404")
    for touched, uploads in ((False, []), (True, [FAILURE])):
        bench = live(a_job(touched=touched), Script(head_error=gone))
        assert (bench.final.KIND, bench.final.code) == ("rejected", 201)
        assert bench.script.uploads == uploads


def test_a_touched_job_that_goes_well_is_like_any_other():
    """After a lost attempt that was not accepted, placeholder and result go up again."""
    bench = live(a_job(touched=True), Script())
    assert bench.kinds == ["accepted", "done"]
    assert bench.script.uploads == [PLACEHOLDER, "result"]


def test_a_dead_pixel_process_is_a_crash_of_the_job():
    """A job whose pixel process dies goes back as crashed; the placeholder stays for now."""
    bench = live(a_job(), Script(pixels_error=PixelProcessDied()))
    assert (bench.final.KIND, bench.final.reason, bench.final.code) == ("returned", "crashed", 405)
    assert bench.script.uploads == [PLACEHOLDER]


def test_pixel_trouble_before_acceptance_is_a_failure_without_upload():
    """A 4xx found before any placeholder was up fails the job and uploads nothing."""
    bench = live(a_job(payload=SVG), Script(svg_error=PixelsTimedOut("slow")))
    assert (bench.kinds, bench.final.code, bench.script.uploads) == (["failed"], 402, [])


def test_a_verdict_is_carried_out():
    """A job with a verdict is not worked on: failure placeholder, then failed with that code."""
    bench = live(a_job(verdict=405, detail="died thrice", accepted=True), Script())
    assert (bench.final.KIND, bench.final.code) == ("failed", 405)
    assert bench.final.detail == "died thrice"
    assert bench.script.reached == [f"upload {FAILURE}"]


def test_a_verdict_on_nonsense_is_reported_all_the_same():
    """A verdict on a payload without a destination is reported without an upload."""
    bench = live(a_job(verdict=406, payload=b"["), Script())
    assert (bench.final.KIND, bench.final.code, bench.script.uploads) == ("failed", 406, [])


def test_a_failure_placeholder_that_fails_is_only_noted():
    """Trouble with the failure placeholder is said in the detail; the code stays."""
    script = Script(pixels_error=PixelsFailed("bad pixels"), failed_error=UploadFailed("full disk"))
    failed = live(a_job(), script).final
    assert failed.code == 401
    assert failed.detail == ("bad pixels (the placeholder could not be replaced: full disk)")


@pytest.mark.parametrize("name", ["render_text_error", "failed_error"])
def test_a_bug_on_the_way_out_leaves_no_slot_taken(name, caplog):
    """Even an unexpected error while failing ends in a final report, with a trace in the log."""
    script = Script(pixels_error=PixelsFailed("bad pixels"), **{name: ValueError("a bug")})
    bench = live(a_job(accepted=True), script)
    assert (bench.final.KIND, bench.final.code) == ("failed", 401)
    assert "a bug" in caplog.text


def test_details_fit_into_a_report():
    """A detail longer than a report takes is cut."""
    script = Script(pixels_error=PixelsFailed("x" * 10_000), failed_error=UploadFailed("y"))
    bench = live(a_job(accepted=True), script)
    assert len(bench.final.detail) == 4096
    assert bench.final.code == 401
    assert "x" * 4096 in bench.final.detail


def test_a_finished_job_is_one_line_without_secrets(caplog):
    """A job's end is one line with its id and seconds; user info and query are left out."""
    secret = payload(
        srcURL="http://me:word@127.0.0.1/a.png?token=t", dstURL="http://127.0.0.1/out/a.png"
    )
    with caplog.at_level(logging.INFO, logger="imgserve"):
        live(a_job(payload=secret), Script())
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("job j done in 0.")
    assert "http://127.0.0.1/a.png -> http://127.0.0.1/out/a.png" in line
    assert "word" not in line
    assert "token" not in line
