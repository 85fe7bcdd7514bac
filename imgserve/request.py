"""The JSON request: parse it, check it without any I/O, resolve the tags of its destination.

Gateway and worker run the same checks from here, so that a native client is held to the same
contract as a web application. Everything is pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NoReturn
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from imgserve.errors import RequestInvalid, RequestUnparsable

REQUEST_LIMIT_BYTES: Final = 64 * 1024
"""The largest request (code 117): the contract's own number."""

RESULT_LIMIT_SIDE_PX: Final = 65_500
"""The largest side of a result that any service can make: libjpeg's own limit, GIF's is near."""

KEYS: Final = frozenset({"operationType", "srcURL", "dstURL", "args"})
_QUOTE_LIMIT_CHARS: Final = 80


class Operation(StrEnum):
    """What is done to the source."""

    RESIZE = "resize"
    RASTERIZE = "rasterize"


class ImageKind(StrEnum):
    """A kind of image; its value is the usual extension."""

    PNG = "png"
    GIF = "gif"
    JPEG = "jpeg"
    SVG = "svg"


class Method(StrEnum):
    """How a result goes to an HTTP destination."""

    POST = "POST"
    PUT = "PUT"


class Renderer(StrEnum):
    """What rasterizes an SVG."""

    RESVG = "resvg"
    CAIROSVG = "cairosvg"


