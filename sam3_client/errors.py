"""What can go wrong, by what the caller can do about it."""

from __future__ import annotations

import json
from typing import Any


class Sam3Error(Exception):
    """Any failure of a request; `retryable` says whether the same request may succeed later."""

    retryable = False


class Unreachable(Sam3Error):
    """No answer: no connection, one that broke, or nothing within the timeout."""

    retryable = True


class Problem(Sam3Error):
    """An answer that is an error (RFC 9457), with the service's stable `code` and the id of its line in the log.

    `code` is `http_{status}` where something in front of the service has answered.
    """

    def __init__(
        self, status: int, document: dict[str, Any], retry_after_s: float | None, request_id: str | None
    ) -> None:
        self.status = status
        self.code = str(document.get("code", f"http_{status}"))
        self.title = str(document.get("title", ""))
        self.detail = str(document.get("detail", "the answer is no problem document"))
        self.retryable = bool(document.get("retryable", status in (408, 429, 503, 504)))
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        super().__init__(f"{status} {self.code}: {self.detail}")


class BadRequest(Problem):
    """400, 415, 422: a field or the image is at fault; `detail` names it."""


class Forbidden(Problem):
    """401, 403: no identity token, or one of somebody who may not call."""


class NotFound(Problem):
    """404: there is no such object, or no such service."""


class TooLarge(Problem):
    """413: image or answer is over a limit, which `detail` names."""


class Unavailable(Problem):
    """408, 429, 503, 504: the body came too slowly, the service is busy or loading; still so after all retries.

    504 is the word of what stands in front of the service, for one that did not answer in its time.
    """


class ServerFault(Problem):
    """Any other status: a defect over there."""


_BY_STATUS: dict[int, type[Problem]] = {
    400: BadRequest,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    413: TooLarge,
    415: BadRequest,
    422: BadRequest,
    429: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def problem(status: int, body: bytes, retry_after_s: float | None, request_id: str | None) -> Problem:
    """The exception for an answer of `status`, whatever its body."""
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    kind = _BY_STATUS.get(status, ServerFault)
    return kind(status, document if isinstance(document, dict) else {}, retry_after_s, request_id)
