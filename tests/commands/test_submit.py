"""`imgserve submit`: lines in, lines out, and a bar on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
from PIL import Image

from imgserve.commands.exit_codes import ExitCode
from tests.support.command_line import environment
from tests.support.images import encode


@pytest.fixture
def pictures(http):
    """An HTTP server with one picture."""
    http.files["/photo.png"] = encode(Image.new("RGB", (64, 48), "teal"), "PNG")
    return http


def _request(pictures, name, **args):
    return {
        "operationType": "resize",
        "srcURL": pictures.url("/photo.png"),
        "dstURL": pictures.url(f"/{name}.png"),
        "args": {"width": 16, "height": 12, "method": "PUT"} | args,
    }


def _lines(documents):
    return "".join(
        (each if isinstance(each, str) else json.dumps(each)) + "\n" for each in documents
    )


def test_each_line_has_an_outcome_with_its_number(running, pictures):
    """Outcomes name their input line; blank lines count; every result is at its destination."""
    text = _lines([_request(pictures, "a"), "", _request(pictures, "b")])
    ended = running.run("submit", "-", input=text)
    assert ended.returncode == 0, ended.stderr
    outcomes = {each["line"]: each for each in map(json.loads, ended.stdout.splitlines())}
    assert outcomes.keys() == {1, 3}
    assert {each["state"] for each in outcomes.values()} == {"done"}
    assert outcomes[3]["dstURL"] == pictures.url("/b.png")
    assert (outcomes[3]["width"], outcomes[3]["height"]) == (16, 12)
    assert outcomes[3]["bytes"] == len(pictures.stored["/b.png"])


def test_a_byte_order_mark_is_no_part_of_the_first_request(running, pictures, tmp_path):
    """Editors write it; the first line is a request like any other."""
    file = tmp_path / "requests.jsonl"
    file.write_text(_lines([_request(pictures, "marked")]), encoding="utf-8-sig")
    ended = running.run("submit", str(file))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["state"] == "done"


def test_utf_16_is_named(running, pictures, tmp_path):
    """The sentence says which encoding was seen and which is wanted."""
    file = tmp_path / "requests.jsonl"
    file.write_text(_lines([_request(pictures, "wide")]), encoding="utf-16")
    ended = running.run("submit", str(file))
    assert ended.returncode == ExitCode.USAGE
    assert "UTF-16" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_job_that_is_not_done_makes_the_exit_code_1(running, pictures, tmp_path):
    """Refused requests and broken lines have their codes; the others are done all the same."""
    file = tmp_path / "requests.jsonl"
    file.write_text(
        _lines([_request(pictures, "c"), _request(pictures, "d", width=999), "{broken"])
    )
    ended = running.run("submit", str(file))
    assert ended.returncode == ExitCode.JOBS_FAILED == 1
    outcomes = {each["line"]: each for each in map(json.loads, ended.stdout.splitlines())}
    assert outcomes[1]["state"] == "done"
    assert (outcomes[2]["state"], outcomes[2]["code"]) == ("rejected", 203)
    assert outcomes[3]["state"] == "rejected"
    assert "JSON" in outcomes[3]["detail"]
    assert "1 done, 2 rejected" in ended.stderr


def test_a_named_batch_is_not_done_twice(running, pictures):
    """The same name and line is the same job: its outcome comes again without any work."""
    text = _lines([_request(pictures, "e")])
    first = running.run("submit", "-name", "monday", "-", input=text)
    uploads = len(pictures.requests)
    second = running.run("submit", "-name", "monday", "-", input=text)
    assert json.loads(second.stdout)["id"] == json.loads(first.stdout)["id"] == "monday-1"
    assert len(pictures.requests) == uploads


def test_a_missing_file_is_one_sentence(running):
    """An input that is not there is named."""
    ended = running.run("submit", "/no/such.jsonl")
    assert ended.returncode == ExitCode.NO_INPUT
    assert ended.stderr == "imgserve: /no/such.jsonl: No such file or directory\n"


def test_without_a_broker_it_says_how_to_start_one(service):
    """Where no connection file is, submit does not wait for one."""
    ended = service.run("submit", "-", input="")
    assert ended.returncode == ExitCode.NO_INPUT
    assert "imgserve start" in ended.stderr


def test_a_terminal_gets_a_bar(running, pictures, tmp_path):
    """On a terminal stderr shows progress, while stdout stays pure JSON Lines."""
    file = tmp_path / "requests.jsonl"
    file.write_text(_lines([_request(pictures, f"f{n}") for n in range(5)]))
    seen, process = _on_a_terminal("submit", f"--state={running.state}", str(file))
    assert process.returncode == 0
    assert len([json.loads(line) for line in process.stdout.splitlines()]) == 5
    assert "5 jobs" in seen
    assert "100%" in seen


def test_a_pipe_gets_no_bar(running, pictures):
    """Where stderr is no terminal there is one summary line and nothing else."""
    ended = running.run("submit", "-", input=_lines([_request(pictures, "g")]))
    assert len(ended.stderr.splitlines()) == 1


def _on_a_terminal(*words):
    """Run a command with stderr on a pseudo-terminal."""
    leader, follower = pty.openpty()
    process = subprocess.run(
        [sys.executable, "-m", "imgserve", *words],
        env=environment() | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=follower,
        timeout=60,
        check=False,
    )
    os.close(follower)
    seen = b""
    try:
        while chunk := os.read(leader, 65536):
            seen += chunk
    except OSError:  # Linux says EIO when the other end is closed
        pass
    os.close(leader)
    return seen.decode(errors="replace"), process
