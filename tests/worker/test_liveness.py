"""Signs of life for whoever started the worker."""

from __future__ import annotations

import logging
import shutil
import socket

import pytest

from imgserve.errors import ConfigError
from imgserve.worker.liveness import Liveness, Systemd

SILENT = Systemd("")


def test_a_fresh_file_is_no_sign_of_life(tmp_path):
    """Being there is not living: the file is as old as can be until a beat was acknowledged."""
    Liveness(tmp_path / "alive", SILENT)
    assert (tmp_path / "alive").stat().st_mtime == 0


def test_only_a_renewed_lease_touches_it(tmp_path):
    """The same lease's end again says that nothing was acknowledged since."""
    path = tmp_path / "alive"
    liveness = Liveness(path, SILENT)
    liveness.renewed(0.0)
    assert path.stat().st_mtime == 0
    liveness.renewed(5.0)
    first = path.stat().st_mtime_ns
    assert first > 0
    liveness.renewed(5.0)
    assert path.stat().st_mtime_ns == first
    liveness.renewed(6.0)
    assert path.stat().st_mtime_ns > first


def test_it_goes_with_the_worker(tmp_path):
    """A worker that has ended leaves no file that looks alive."""
    liveness = Liveness(tmp_path / "alive", SILENT)
    liveness.close()
    assert not (tmp_path / "alive").exists()


def test_a_place_that_does_not_exist_is_refused(tmp_path):
    """The sentence names the setting, the path and what to do."""
    with pytest.raises(ConfigError, match=r"liveness_file = .*nowhere.*in a folder that exists"):
        Liveness(tmp_path / "nowhere" / "alive", SILENT)


def test_a_folder_that_vanishes_does_not_end_the_worker(tmp_path, caplog):
    """It is complained about, and work goes on."""
    folder = tmp_path / "run"
    folder.mkdir()
    liveness = Liveness(folder / "alive", SILENT)
    shutil.rmtree(folder)
    with caplog.at_level(logging.WARNING):
        liveness.renewed(1.0)
        liveness.renewed(2.0)
    assert len(caplog.records) == 1


def test_systemd_hears_of_readiness_life_and_the_end(tmp_path):
    """READY, WATCHDOG and STOPPING go to the socket of the environment, the watchdog not always."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(5)
        systemd = Systemd(str(path))
        systemd.ready()
        systemd.alive()
        systemd.alive()
        systemd.leaving("asked to end")
        said = [heard.recv(1000).decode() for _ in range(3)]
    assert said == ["READY=1", "WATCHDOG=1", "STOPPING=1\nSTATUS=asked to end"]


def test_a_systemd_that_is_gone_does_not_matter(tmp_path):
    """A socket that nobody reads is not worth an end."""
    Systemd(str(tmp_path / "gone")).ready()
