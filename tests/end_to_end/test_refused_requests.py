"""The quick checks through the running service: parse errors and codes 101 to 117."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imgserve.errors import CODES
from imgserve.request import REQUEST_LIMIT_BYTES
from tests.support.service import Service

VALID: dict[str, Any] = {
    "operationType": "resize",
    "srcURL": "http://127.0.0.1:9/photo.png",
    "dstURL": "ftp://127.0.0.1:9/{$width}-{$basename}.{$ext}",
    "args": {"width": 20, "height": 10},
}
PAGE = "http://127.0.0.1:9/upload"
HTTP = {"dstURL": f"{PAGE}:photo.png"}

UNPARSABLE = {
    "empty": b"",
    "white space": b" \r\n\t",
    "binary": bytes(range(256)),
    "null": b"null",
    "true": b"true",
    "number": b"17",
    "string": b'"resize"',
    "array": b"[]",
    "array of requests": b"[" + json.dumps(VALID).encode() + b"]",
    "deep arrays": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "unfinished": json.dumps(VALID).encode()[:-1],
    "two documents": json.dumps(VALID).encode() * 2,
    "trailing comma": b'{"operationType": "resize",}',
    "single quotes": b"{'operationType': 'resize'}",
    "NaN": json.dumps(VALID | {"args": {"width": float("nan"), "height": 1}}).encode(),
    "Infinity": b'{"args": {"width": Infinity}}',
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(VALID).encode(),
    "UTF-16": json.dumps(VALID).encode("utf-16"),
    "bad UTF-8": b'{"srcURL": "\xff\xfe"}',
    "5 MB of zeros": bytes(5_000_000),
    "5 MB of array": b"[" + b"0," * 2_500_000 + b"0]",
    "form": b"operationType=resize&srcURL=http%3A%2F%2Fexample.com",
}


def changed(**keys: Any) -> dict[str, Any]:
    """The valid request with some keys changed; None takes one out."""
    return {key: value for key, value in (VALID | keys).items() if value is not None}


def with_args(**args: Any) -> dict[str, Any]:
    """The valid request with other arguments."""
    return changed(args={"width": 20, "height": 10} | args)


REFUSED: list[tuple[int, str, dict[str, Any]]] = [
    (101, "no keys", {}),
    (101, "a key missing", changed(args=None)),
    (101, "a key too many", changed(comment="")),
    (102, "unknown operation", changed(operationType="rotate")),
    (102, "operation of another type", changed(operationType=["resize"])),
    (102, "operation in capitals", changed(operationType="RESIZE")),
    (103, "args an array", changed(args=[20, 10])),
    (103, "args null", VALID | {"args": None}),
    (104, "srcURL empty", changed(srcURL="")),
    (104, "srcURL a number", changed(srcURL=1)),
    (105, "dstURL empty", changed(dstURL=" ")),
    (105, "dstURL null", VALID | {"dstURL": None}),
    (106, "no width", changed(args={"height": 10})),
    (106, "no height", changed(args={"width": 10})),
    (107, "width a string", with_args(width="20")),
    (107, "height a float", with_args(height=10.0)),
    (107, "width true", with_args(width=True)),
    (108, "resize of an SVG", changed(srcURL="http://127.0.0.1:9/photo.svg")),
    (108, "no extension", changed(srcURL="http://127.0.0.1:9/photo")),
    (109, "gopher source", changed(srcURL="gopher://127.0.0.1:9/photo.png")),
    (109, "source without a scheme", changed(srcURL="/srv/photo.png")),
    (110, "mail destination", changed(dstURL="mailto://127.0.0.1/photo.png")),
    (111, "no field name", changed(**HTTP)),
    (111, "empty field name", with_args(field_name="") | HTTP),
    (112, "field name a number", with_args(field_name=7) | HTTP),
    (112, "method a number", with_args(method=7, field_name="f") | HTTP),
    (113, "another extension", changed(dstURL="ftp://127.0.0.1:9/photo.gif")),
    (113, "no extension", changed(dstURL="ftp://127.0.0.1:9/photo")),
    (114, "unknown argument", with_args(quality=90)),
    (114, "renderer for a photo", with_args(renderer="resvg")),
    (115, "width of 0", with_args(width=0)),
    (115, "negative height", with_args(height=-1)),
    (115, "a side too long", with_args(width=20_001)),
    (115, "an area too large", with_args(width=10_000, height=5_001)),
    (115, "unknown method", with_args(method="PATCH", field_name="f") | HTTP),
    (116, "line break in srcURL", changed(srcURL="http://127.0.0.1:9/a\r\nb.png")),
    (116, "source without a host", changed(srcURL="http:///photo.png")),
    (116, "destination with a bad port", changed(dstURL="ftp://127.0.0.1:99999/photo.png")),
    (116, "line break in FTP path", changed(dstURL="ftp://127.0.0.1:9/a%0d%0aDELE/photo.png")),
    (116, "path as a file name", with_args(field_name="f") | {"dstURL": f"{PAGE}:a/b.png"}),
    (117, "over 64 KiB", changed(srcURL=f"{PAGE}/{'a' * REQUEST_LIMIT_BYTES}.png")),
    (117, "5 MB", changed(srcURL=f"{PAGE}/{'a' * 5_000_000}.png")),
]  # fmt: skip


@pytest.mark.parametrize("body", UNPARSABLE.values(), ids=UNPARSABLE.keys())
def test_what_is_no_json_object_is_a_parse_error(service: Service, body: bytes):
    """Whatever is not a JSON object is answered by the contract's parse error."""
    answer = service.send("POST", "/", body)
    assert (answer.status, answer.body) == (200, b'{"msg": "request parse error"}')
    assert answer.headers["content-type"] == "application/json"
    assert "location" not in answer.headers
    answer = service.send("POST", "/jobs", body)
    assert answer.status == 400
    assert answer.document["msg"] == "request parse error"
    assert answer.document.keys() == {"msg", "detail"}


