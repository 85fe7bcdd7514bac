"""The command line as its users run it, on a service that runs as a daemon."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.http_server import HttpServer, Reply
from tests.support.service import Answer, Service, command, eventually, exchange

PHOTO = images.jpeg(400, 300)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service as `imgserve start` leaves it behind."""
    flags = ("--processes", "1", "--retry-limit", "0")
    with Service(tmp_path_factory.mktemp("daemon"), *flags, daemon=True) as service:
        yield service


def asked(web: HttpServer, name: str, number: int, source: str = "photo.jpg") -> dict[str, Any]:
    """A request with a destination of its own."""
    return {
        "operationType": "resize",
        "srcURL": web.url(f"/{name}/{source}"),
        "dstURL": web.url(f"/{name}/{number}.jpg"),
        "args": {"width": 120, "height": 80, "method": "PUT"},
    }


def json_lines(text: str) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_daemon_says_where_it_serves_and_is_started_once(daemon: Service):
    """`start` returns when it serves; a second one is refused and changes nothing."""
    assert f"serves {daemon.url} (pid {daemon.record['pid']}" in daemon.said
    again = daemon.run("start", "-port", "0", "--broker-port", "0")
    assert again.returncode == 4
    assert f"runs already (pid {daemon.record['pid']}" in again.stderr
    assert daemon.send("GET", "/readyz").status == 200


def test_status_names_every_process(daemon: Service):
    """The pids that it says are the processes there are."""
    shown = daemon.run("status", "--json")
    assert shown.returncode == 0
    status = json.loads(shown.stdout)
    (worker,) = status["workers"]
    pids = [status["gateway"], status["broker"], worker["pid"], *worker["pixel_pids"]]
    assert len(set(pids)) == len(pids) == 4
    for pid in pids:
        os.kill(pid, 0)
    assert (status["url"], status["ready"]) == (daemon.url, True)
    text = daemon.run("status")
    assert text.returncode == 0
    assert daemon.url in text.stdout


def test_submit_prints_an_outcome_for_each_line(
    daemon: Service, web: HttpServer, name: str, tmp_path: Path
):
    """Good and bad lines each have their outcome, under their number; the exit code is 1."""
    web.files[f"/{name}/photo.jpg"] = PHOTO
    web.files[f"/{name}/broken.jpg"] = PHOTO[:5000]
    lines = [
        json.dumps(asked(web, name, 1)),
        "",
        json.dumps(asked(web, name, 3, "missing.jpg")),
        "no JSON",
        json.dumps(asked(web, name, 5) | {"operationType": "turn"}),
        json.dumps(asked(web, name, 6, "broken.jpg")),
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(lines))
    done = daemon.run("submit", str(file))
    assert done.returncode == 1
    outcomes = {each["line"]: each for each in json_lines(done.stdout)}
    assert len(outcomes) == len(done.stdout.splitlines()) == 5
    assert outcomes[1]["state"] == "done"
    assert outcomes[1]["dstURL"] == web.url(f"/{name}/1.jpg")
    assert outcomes[1]["bytes"] == len(web.stored[f"/{name}/1.jpg"])
    seen = {line: (each["state"], each.get("code")) for line, each in outcomes.items()}
    assert seen == {
        1: ("done", None),
        3: ("rejected", 201),
        4: ("rejected", 0),
        5: ("rejected", 102),
        6: ("failed", 401),
    }
    assert "1 done, 1 failed, 3 rejected in " in done.stderr


def test_submit_reads_standard_input_and_prints_as_jobs_end(
    daemon: Service, web: HttpServer, name: str
):
    """The slow first line comes last; with every job done the exit code is 0."""
    web.files[f"/{name}/photo.jpg"] = PHOTO
    gate = threading.Event()
    web.script[f"/{name}/slow.jpg"] = [Reply(body=PHOTO, gate=gate)]
    requests = [asked(web, name, 1, "slow.jpg"), *(asked(web, name, n) for n in range(2, 6))]
    with subprocess.Popen(
        command("submit", "--state", str(daemon.state), "-"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(json.dumps(each) + "\n" for each in requests))
        process.stdin.close()
        printed = [json.loads(process.stdout.readline())["line"] for _ in range(4)]
        gate.set()
        printed.append(json.loads(process.stdout.readline())["line"])
        assert process.wait(30) == 0
    assert sorted(printed[:4]) == [2, 3, 4, 5]
    assert printed[4] == 1


def test_submit_shows_a_progress_bar_on_a_terminal(
    daemon: Service, web: HttpServer, name: str, tmp_path: Path
):
    """The bar is on the terminal, the outcomes alone on standard output."""
    web.files[f"/{name}/photo.jpg"] = PHOTO
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(json.dumps(asked(web, name, n)) + "\n" for n in range(20)))
    terminal, other_end = os.openpty()
    try:
        done = daemon.run(
            "submit", str(file), capture_output=False, stdout=subprocess.PIPE, stderr=other_end,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
        )  # fmt: skip
    finally:
        os.close(other_end)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: everything has been read
        while chunk := os.read(terminal, 65536):
            shown += chunk
    os.close(terminal)
    assert done.returncode == 0
    assert {each["state"] for each in json_lines(done.stdout)} == {"done"}
    text = shown.decode()
    assert "20 jobs" in text
    assert "100%" in text
    assert "20 done in " in text


