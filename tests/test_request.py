"""The request contract: every quick check, their order, the tags, the destinations."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserve.errors import RequestInvalid, RequestUnparsable
from imgserve.request import (
    REQUEST_LIMIT_BYTES,
    RESULT_LIMIT_SIDE_PX,
    Destination,
    ImageKind,
    Method,
    Renderer,
    ResultLimits,
    canonical,
    check,
    parse,
)

SRC = "http://s/dir/Ex.png"
FTP = "ftp://d/x.png"
POST = "http://d/upload.html:x.png"


def request(operation="resize", src=SRC, dst=FTP, **args):
    """A request that is good but for what is given."""
    args = {"width": 200, "height": 120} | args
    args = {name: value for name, value in args.items() if value is not ...}
    return {"operationType": operation, "srcURL": src, "dstURL": dst, "args": args}


def without(key):
    """A request that lacks a key."""
    return {name: value for name, value in request().items() if name != key}


# In the order of the codes: each row would also pass all checks before its own.
INVALID = [
    *((101, without(key)) for key in ("operationType", "srcURL", "dstURL", "args")),
    (101, request() | {"more": 1}),
    (101, {}),
    *((102, request(operation)) for operation in ("", "crop", "Resize", None, 1, [], {})),
    *((103, request() | {"args": args}) for args in (None, [], "x", 1)),
    *((104, request(src=src)) for src in ("", " ", None, 1, [], {})),
    *((105, request(dst=dst)) for dst in ("", "\t", None, 1, [], {})),
    (106, request(width=...)),
    (106, request(height=...)),
    *((107, request(width=value)) for value in (True, False, 1.0, "1", None, [])),
    (107, request(height=True)),
    *((108, request(src=src)) for src in ("http://s/a.svg", "http://s/a", "http://s/", "x")),
    (108, request("rasterize", "http://s/a.png", FTP)),
    *((109, request(src=src)) for src in ("gopher://s/a.png", "://s/a.png", "data://s/a.png")),
    *((110, request(dst=dst)) for dst in ("sftp://d/x.png", "x.png", "data:x.png")),
    (111, request(dst=POST)),
    (111, request(dst=POST, field_name="")),
    (111, request(dst=POST, field_file=None)),
    *((112, request(dst=POST, field_name=name)) for name in (1, True, [], "a\r\nb")),
    (112, request(dst=POST, field_name="f", method=1)),
    *((113, request(dst=dst)) for dst in ("ftp://d/x.gif", "ftp://d/x", "ftp://d/x.png/")),
    (113, request(src="http://s/a.jpg", dst="ftp://d/x.jpeg")),
    (113, request("rasterize", "http://s/a.svg", "ftp://d/x.svg")),
    (113, request(dst="http://d/up:x.gif", field_name="f")),
    (114, request(colour=1)),
    (114, request(renderer="resvg")),
    *((115, request(width=value)) for value in (0, -1, RESULT_LIMIT_SIDE_PX + 1, 10**30)),
    (115, request(method="PATCH")),
    (115, request("rasterize", "http://s/a.svg", FTP, renderer="inkscape")),
    *(
        (116, request(src=src))
        for src in (
            "http:///a.png",
            "http://s:x/a.png",
            "http://s:0/a.png",
            "http://s:65536/a.png",
            "http://s\\t/a.png",
            "http://s/\x00/a.png",
            "ftp://s/%0d%0aDELE/a.png",
            "file://elsewhere/a.png",
        )
    ),
    (116, request(dst="ftp://d/%00x.png")),
    (116, request(dst="ftp://d/a.png#b")),
    (116, request(src="file:///a.png#b")),
    (116, request(dst="http://d/up:a/b.png", field_name="f")),
]


@pytest.mark.parametrize(("code", "document"), INVALID)
def test_what_is_wrong_has_its_code(code, document):
    """And a sentence, which is not the table's."""
    with pytest.raises(RequestInvalid) as caught:
        check(document)
    assert caught.value.code == code, caught.value.detail
    assert caught.value.detail.isprintable()


FAULTS = [
    (101, lambda r: r.update(more=1)),
    (102, lambda r: r.update(operationType="crop")),
    (103, lambda r: r.update(args=[])),
    (104, lambda r: r.update(srcURL="")),
    (105, lambda r: r.update(dstURL="")),
    (106, lambda r: r["args"].pop("width")),
    (107, lambda r: r["args"].update(height="1")),
    (108, lambda r: r.update(srcURL="http://s/a.bmp")),
    (109, lambda r: r.update(srcURL="gopher://s/a.png")),
    (110, lambda r: r.update(dstURL="sftp://d/x.png")),
    (113, lambda r: r.update(dstURL="ftp://d/x.gif")),
    (114, lambda r: r["args"].update(colour=1)),
    (115, lambda r: r["args"].update(width=0)),
]
EXCLUSIVE = {(103, 106), (103, 107), (103, 114), (103, 115), (104, 108), (104, 109), (105, 110),
              (105, 113), (106, 115), (108, 109), (110, 113)}  # fmt: skip


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_of_several_faults_the_lowest_code_is_said(first):
    """Whichever comes with it; pairs that would undo each other are left out."""
    for code, spoil in FAULTS[first + 1 :]:
        low, spoil_low = FAULTS[first]
        if (low, code) in EXCLUSIVE:
            continue
        document = request()
        spoil(document)
        spoil_low(document)
        with pytest.raises(RequestInvalid) as caught:
            check(document)
        assert caught.value.code == low, (low, code)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_request_is_taken_up_to_its_limit(extra):
    """64 KiB pass, one byte more is code 117."""
    body = canonical(request())
    padded = body + b" " * (REQUEST_LIMIT_BYTES + extra - len(body))
    if extra <= 0:
        assert parse(padded).width_px == 200
    else:
        with pytest.raises(RequestInvalid) as caught:
            parse(padded)
        assert caught.value.code == 117


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{'a':1}", b"\xff{}", b'{"a":NaN}', b"[" * 99_999],
)
def test_what_is_no_json_object_is_unparsable(body):
    """It has no code, only a message."""
    with pytest.raises(RequestUnparsable):
        parse(body)


