"""Upload forms in HTML as it is written, and as it is written to do harm."""

from __future__ import annotations

import time

import pytest

from imgserve.worker.transfers.form import UploadForm, find_form
from imgserve.worker.transfers.html import tags

PAGE_URL = "http://example.com/a/page"
UP = UploadForm("http://example.com/a/up")
LIMIT_BYTES = 256 * 1024


def found(html: str) -> UploadForm | None:
    return find_form(html.encode(), "utf-8", PAGE_URL, "f")


@pytest.mark.parametrize(
    "html",
    [
        "<form action=up method=post><input type=file name=f>",
        "<FORM METHOD='POST' ACTION='up'><INPUT NAME=\"f\" TYPE=\"FILE\" /></FORM>",
        "<form\n action = up\n method = post\n><input name=f type=file></form>",
        "<!-- <form> --><form action=up method=post><input type=file name=f>",
        "<!--><form action=up method=post><input type=file name=f>",
        "<script>'<form action=no>'</script><form action=up method=post><input type=file name=f>",
        "<p title='<form>'><form action=up method=post><input type=file name=f>",
        "<p title=a>b & c < d</p><form action=up method=post><input type=file name=f>",
        "<form action=up method=post x=1 x=2 checked><input type=file name=f disabled>",
        "<base href=/a/><form action=up#here method=post><input type=file name='&#102;'>",
    ],
)
def test_form_is_found(html: str):
    """Case, quotes, white space, comments and scripts change nothing."""
    assert found(html) == UP


@pytest.mark.parametrize(
    "html",
    [
        "<form action=up method=post></form><input type=file name=f>",
        "<form action=up method=get><input type=file name=f>",
        "<form action=up method=post><input type=file name=other>",
        "<!-- <form action=up method=post><input type=file name=f>",
        "<script><form action=up method=post><input type=file name=f>",
        "<form action='up method=post><input type=file name=f>",
        "<form action='http://[::1/' method=post><input type=file name=f>",
    ],
)
def test_what_is_no_form_is_not_found(html: str):
    """A form that does not hold the field, or that is hidden by something left open, is none."""
    assert found(html) is None


def test_hidden_fields_come_along():
    """Their values are decoded, of any length."""
    value = "x" * 20_000
    form = found(
        "<form action=up method=post><input type=hidden name=a value='&lt;&amp;'>"
        f'<input type=hidden name=b value="{value}"><input type=file name=f>'
    )
    assert form is not None
    assert form.hidden == (("a", "<&"), ("b", value))


def test_first_attribute_of_a_name_counts():
    """As in browsers."""
    assert list(tags("<A b=1 B=2 c>x</a >")) == [("a", {"b": "1", "c": ""}), ("/a", {})]


@pytest.mark.parametrize(
    "unit",
    ["<", "<!--", "<a ", '<a b="', "<a b='\"", "</", "<!", "<?", "<![CDATA[", "<script>",
     "<script ", "<form method=post>", "<input type=file name=f ", "&", "&#x", "<a" + " b" * 50,
     "<a/", "= ",
     "<a =", "<a b= ", "-->", "<textarea></textarea"],
)  # fmt: skip
def test_hostile_page_costs_linear_time(unit: str):
    """The longest page that is looked at is read in a fraction of a worker's beat."""
    page = (unit * (LIMIT_BYTES // len(unit) + 1))[:LIMIT_BYTES]
    began_s = time.process_time()
    find_form(page.encode(), "utf-8", PAGE_URL, "f")
    assert time.process_time() - began_s < 1
