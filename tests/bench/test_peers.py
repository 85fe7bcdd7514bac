"""A peer of the benchmark is measured with all its processes, or refused with a sentence."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil
import pytest
from bench_lib import bare
from bench_lib.bare import Cost
from bench_lib.ends import Ends
from bench_lib.outcome import Outcome
from bench_lib.peers import install, looks
from bench_lib.peers.course import Course
from bench_lib.peers.kinds import Place, Round
from bench_lib.peers.process import dialog, measured, running
from bench_lib.peers.work import Peers
from bench_lib.picture import jpeg
from bench_lib.report import BenchError, Figure
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SIZE = (200, 120)


@pytest.fixture(scope="module")
def source() -> bytes:
    return jpeg(866, 577)


@pytest.fixture(scope="module")
def right(source) -> bytes:
    return bare.cover(source, *SIZE, "JPEG")


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path / "peer", Ends("http://127.0.0.1:1", tmp_path, tmp_path))


def encoded(image: Image.Image, kind: str = "JPEG", quality: int = 85) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def words(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def peer_making(*results: bytes):
    """A peer that makes these results, whatever it is asked."""

    @contextmanager
    def start(_: Place):
        yield lambda jobs, _: Round(Cost(jobs, 1.0, 1.0), list(islice(cycle(results), jobs)))

    return start


# What a result must be.


def test_the_same_picture_encoded_otherwise_is_right(right):
    """Another quality makes a difference that is told, and stays within the limit."""
    other = encoded(opened(right), quality=75)
    assert 0 < looks.require_same([right, other], 2, right, SIZE) <= looks.LIMIT


def test_a_missing_job_is_refused(right):
    """Fewer results than jobs are no measurement."""
    with pytest.raises(BenchError, match="3 jobs left 2 results"):
        looks.require_same([right, right], 3, right, SIZE)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda image: encoded(image.resize((200, 121))), "JPEG of 200x121"),
        (lambda image: encoded(image, "PNG"), "is a PNG"),
        (lambda _: encoded(Image.new("RGB", SIZE, (200, 200, 200))), "blank"),
        (lambda image: encoded(image.transpose(Image.Transpose.ROTATE_180)), "differs"),
        (lambda image: encoded(image.transform(SIZE, 0, (1, 0, 0, 0, 1, 2))), "differs"),
        (lambda image: encoded(image)[:100], "no picture"),
        (lambda _: b"<html>", "no picture"),
    ],
    ids=["size", "format", "blank", "other", "shifted", "truncated", "no picture"],
)
def test_another_picture_is_refused(right, change, why):
    """One wrong result among right ones is enough; a shift of two pixels is wrong, too."""
    with pytest.raises(BenchError, match=why):
        looks.require_same([right, change(opened(right)), right], 3, right, SIZE)


def test_a_centred_source_makes_the_third_the_middle():
    """Imgserve's crop of it is the crop in the middle of the whole source."""
    ramp = np.repeat(np.arange(240, dtype=np.uint8)[:, None], 200, axis=1)
    tall = encoded(Image.fromarray(ramp).convert("RGB"), quality=100)
    # Of 240 rows 120 are spare: the middle begins at 60, and imgserve's own crop at 40.
    first = opened(bare.cover(looks.centred(tall, *SIZE), *SIZE, "JPEG")).getpixel((100, 0))
    assert first[0] == pytest.approx(60, abs=3)


# Processes.


def test_a_dialog_answers_orders(tmp_path):
    """Each order is a line, and so is its answer."""
    program = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    with dialog("echo", words(program), tmp_path) as echo:
        for number in (1, 2):
            echo.ask({"number": number})
            assert echo.hear() == {"number": number}


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ('print(\'{"error": "no such picture"}\')', "peer: no such picture"),
        ("import sys; sys.exit('no library')", "peer ended: no library"),
        ("pass", "peer ended: it did not say why"),
        ("print('hello')", "peer answered 'hello'"),
        ("import time; time.sleep(60)", "did not answer in 0 s"),
    ],
    ids=["error", "death", "silent death", "no JSON", "silence"],
)
def test_a_failed_dialog_is_told(tmp_path, program, why):
    """Whatever a peer does instead of answering, the error is a sentence about it."""
    timeout_s = 0.2 if "sleep" in program else 30
    with (
        dialog("peer", words(program), tmp_path) as peer,
        pytest.raises(BenchError, match=re.escape(why)),
    ):
        peer.hear(timeout_s)


def test_an_order_to_a_dead_peer_is_an_error(tmp_path):
    """A closed pipe is told as the peer's end."""
    with dialog("peer", words("import sys; sys.exit('gone')"), tmp_path) as peer:
        peer.process.wait(30)
        with pytest.raises(BenchError, match="peer ended: gone"):
            peer.ask({"jobs": 1})


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_no_process_is_left(tmp_path):
    """The children of a peer end with it, those that ignore SIGTERM too."""
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)\n"
    with running("peer", words(PARENT.format(child=deaf + "time.sleep(60)")), tmp_path) as peer:
        family = wait_for_children(peer.pid)
    assert peer.poll() is not None
    assert psutil.wait_procs(family, timeout=10)[1] == []


def wait_for_children(pid: int) -> list[psutil.Process]:
    deadline_s = time.monotonic() + 30
    while not (found := psutil.Process(pid).children(recursive=True)):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return found


