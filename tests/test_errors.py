"""The table of codes is the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgserve import errors
from imgserve.errors import CODES, CodedError, codes_page

CONTRACT = [*range(101, 118), *range(201, 209), 301, 302, *range(401, 407), 501, 502, 503]


def test_every_code_of_the_contract_has_its_row():
    """No more, no fewer; each row under its own number, with words."""
    assert sorted(CODES) == CONTRACT
    assert all(row.number == number and row.meaning for number, row in CODES.items())


def test_the_page_of_codes_is_made_from_the_table():
    """`python -m imgserve.errors > docs/codes.md` makes it."""
    assert (Path(__file__).parents[1] / "docs/codes.md").read_text() == codes_page()


def test_every_coded_error_has_a_code_of_the_table():
    """A class of a single meaning has its own."""
    for kind in CodedError.__subclasses__():
        assert kind.code in {0, *CODES}, kind


@pytest.mark.parametrize("code", CONTRACT)
def test_an_error_without_a_detail_says_what_its_code_means(code):
    """A client always gets a sentence."""
    error = CodedError(code=code)
    assert (error.code, error.detail) == (code, CODES[code].meaning)
    assert str(error) == f"{code}: {CODES[code].meaning}"


def test_an_error_carries_what_a_retry_needs():
    """Whether, and after how long."""
    error = errors.SourceUnreachable("503", retryable=True, retry_after_s=7)
    assert (error.code, error.retryable, error.retry_after_s) == (201, True, 7)
