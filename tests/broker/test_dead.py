"""Dead letters as the journal tells them."""

from __future__ import annotations

import contextlib
import stat

from imgserve.broker.dead import LIST_LIMIT, drop_letter, find_letter, list_letters
from imgserve.broker.job import Job, row_of
from imgserve.broker.salvage import open_or_salvage
from imgserve.broker.states import Phase
from imgserve.protocol.codec import FRAME_LIMIT_BYTES, encode_event
from imgserve.protocol.events import DeadLetters, State
from imgserve.protocol.jobs import digest_of

REASONS = tuple(f"attempt {number}: {'r' * 480}" for number in range(20))


@contextlib.contextmanager
def journal_with(tmp_path, letters):
    with contextlib.closing(open_or_salvage(tmp_path / "journal.sqlite3")) as database:
        for number in range(letters):
            job = Job(
                f"{number:032x}", ("topic",), 0, 0.0, digest_of(b"{}"), b"{}", phase=Phase.QUEUED
            )
            job.end(State.FAILED, 405, "d" * 4096)
            job.reasons = REASONS
            row = (*row_of(job), float(number))
            database.execute("INSERT INTO job VALUES (?,?,?,?,?,?,?,?,?)", row)
        yield database


def test_the_longest_list_fits_one_frame(tmp_path):
    """A thousand letters with the longest details and reasons still fit the frame limit."""
    with journal_with(tmp_path, LIST_LIMIT) as database:
        letters = list_letters(database)
    assert len(letters) == LIST_LIMIT
    frame = encode_event("topic", DeadLetters("epoch", letters, ""))
    assert len(frame) < FRAME_LIMIT_BYTES


def test_a_list_is_newest_first_with_the_last_reason(tmp_path):
    """What a list leaves out, `show` has: every reason, the whole detail, the request."""
    with journal_with(tmp_path, 2) as database:
        newest, _ = list_letters(database)
        whole = find_letter(database, newest["id"])
    assert newest["id"] == f"{1:032x}"
    assert newest["reasons"] == REASONS[-1:]
    assert whole is not None
    assert (whole["reasons"], len(whole["detail"]), whole["payload"]) == (REASONS, 4096, b"{}")


def test_a_dropped_letter_is_gone(tmp_path):
    """It can be dropped once."""
    with journal_with(tmp_path, 1) as database:
        assert drop_letter(database, f"{0:032x}")
        assert not drop_letter(database, f"{0:032x}")
        assert find_letter(database, f"{0:032x}") is None


def test_the_journal_is_for_its_owner_alone(tmp_path):
    """Requests hold passwords, so neither the journal nor its log can be read by others."""
    with journal_with(tmp_path, 1) as database:
        database.commit()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
