"""scripts/corpora: every picture of a folder goes through a service, and its end is counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import images

PROGRAM = Path(__file__).resolve().parents[2] / "scripts" / "corpora_run.py"


def test_the_ends_of_a_corpus_are_counted(tmp_path):
    """Good, broken and foreign files, each with its end; nothing dies of them."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "good.png").write_bytes(images.png())
    (corpus / "good.svg").write_bytes(images.svg())
    (corpus / "cut.jpg").write_bytes(images.jpeg()[:-100])
    (corpus / "garbage.gif").write_bytes(b"garbage" * 100)
    (corpus / "notes.txt").write_text("no picture")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(corpus)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "corpus: 4 files" in done.stdout
    assert "2 done" in done.stdout
    assert "rejected" in done.stdout
    assert "failed 401" in done.stdout
    assert "parts that died: none" in done.stdout