@pytest.mark.parametrize(
    ("src", "dst", "resolved"),
    [
        (SRC, "ftp://d/{$width}-{$basename}.{$ext}", "ftp://d/200-Ex.png"),
        (SRC, "ftp://d/{$height}.{$extension}", "ftp://d/120.png"),
        ("http://s/a.b.PNG?x=1.gif#y", "ftp://d/{$basename}.{$ext}", "ftp://d/a.b.PNG"),
        (SRC, "ftp://d/{$nothing}.png", "ftp://d/{$nothing}.png"),
        ("http://s/{$width}.png", "ftp://d/{$basename}.png", "ftp://d/{$width}.png"),
        (SRC, "ftp://{$width}@d:21/{$width}.png", "ftp://{$width}@d:21/200.png"),
    ],
)
def test_tags_are_replaced_after_the_last_colon(src, dst, resolved):
    """Once: what a tag brings in is not looked at again."""
    assert check(request(src=src, dst=dst)).dst_url == resolved


def test_an_http_post_names_page_field_and_file():
    """`<page URL>:<file name>`, as it always was."""
    found = check(request(dst="http://d:81/up.html:{$width}-{$basename}.{$ext}", field_name="f"))
    assert found.destination == Destination("http://d:81/up.html", Method.POST, "f", "200-Ex.png")
    assert found.dst_url == "http://d:81/up.html:200-Ex.png"


def test_older_clients_say_field_file():
    """Either will do."""
    assert check(request(dst=POST, field_file="f")).destination.field_name == "f"


@pytest.mark.parametrize("method", ["PUT", "put"])
def test_an_http_put_is_an_ordinary_url(method):
    """It needs no field."""
    found = check(request(dst="https://d/{$basename}.png", method=method))
    assert found.destination == Destination("https://d/Ex.png", Method.PUT)


def test_a_rasterized_svg_becomes_a_png():
    """With the renderer that was asked for."""
    found = check(request("rasterize", "file:///a/b.SVG", FTP, renderer="cairosvg"))
    assert (found.source_kind, found.result_kind) == (ImageKind.SVG, ImageKind.PNG)
    assert found.renderer is Renderer.CAIROSVG


LIMITS = ResultLimits(pixels=1_000, side_px=200)


@pytest.mark.parametrize("size", [(1, 1), (199, 5), (200, 5), (1, 200), (25, 40), (27, 37)])
def test_a_result_is_taken_up_to_its_limits(size):
    """Either side for itself, and their product."""
    found = check(request(width=size[0], height=size[1]), LIMITS)
    assert (found.width_px, found.height_px) == size


@pytest.mark.parametrize(
    ("size", "seen", "allowed"),
    [
        ((201, 1), "width is 201", "1 to 200 are"),
        ((1, 201), "height is 201", "1 to 200 are"),
        ((200, 6), "1200 pixels", "at most 1000 are"),
        ((77, 13), "1001 pixels", "at most 1000 are"),
    ],
)
def test_a_result_over_its_limits_is_115(size, seen, allowed):
    """With what was seen and what is allowed; also where the URL is malformed (116)."""
    for src in (SRC, "http://s:0/a.png"):
        body = canonical(request(src=src, width=size[0], height=size[1]))
        with pytest.raises(RequestInvalid) as caught:
            parse(body, LIMITS)
        assert caught.value.code == 115
        assert seen in caught.value.detail
        assert allowed in caught.value.detail


def test_who_knows_no_limits_takes_what_any_service_may():
    """A client must not refuse what its service was set to make."""
    side = RESULT_LIMIT_SIDE_PX
    assert check(request(width=side, height=side)).height_px == side


def test_equal_requests_are_equal_bytes():
    """Whatever the order of their keys."""
    document = request()
    turned = dict(reversed(document.items()))
    assert canonical(document) == canonical(turned)
    assert json.loads(canonical(document)) == document


@given(st.binary(max_size=200))
def test_any_bytes_are_unparsable_or_invalid(body):
    """Nothing else ever comes of a body."""
    _only_its_own_errors(body)


words = st.sampled_from(
    ["", "resize", "rasterize", SRC, FTP, POST, "http://[", "ftp://d/{$ext}:{$width}.png", "\ud800"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)  # fmt: skip
arguments = st.dictionaries(
    st.sampled_from(["width", "height", "method", "field_name", "field_file", "renderer", "x"]),
    values | st.integers(1, 300),
)


@given(values | words, values | words, values | words, values | arguments)
def test_any_document_is_a_request_or_invalid(operation, src, dst, args):
    """Whatever the four keys hold."""
    document = {"operationType": operation, "srcURL": src, "dstURL": dst, "args": args}
    _only_its_own_errors(json.dumps(document).encode())


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_names_are_replaced_or_refused(source, destination):
    """Tags meet every text there is, and what comes out holds none that was known."""
    document = request(src=f"http://s/{source}.png", dst=f"ftp://d/{{$basename}}{destination}.png")
    _only_its_own_errors(canonical(document))


def _only_its_own_errors(body: bytes) -> None:
    try:
        parse(body)
    except (RequestUnparsable, RequestInvalid):
        return