@pytest.mark.parametrize(
    ("code", "request_"), [row[::2] for row in REFUSED], ids=[f"{c}-{t}" for c, t, _ in REFUSED]
)
def test_wrong_request_is_refused_with_its_code(
    service: Service, code: int, request_: dict[str, Any]
):
    """`/` answers message and code and nothing else; `/jobs` answers 400 with a detail."""
    answer = service.post(request_)
    expected = b'{"msg": "request invalid", "code": %d}' % code
    assert (answer.status, answer.body) == (200, expected)
    assert answer.headers["content-type"] == "application/json"
    assert "location" not in answer.headers
    answer = service.post(request_, "/jobs")
    assert answer.status == 400
    assert answer.document == {
        "msg": "request invalid",
        "code": code,
        "detail": answer.document["detail"],
    }
    assert 10 < len(answer.document["detail"]) < 1000


def test_every_quick_check_is_tried():
    """No code of the first hundred is left out here."""
    assert {row[0] for row in REFUSED} == {code for code in CODES if code < 200}


def test_request_of_the_largest_size_is_judged_by_what_it_says(service: Service):
    """A request of exactly 64 KiB is judged by what it says."""
    request = changed(operationType="rotate")
    room = REQUEST_LIMIT_BYTES - len(json.dumps(request).encode())
    body = json.dumps(changed(operationType="rotate" + "e" * room)).encode()
    assert len(body) == REQUEST_LIMIT_BYTES
    assert service.send("POST", "/", body).document["code"] == 102


def test_one_byte_more_is_too_many(service: Service):
    """A valid document whose white space takes it one byte over 64 KiB is code 117."""
    body = json.dumps(VALID).encode()
    body += b" " * (REQUEST_LIMIT_BYTES + 1 - len(body))
    assert service.send("POST", "/", body).document["code"] == 117
