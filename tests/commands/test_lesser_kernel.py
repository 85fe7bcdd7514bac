"""The command line on kernels that lack Landlock or seccomp, for root and for others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgserve.commands.exit_codes import ExitCode
from tests.support import images
from tests.support.command_line import SMALL, Daemon, environment
from tests.support.lesser_kernel import PRCTL, as_ordinary_user, launcher

LACKS = {
    "landlock": ("landlock_files", "the kernel has no Landlock, or it is not enabled"),
    "seccomp": ("seccomp", "the kernel has no seccomp"),
}
NOBODY = 65534
pytestmark = pytest.mark.skipif(
    os.uname().machine not in PRCTL, reason="no filter is written for this architecture"
)


@pytest.fixture(params=["landlock", "seccomp", "landlock, ordinary user"])
def case(request: pytest.FixtureRequest) -> str:
    """What the kernel lacks, for whoever runs the tests; for root as an ordinary user, too."""
    return str(request.param)


@pytest.fixture
def lacks(case: str) -> str:
    """What the kernel lacks."""
    return case.partition(",")[0]


@pytest.fixture
def user(case: str) -> int | None:
    """An ordinary user's number; None for whoever runs the tests."""
    if "," not in case:
        return None
    if os.geteuid() != 0:
        pytest.skip("whoever runs the tests is an ordinary user already")
    run = (*as_ordinary_user(NOBODY), sys.executable, "-c", "import imgserve")
    if (
        shutil.which("setpriv") is None
        or subprocess.run(run, env=environment(), capture_output=True, check=False).returncode
    ):
        pytest.skip("root cannot become another user here")
    return NOBODY


@pytest.fixture
def folder(user: int | None) -> Iterator[Path]:
    """A folder of that user, where pytest's own could not be reached."""
    with tempfile.TemporaryDirectory() as name:
        if user is not None:
            os.chown(name, user, user)
        yield Path(name)


@pytest.fixture
def service(folder: Path, user: int | None, lacks: str) -> Iterator[Daemon]:
    """A service on that kernel, not yet started."""
    become = () if user is None else as_ordinary_user(user)
    with Daemon(folder / "state", (*become, *launcher(lacks))) as daemon:
        yield daemon


def refusal(lacks: str) -> str:
    """What stands in the log, word for word."""
    part, sentence = LACKS[lacks]
    return f"require_sandbox is set, and this kernel lacks {part}: {sentence}\n"


def test_start_refuses_a_kernel_that_lacks_a_required_part(service, lacks):
    """It names the part, ends with UNAVAILABLE, and leaves nothing running."""
    ended = service.run("start", *SMALL, "--require-sandbox", "--foreground")
    assert ended.returncode == ExitCode.UNAVAILABLE, ended.stderr
    assert refusal(lacks) in ended.stderr
    assert "did not start: the worker ended during the start" in ended.stderr
    assert service.run("status").returncode == ExitCode.NOT_RUNNING


def test_a_worker_refuses_a_kernel_that_lacks_a_required_part(service, lacks):
    """Before it looks for a broker, and with an exit code that schedulers can read."""
    ended = service.run("worker", "--processes=1", "--require-sandbox")
    assert ended.returncode == ExitCode.UNAVAILABLE, ended.stderr
    assert refusal(lacks) in ended.stderr
    assert "no pixel process came up" in ended.stderr


def test_without_the_demand_it_works_and_tells(service, folder, lacks):
    """Jobs are done; log and status say what is lacking, and only that."""
    part, sentence = LACKS[lacks]
    for name, data in (("a.png", images.png()), ("c.svg", images.svg())):
        (folder / name).write_bytes(data)
    service.start(f"--file-root={folder}")
    status = service.status()
    told = {name for name, had in status["machine"].items() if had is not True} - {"fonts"}
    assert status["machine"][f"sandbox_{part}"] == sentence
    assert all(name.startswith(f"sandbox_{lacks}") for name in told), told
    assert f"sandbox_{part}: {sentence}" in service.run("status").stdout
    log = (service.state / "imgserve.log").read_text()
    assert f"'{part}': '{sentence}'" in log
    warned = [line for line in log.splitlines() if "WARNING" in line and sentence in line]
    assert len(warned) == 1
    requests = [
        {
            "operationType": operation,
            "srcURL": f"file://{folder}/{source}",
            "dstURL": f"file://{folder}/{result}.png",
            "args": {"width": 8, "height": 8},
        }
        for operation, source, result in (("resize", "a.png", "b"), ("rasterize", "c.svg", "d"))
    ]
    lines = "".join(json.dumps(each) + "\n" for each in requests)
    ended = service.run("submit", "-", input=lines)
    assert ended.returncode == ExitCode.OK, ended.stdout
    assert all(
        images.decoded((folder / f"{name}.png").read_bytes()).size == (8, 8) for name in "bd"
    )
    assert service.run("stop").returncode == ExitCode.OK
