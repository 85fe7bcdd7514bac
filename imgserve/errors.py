"""Every error of imgserve: one root, the table of codes, and the classes that carry them.

The table is the contract: a code never changes its meaning. docs/codes.md is made from it by
`python -m imgserve.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table: what a code means, in words that a client can show."""

    number: int
    meaning: str


def _table(*rows: tuple[int, str]) -> dict[int, Code]:
    return {number: Code(number, meaning) for number, meaning in rows}


CODES: dict[int, Code] = _table(
    (101, "the four keys operationType, srcURL, dstURL and args are not exactly there"),
    (102, "unknown operationType"),
    (103, "args is not an object"),
    (104, "srcURL is empty or not a string"),
    (105, "dstURL is empty or not a string"),
    (106, "a required argument is missing"),
    (107, "a required argument has the wrong type"),
    (108, "srcURL's extension does not fit the operation"),
    (109, "srcURL's scheme is not supported"),
    (110, "dstURL's scheme is not supported"),
    (111, "an argument that the destination needs is missing"),
    (112, "an argument that the destination needs has the wrong type"),
    (113, "dstURL's extension is not the result's"),
    (114, "unknown argument name"),
    (115, "an argument is out of its range, such as a result over the service's limits"),
    (116, "a URL is malformed or holds control characters"),
    (117, "the request is larger than the limit"),
    (201, "the source cannot be fetched"),
    (202, "the source is not a readable image of its kind"),
    (203, "the source is smaller than the result"),
    (204, "the SVG is not valid"),
    (205, "the destination does not take the placeholder"),
    (206, "the source has more bytes than the limit"),
    (207, "the source has more pixels or frames than the limit"),
    (208, "the source's content is of another kind than its name says"),
    (301, "the source is not permitted"),
    (302, "the destination is not permitted"),
    (401, "the image could not be processed"),
    (402, "the image took too long to process"),
    (403, "the source failed after its head was read"),
    (404, "the result could not be uploaded"),
    (405, "the job's pixel process died too often"),
    (406, "the job was cancelled"),
    (501, "the service is overloaded"),
    (502, "no answer in time"),
    (503, "the service is shutting down"),
)


class ImgserveError(Exception):
    """The root of every error that imgserve raises on purpose."""


class ConfigError(ImgserveError):
    """Raised when a setting is wrong; the text names the setting, its value and what is allowed."""


class StateUnwritable(ImgserveError):
    """Raised when the state folder has no room, or this user may not write there."""


class ProtocolError(ImgserveError):
    """Raised when a message breaks the protocol: wrong version, kind, shape, type or size."""


class RequestUnparsable(ImgserveError):
    """Raised when a request is not a JSON object; it has no code, only a message."""


class CodedError(ImgserveError):
    """An error with a row in `CODES`.

    Args:
        detail: one sentence for the client: what was wrong, what was seen, what is allowed.
            It holds no user info and no query of a URL.
        code: the row; classes of a single meaning have theirs built in.
        retryable: whether the same work may succeed later (timeouts, refused connections, 5xx).
        retry_after_s: how long the peer asked to wait, if it did.
    """

    code: int = 0

    def __init__(
        self,
        detail: str = "",
        *,
        code: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        if code is not None:
            self.code = code
        self.detail = detail or CODES[self.code].meaning
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        super().__init__(f"{self.code}: {self.detail}")


class RequestInvalid(CodedError):
    """Raised when a request is refused: by the quick checks (1xx) or by a worker (2xx, 3xx)."""


class SourceUnreachable(CodedError):
    """Raised when the source cannot be fetched (before its head: 201)."""

    code = 201


class SourceUnreadable(CodedError):
    """Raised when the source is not an image of the kind its name says and of no other known."""

    code = 202


class SourceTooSmall(CodedError):
    """Raised when the source is smaller than the result in either direction."""

    code = 203


class SvgInvalid(CodedError):
    """Raised when an SVG is not well-formed or its root is not svg."""

    code = 204


class SourceTooLarge(CodedError):
    """Raised when the source has more bytes than the limit."""

    code = 206


class SourceTooManyPixels(CodedError):
    """Raised when the source has more pixels, or pixels times frames, than the limit."""

    code = 207


class SourceOfOtherKind(CodedError):
    """Raised when the source is a known kind of image, but not the one its name says."""

    code = 208


class SourceForbidden(CodedError):
    """Raised when policy refuses the source: its scheme, network or file root."""

    code = 301


class DestinationForbidden(CodedError):
    """Raised when policy refuses the destination: its scheme, network or file root."""

    code = 302


class PixelsFailed(CodedError):
    """Raised when an image could not be decoded, scaled, rendered or encoded."""

    code = 401


class PixelsTimedOut(CodedError):
    """Raised when pixel work passed its time and its process was killed."""

    code = 402


class PixelProcessDied(CodedError):
    """Raised when the pixel process of a job died under it; the broker counts how often."""

    code = 405


class UploadFailed(CodedError):
    """Raised when the destination did not take the bytes (404; 205 for the placeholder)."""

    code = 404


class JobCancelled(CodedError):
    """Raised inside a job when its submitter cancelled it."""

    code = 406


class JobFailed(CodedError):
    """Raised by the client when a job that was accepted did not reach `done` (4xx)."""


class JobConflict(ImgserveError):
    """Raised by the client when a job id was used before with another request."""


class ServiceUnavailable(CodedError):
    """Raised when the service itself cannot serve now (5xx)."""


def codes_page() -> str:
    """Render docs/codes.md from the table."""
    families = {
        1: "1xx: the request, checked without any I/O, in this order",
        2: "2xx: source and destination, found before the reply",
        3: "3xx: policy",
        4: "4xx: after acceptance",
        5: "5xx: the service",
    }
    lines = ["# Error codes", "", "Made from `imgserve/errors.py` by `python -m imgserve.errors`."]
    family = 0
    for number, row in sorted(CODES.items()):
        if number // 100 != family:
            family = number // 100
            lines += ["", f"## {families[family]}", "", "| code | meaning |", "|---|---|"]
        lines.append(f"| {number} | {row.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(codes_page(), end="")  # noqa: T201 (the page's source)
