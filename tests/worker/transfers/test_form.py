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


def test_what_a_browser_sends_comes_along():
    """Every control that has a name and a value, unless it is off, in order."""
    form = found(
        """<form action=up method=post><input name=title value=T><input type=text name=empty>
        <input type=checkbox name=agree checked><input type=checkbox name=news>
        <input type=radio name=size value=s><input type=radio name=size value=m checked>
        <input name=off value=1 disabled><input value=nameless><input type=reset name=r value=1>
        <select name=album><option value=1><option value=2 selected><option value=3></select>
        <select name=first><option value=1><option value=2></select>
        <select name=none disabled><option value=1></select><option value=stray>
        <input type=file name=f><input type=file name=other><button type=button name=b value=1>
        <button name=go value=1>Go</button><button name=stop value=1>Stop</button></form>"""
    )
    assert form is not None
    assert form.fields == (
        *(("title", "T"), ("empty", ""), ("agree", "on"), ("size", "m")),
        *(("album", "2"), ("first", "1"), ("go", "1")),
    )


def test_hidden_fields_come_along():
    """Their values are decoded, of any length."""
    value = "x" * 20_000
    form = found(
        "<form action=up method=post><input type=hidden name=a value='&lt;&amp;'>"
        f'<input type=hidden name=b value="{value}"><input type=file name=f>'
    )
    assert form is not None
    assert form.fields == (("a", "<&"), ("b", value))


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