def test_the_cpu_of_children_counts(tmp_path):
    """What a peer's child uses is the peer's cost."""
    busy = "import time\nwhile time.process_time() < 60: pass"
    with running("peer", words(PARENT.format(child=busy)), tmp_path) as peer:
        (child,) = wait_for_children(peer.pid)
        cost = measured([peer], 10, lambda: wait_for_cpu(child, 0.3))
    assert cost.cpu_s >= 0.29
    assert cost.wall_s > 0
    assert cost.jobs == 10


def wait_for_cpu(process: psutil.Process, cpu_s: float) -> None:
    until_s = process.cpu_times().user + cpu_s
    while process.cpu_times().user < until_s:
        time.sleep(0.01)


def test_a_process_that_ends_cannot_be_measured(tmp_path):
    """Its CPU is not known any more, so there is no cost."""
    with running("peer", words("input()"), tmp_path) as peer:

        def end() -> None:
            peer.stdin.close()
            peer.wait(30)

        with pytest.raises(BenchError, match="ended while it was measured"):
            measured([peer], 1, end)


def test_a_child_that_ends_cannot_be_measured(tmp_path):
    """A worker's child that dies takes the CPU it used along, though the worker lives."""
    program = PARENT.format(child="input()").replace("time.sleep", "child.wait(), time.sleep")
    with running("peer", words(program), tmp_path) as peer:
        (child,) = wait_for_children(peer.pid)

        def end() -> None:
            child.kill()
            psutil.wait_procs([child], timeout=30)

        with pytest.raises(BenchError, match="ended while it was measured"):
            measured([peer], 1, end)
        assert peer.poll() is None


# A peer's course through the rounds.


def test_a_right_peer_is_measured(place, right):
    """Each round leaves a cost and how far the results are from the reference."""
    course = Course("peer", peer_making(right), right)
    course.begin(place)
    course.go(3, "r0")
    course.go(3, "r1")
    course.end()
    assert (course.refused, len(course.costs), course.differences) == ("", 2, [0.0, 0.0])


def test_a_peer_that_does_other_work_is_refused(place, right):
    """It has no costs, and is not asked for another round."""
    blank = encoded(Image.new("RGB", SIZE))
    course = Course("peer", peer_making(right, blank), right)
    course.begin(place)
    course.go(3, "r0")
    assert course.refused == "a result is blank"
    assert course.costs == []


@pytest.mark.parametrize("kind", [BenchError, OSError, EOFError])
def test_a_peer_that_fails_in_a_round_is_refused_and_stopped(place, right, kind):
    """A failure in a later round takes the earlier costs away; the peer is stopped at once."""
    stopped = []

    @contextmanager
    def start(_: Place):
        def run(jobs: int, name: str) -> Round:
            if name == "r1":
                raise kind("no Redis")
            return Round(Cost(jobs, 1.0, 1.0), [right] * jobs)

        yield run
        stopped.append(True)

    course = Course("peer", start, right)
    course.begin(place)
    course.go(2, "r0")
    assert len(course.costs) == 1
    course.go(2, "r1")
    assert "no Redis" in course.refused
    assert course.costs == course.differences == []
    assert stopped == [True]


def test_a_peer_that_does_not_start_is_refused(place, right):
    """Its sentence is kept, and rounds pass it by."""

    @contextmanager
    def start(_: Place):
        raise BenchError("redis-server is not installed")
        yield

    course = Course("peer", start, right)
    course.begin(place)
    course.go(2, "r0")
    assert course.refused == "redis-server is not installed"


def test_the_table_says_what_is_not_measured(capsys):
    """The sentence stands below the figures, and in the JSON."""
    peers = Peers(noisy=False, missing={"thumbor": "it answered 502"})
    outcome = peers.completed(Outcome("PEERS", "about", (Figure("bare", "ms", (1.0,)),)))
    outcome.show()
    assert "thumbor: not measured: it answered 502" in capsys.readouterr().out
    assert outcome.as_dict()["not measured"] == {"thumbor": "it answered 502"}
    assert outcome.reported


# What is installed.


def test_a_missing_program_is_asked_for_by_its_package():
    """The user hears the name of Debian's package."""
    with pytest.raises(BenchError, match=r"apt-get install redis-server$"):
        install.program("redis-server-that-is-not-there", "redis-server")


def test_the_lock_of_sharp_holds_hashes_and_no_address():
    """Each package has its hash; where it comes from is for npm's own settings to say."""
    text = (install.SHARP / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    wanted = json.loads((install.SHARP / "package.json").read_text())["dependencies"]
    assert packages[""]["dependencies"] == wanted
    assert packages["node_modules/sharp"]["version"] == wanted["sharp"]


@pytest.mark.parametrize("name", ["peers", "peers-thumbor"])
def test_python_packages_are_pinned_with_hashes(name):
    """Every line is a version or a hash; no index is named."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pin = re.compile(r"[a-z0-9-]+==[0-9][^ ]* \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert lines
    assert [line for line in lines if not pin.fullmatch(line)] == []


def test_celery_has_the_pillow_of_the_bare_loop():
    """The same code on another Pillow would be other work."""
    pins = [
        re.search(r"^pillow==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
        for name in ("peers.txt", "test.txt")
    ]
    assert pins[0].group(1) == pins[1].group(1)


def test_peers_are_offered_and_left_out_by_default():
    """`--peers` is in the help; the works that one can name do not hold it."""
    help_text = subprocess.run(
        [sys.executable, "scripts/bench_run.py", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "--peers" in help_text
    assert "PEERS" not in help_text
