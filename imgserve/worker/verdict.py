"""What an error means for a job: rejected, failed, or given back for another attempt. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imgserve.errors import CODES, CodedError, PixelProcessDied
from imgserve.protocol.checks import TEXT_LIMIT_CHARS
from imgserve.protocol.reports import ReturnReason

# Before acceptance the only upload is the placeholder's.
_BEFORE_ACCEPTANCE: Final = {404: 205}

# The client has its answer, so what an attempt finds now is a failure of the work.
_AFTER_ACCEPTANCE: Final = {201: 403, 206: 403, 301: 403, 205: 404, 302: 404}
_IMAGE_FAILED: Final = 401


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ends.

    Args:
        code, detail: for the report.
        back: why the job goes back to the queue, or None where the verdict is final.
        delay_s: the least time before the next attempt.
    """

    code: int
    detail: str
    back: ReturnReason | None = None
    delay_s: float = 0.0

    @property
    def rejects(self) -> bool:
        """Whether it is a refusal (1xx to 3xx) and no failure (4xx)."""
        return self.code < 400


def judge(error: CodedError, *, accepted: bool) -> Verdict:
    """Decide what an error means.

    Args:
        error: what went wrong.
        accepted: whether the client was told that its job is accepted, by whatever attempt.
    """
    code, detail = _final_code(error.code, accepted), error.detail[:TEXT_LIMIT_CHARS]
    if isinstance(error, PixelProcessDied):
        return Verdict(code, detail, ReturnReason.CRASHED)
    if error.retryable:
        delay_s = max(0.0, error.retry_after_s or 0.0)
        return Verdict(code, detail, ReturnReason.TRANSIENT, delay_s)
    return Verdict(code, detail)


def _final_code(code: int, accepted: bool) -> int:
    if not accepted:
        return _BEFORE_ACCEPTANCE.get(code, code)
    if code in _AFTER_ACCEPTANCE:
        return _AFTER_ACCEPTANCE[code]
    return code if code >= 400 and code in CODES else _IMAGE_FAILED