KIND_OF_EXTENSION: Final[Mapping[str, ImageKind]] = {
    "png": ImageKind.PNG,
    "gif": ImageKind.GIF,
    "jpg": ImageKind.JPEG,
    "jpeg": ImageKind.JPEG,
    "svg": ImageKind.SVG,
}
SOURCE_EXTENSIONS: Final[Mapping[Operation, tuple[str, ...]]] = {
    Operation.RESIZE: ("png", "gif", "jpg", "jpeg"),
    Operation.RASTERIZE: ("svg",),
}
REQUIRED_ARGUMENTS: Final = ("width", "height")
ARGUMENTS: Final[Mapping[Operation, frozenset[str]]] = {
    Operation.RESIZE: frozenset({"width", "height", "method", "field_name", "field_file"}),
    Operation.RASTERIZE: frozenset(
        {"width", "height", "method", "field_name", "field_file", "renderer"}
    ),
}
SCHEMES: Final = ("http", "https", "ftp", "ftps", "file")
_TAG = re.compile(r"\{\$(width|height|basename|ext|extension)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLimits:
    """How large a result may be (code 115).

    Args:
        pixels: width times height.
        side_px: width, and height.
    """

    pixels: int
    side_px: int


ANY_RESULT: Final = ResultLimits(pixels=RESULT_LIMIT_SIDE_PX**2, side_px=RESULT_LIMIT_SIDE_PX)
"""For who does not know the service's own limits, such as its clients: what no service can take."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a result goes, with every tag replaced.

    Args:
        url: the URL to upload to; for an HTTP POST the page with the form.
        method: how, where the scheme is http or https; other schemes ignore it.
        field_name: the form's file field (HTTP POST only).
        file_name: the name the uploaded file gets (HTTP POST only).
    """

    url: str
    method: Method = Method.PUT
    field_name: str = ""
    file_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One checked request.

    Args:
        operation: what to do.
        src_url: where the source is, as the client wrote it.
        dst_url: where the result goes, tags replaced: what the reply carries.
        destination: the same, ready for the upload.
        width_px, height_px: the result's size.
        source_kind: what srcURL's extension promises.
        renderer: the SVG renderer asked for, if one was.
    """

    operation: Operation
    src_url: str
    dst_url: str
    destination: Destination
    width_px: int
    height_px: int
    source_kind: ImageKind
    renderer: Renderer | None = None

    @property
    def result_kind(self) -> ImageKind:
        """The result's kind: the source's own, or PNG for a rasterized SVG."""
        return ImageKind.PNG if self.operation is Operation.RASTERIZE else self.source_kind


def canonical(document: Mapping[str, Any]) -> bytes:
    """Serialize a request so that equal requests are equal bytes.

    Returns: UTF-8 JSON, keys sorted, no white space: the payload of a submit message.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii")


def load(body: bytes) -> dict[str, Any]:
    """Parse a body as a JSON object (RFC 8259, UTF-8).

    Raises: RequestUnparsable when it is anything else.
    """
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise RequestUnparsable("the body is not valid JSON") from exc
    if not isinstance(document, dict):
        raise RequestUnparsable(f"the body is a JSON {_json_type(document)}, not an object")
    return document


def parse(body: bytes, limits: ResultLimits = ANY_RESULT) -> Request:
    """Parse and check a body.

    Args:
        body: the JSON.
        limits: of the result.

    Raises:
        RequestUnparsable: it is not a JSON object.
        RequestInvalid: a check failed; codes 101 to 117.
    """
    request = check(load(body), limits)
    if len(body) > REQUEST_LIMIT_BYTES:
        _refuse(117, f"the request has {len(body)} bytes; at most {REQUEST_LIMIT_BYTES} are taken")
    return request


def check(document: Mapping[str, Any], limits: ResultLimits = ANY_RESULT) -> Request:
    """Run the quick checks in the order of their codes, without any I/O.

    Args:
        document: the JSON object.
        limits: of the result.

    Raises: RequestInvalid with the first code that applies, 101 to 116.
    """
    operation = _check_shape(document)
    src_url, dst_url, args = document["srcURL"], document["dstURL"], document["args"]
    _check_required(args)
    name, extension = split_name(source_file_name(src_url))
    _check_source_extension(operation, extension)
    _check_scheme(109, "srcURL", src_url)
    _check_scheme(110, "dstURL", dst_url)
    posting = scheme_of(dst_url) in ("http", "https") and _method(args) is Method.POST
    field_name = _field_name(args) if posting else ""
    tags = {"width": str(args["width"]), "height": str(args["height"]), "basename": name}
    tags |= {"ext": extension, "extension": extension}
    page, file_part = _split_last_colon(dst_url)
    file_part = _TAG.sub(lambda tag: tags[tag.group(1)], file_part)
    resolved = f"{page}:{file_part}"
    result_name = file_part if posting else source_file_name(resolved)
    _check_result_extension(operation, extension, result_name)
    renderer = _check_arguments(operation, args, limits)
    _check_url("srcURL", src_url)
    if posting:
        _check_url("dstURL's page", page)
        _check_file_name(file_part)
        destination = Destination(page, Method.POST, field_name, file_part)
    else:
        _check_url("dstURL", resolved)
        destination = Destination(resolved, Method.PUT)
    return Request(
        operation=operation,
        src_url=src_url,
        dst_url=resolved,
        destination=destination,
        width_px=args["width"],
        height_px=args["height"],
        source_kind=KIND_OF_EXTENSION[extension.lower()],
        renderer=renderer,
    )


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case, empty where it has none."""
    scheme, separator, _ = url.partition(":")
    return scheme.lower() if separator else ""


def source_file_name(url: str) -> str:
    """Return the last part of a URL's path, as written, without query and fragment."""
    path = re.split(r"[?#]", url, maxsplit=1)[0]
    _, separator, after_scheme = path.partition("://")
    if not separator:  # no URL at all, which another code says better than a missing extension
        return path.rpartition("/")[2]
    return after_scheme.rpartition("/")[2] if "/" in after_scheme else ""


def split_name(file_name: str) -> tuple[str, str]:
    """Split a file name into base name and extension; the extension may be empty."""
    name, dot, extension = file_name.rpartition(".")
    return (name, extension) if dot else (file_name, "")


def _check_shape(document: Mapping[str, Any]) -> Operation:
    """Codes 101 to 105."""
    if document.keys() != KEYS:
        missing, extra = sorted(KEYS - document.keys()), sorted(document.keys() - KEYS)
        found = [f"missing: {', '.join(missing)}"] if missing else []
        found += [f"not known: {', '.join(map(quoted, extra))}"] if extra else []
        _refuse(
            101, f"a request has exactly the keys {', '.join(sorted(KEYS))} ({'; '.join(found)})"
        )
    operation = document["operationType"]
    if not isinstance(operation, str) or operation not in SOURCE_EXTENSIONS:
        _refuse(102, f"operationType is {quoted(operation)}; it can be resize or rasterize")
    if not isinstance(document["args"], dict):
        _refuse(103, f"args is a JSON {_json_type(document['args'])}; it must be an object")
    for code, key in ((104, "srcURL"), (105, "dstURL")):
        if not isinstance(document[key], str) or not document[key].strip():
            _refuse(code, f"{key} is {quoted(document[key])}; it must be a URL")
    return Operation(operation)


def _check_required(args: Mapping[str, Any]) -> None:
    """Codes 106 and 107."""
    for name in REQUIRED_ARGUMENTS:
        if name not in args:
            _refuse(106, f"args has no {name}; width and height are required")
    for name in REQUIRED_ARGUMENTS:
        if type(args[name]) is not int:  # bool is a subclass of int, and is refused
            _refuse(107, f"{name} is {quoted(args[name])}; it must be an integer")


def _check_source_extension(operation: Operation, extension: str) -> None:
    allowed = SOURCE_EXTENSIONS[operation]
    if extension.lower() not in allowed:
        _refuse(
            108,
            f"srcURL's extension is {quoted(extension)}; {operation} takes {', '.join(allowed)}",
        )


def _check_scheme(code: int, key: str, url: str) -> None:
    if scheme_of(url) not in SCHEMES:
        _refuse(code, f"{key}'s scheme is {quoted(scheme_of(url))}; it can be {', '.join(SCHEMES)}")


def _method(args: Mapping[str, Any]) -> Method:
    """The upload method; a wrong one is refused later, in the order of the codes."""
    method = args.get("method")
    return Method.PUT if isinstance(method, str) and method.upper() == "PUT" else Method.POST


def _field_name(args: Mapping[str, Any]) -> str:
    """Codes 111 and 112; older clients say field_file."""
    if "method" in args and not isinstance(args["method"], str):
        _refuse(112, f"method is {quoted(args['method'])}; it must be POST or PUT")
    field_name = args.get("field_name", args.get("field_file"))
    if field_name is None or field_name == "":
        _refuse(111, "an HTTP POST destination needs field_name, the form's file field")
    if not isinstance(field_name, str):
        _refuse(112, f"field_name is {quoted(field_name)}; it must be a string")
    if _CONTROL.search(field_name):
        _refuse(112, "field_name holds control characters")
    return field_name


def _check_result_extension(operation: Operation, extension: str, result_name: str) -> None:
    wanted = "png" if operation is Operation.RASTERIZE else extension.lower()
    seen = split_name(result_name)[1]
    if seen.lower() != wanted:
        _refuse(113, f"dstURL's extension is {quoted(seen)}; the result's is {wanted}")


def _check_arguments(
    operation: Operation, args: Mapping[str, Any], limits: ResultLimits
) -> Renderer | None:
    """Codes 114 and 115."""
    known = ARGUMENTS[operation]
    for name in args:
        if name not in known:
            allowed = ", ".join(sorted(known))
            _refuse(114, f"{operation} has no argument {quoted(name)}; it takes {allowed}")
    width_px, height_px = args["width"], args["height"]
    for name in REQUIRED_ARGUMENTS:
        if not 1 <= args[name] <= limits.side_px:
            _refuse(115, f"{name} is {quoted(args[name])}; 1 to {limits.side_px} are allowed")
    if width_px * height_px > limits.pixels:
        _refuse(
            115,
            f"the result would have {width_px * height_px} pixels; "
            f"at most {limits.pixels} are allowed",
        )
    method = args.get("method", "POST")
    if not isinstance(method, str) or method.upper() not in Method.__members__:
        _refuse(115, f"method is {quoted(method)}; it can be POST or PUT")
    renderer = args.get("renderer")
    if renderer is None:
        return None
    if not isinstance(renderer, str) or renderer not in Renderer.__members__.values():
        _refuse(115, f"renderer is {quoted(renderer)}; it can be resvg or cairosvg")
    return Renderer(renderer)


def _split_last_colon(url: str) -> tuple[str, str]:
    """Tags are replaced after the last colon; for an HTTP POST it ends the page's URL."""
    page, _, rest = url.rpartition(":")
    return page, rest


def _check_file_name(name: str) -> None:
    """An upload's file name is a name, not a path, and goes into a header."""
    if "/" in name or "\\" in name or _CONTROL.search(name):
        _refuse(
            116,
            f"an HTTP POST destination is <page URL>:<file name>, and {quoted(name)} is no file "
            'name (for an HTTP PUT say "method": "PUT" in args)',
        )


def _check_url(key: str, url: str) -> None:
    """Code 116: what no part of the service should ever hand to a server."""
    if _CONTROL.search(url) or url != url.strip():
        _refuse(116, f"{key} holds control characters, or white space around it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        _refuse(116, f"{key} is malformed: its host or port cannot be read")
    if port == 0:
        _refuse(116, f"{key} names port 0; 1 to 65535 are allowed")
    _check_authority(key, url, parts)
    if parts.scheme in ("ftp", "ftps", "file"):
        if "#" in url:
            _refuse(116, f"{key} holds #, which ends a URL's path; write %23 where a name has it")
        decoded = unquote_to_bytes(parts.path)
        if any(byte < 0x20 or byte == 0x7F for byte in decoded):
            _refuse(116, f"{key} holds encoded control characters in its path")


def _check_authority(key: str, url: str, parts: SplitResult) -> None:
    if not url[len(parts.scheme) :].startswith("://"):
        _refuse(116, f"{key} is malformed: after the scheme comes ://")
    if parts.scheme == "file":
        if parts.netloc.lower() not in ("", "localhost"):
            _refuse(116, f"{key} names a host; a file URL is file:///path")
        return
    if not parts.hostname:
        _refuse(116, f"{key} is malformed: it has no host")
    if re.search(r"[\s\\]", parts.netloc):
        _refuse(116, f"{key} is malformed: its host holds white space or a backslash")


def quoted(value: object) -> str:
    """Quote a client's value for a detail: short, printable, one line."""
    text = value if isinstance(value, str) else _plain(value)
    if len(text) > _QUOTE_LIMIT_CHARS:
        text = text[:_QUOTE_LIMIT_CHARS] + "…"
    return json.dumps(text, ensure_ascii=True) if isinstance(value, str) else text


def _plain(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**18 else "a number of over 18 digits"
    if value is None or isinstance(value, bool | float):
        return json.dumps(value)
    return f"a JSON {_json_type(value)}"


_JSON_TYPES: Final[Mapping[type, str]] = {
    dict: "object",
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def _json_type(value: object) -> str:
    return _JSON_TYPES.get(type(value), type(value).__name__)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse(code: int, detail: str) -> NoReturn:
    raise RequestInvalid(detail, code=code)