def test_batch_of_the_same_name_is_done_once(
    daemon: Service, web: HttpServer, name: str, tmp_path: Path
):
    """Submitting a named file again gives the outcomes again, without any new work."""
    web.files[f"/{name}/photo.jpg"] = PHOTO
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(json.dumps(asked(web, name, n)) + "\n" for n in range(5)))
    first = daemon.run("submit", "--name", "monday", str(file))
    requests = len(web.requests)
    again = daemon.run("submit", "--name", "monday", str(file))
    assert (first.returncode, again.returncode) == (0, 0)
    assert len(web.requests) == requests
    by_line = [sorted(json_lines(each.stdout), key=lambda o: o["line"]) for each in (first, again)]
    assert by_line[0] == by_line[1]


def test_dead_letter_is_listed_shown_retried_and_dropped(
    daemon: Service, web: HttpServer, name: str
):
    """A failed job can be looked at, done again as a new job, and forgotten."""
    web.files[f"/{name}/broken.jpg"] = PHOTO[:5000]
    job_id = daemon.submit(asked(web, name, 1, "broken.jpg"))["id"]
    listed = daemon.run("dead", "list")
    assert listed.returncode == 0
    assert job_id in [each["id"] for each in json_lines(listed.stdout)]
    (letter,) = json_lines(daemon.run("dead", "show", job_id).stdout)
    assert (letter["id"], letter["code"]) == (job_id, 401)
    assert letter["payload"] == asked(web, name, 1, "broken.jpg")

    web.files[f"/{name}/broken.jpg"] = PHOTO
    (retried,) = json_lines(daemon.run("dead", "retry", job_id).stdout)
    assert retried["id"] == job_id
    assert daemon.ended(f"/jobs/{retried['retried_as']}")["state"] == "done"
    assert daemon.job(f"/jobs/{job_id}")["state"] == "failed"

    assert daemon.run("dead", "drop", job_id).returncode == 0
    left = json_lines(daemon.run("dead", "list").stdout)
    assert job_id not in [each["id"] for each in left]
    gone = daemon.run("dead", "show", job_id)
    assert (gone.returncode, gone.stdout) == (66, "")
    assert job_id in gone.stderr


def test_ending_service_answers_who_waits_and_refuses_the_rest(
    tmp_path: Path, web: HttpServer, name: str
):
    """Told to end, it says 503 to new requests, finishes the old ones, and leaves nothing."""
    gate = threading.Event()
    web.script[f"/{name}/photo.jpg"] = [Reply(body=PHOTO, gate=gate)]
    with (
        Service(tmp_path, "--processes", "1", daemon=True) as service,
        ThreadPoolExecutor(2) as threads,
    ):
        connection = http.client.HTTPConnection("127.0.0.1", service.record["port"], timeout=30)
        assert exchange(connection, "GET", "/healthz").status == 200
        waiting = threads.submit(service.post, asked(web, name, 1))
        eventually(lambda: service.stats()["in_flight"] == 1, "the job is under way")
        stopping = threads.submit(service.stop)
        # While it is taken on it is rejected at once, so that asking again holds nothing up.
        body = json.dumps(asked(web, name, 2, source="gone.jpg")).encode()
        answer = Answer(0, {}, b"")

        def is_refused() -> bool:
            nonlocal answer
            answer = exchange(connection, "POST", "/", body)
            return answer.status == 503

        eventually(is_refused, "new requests are refused")
        assert answer.document == {"msg": "request invalid", "code": 503}
        assert int(answer.headers["retry-after"]) > 0
        connection.close()
        assert not waiting.done()
        gate.set()
        assert waiting.result(30).document == {"dstURL": web.url(f"/{name}/1.jpg")}
        assert stopping.result(60) == 0
    assert images.decoded(web.stored[f"/{name}/1.jpg"]).size == (120, 80)
    assert f"/{name}/2.jpg" not in web.stored
