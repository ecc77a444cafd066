"""Every failure as an RFC 9457 problem: the one place where an exception becomes an answer."""

from __future__ import annotations

import json
import logging
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from service.errors import ServiceError

log = logging.getLogger(__name__)


def register(app: Flask, max_body_bytes: int) -> None:
    """Answer errors of any kind with application/problem+json; `max_body_bytes` is named when a body is over it."""

    def refused(error: HTTPException) -> Response:
        detail = _too_large(max_body_bytes) if error.code == 413 else error.description or error.name
        problem = _problem(error.code or 500, _code(error), error.name, detail, retryable=False)
        for name, value in error.get_headers():
            if name not in ("Content-Type", "Content-Length"):
                problem.headers[name] = value
        return problem

    app.register_error_handler(ServiceError, _failed)
    app.register_error_handler(HTTPException, refused)
    app.register_error_handler(Exception, _unexpected)


def _failed(error: ServiceError) -> Response:
    level = logging.WARNING if error.status >= 500 else logging.INFO
    log.log(level, error.code, extra={"path": request.path, "status": error.status, "detail": error.detail})
    problem = _problem(error.status, error.code, error.title, error.detail, retryable=error.retryable)
    if error.retry_after_s is not None:
        problem.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        problem.headers["WWW-Authenticate"] = "Bearer"
    return problem


def _unexpected(error: Exception) -> Response:
    log.error("internal", exc_info=error, extra={"path": request.path})
    return _problem(500, "internal", "Internal error", "something went wrong here; it has been logged", retryable=False)


def _problem(status: int, code: str, title: str, detail: str, *, retryable: bool) -> Response:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": retryable,
    }
    return Response(json.dumps(document) + "\n", status, content_type="application/problem+json")


def _too_large(limit: int) -> str:
    return (
        f"the request is over {limit} bytes (MAX_BODY_BYTES); "
        "upload the image to an input bucket (gs://) with a sidecar instead"
    )


def _code(error: HTTPException) -> str:
    """`too_large` as for our own limits, else the name of the status: `method_not_allowed`."""
    return "too_large" if error.code == 413 else error.name.lower().replace(" ", "_")
