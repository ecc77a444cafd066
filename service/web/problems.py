"""Every failure as an RFC 9457 problem: the one place where an exception becomes an answer."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoSuchPath

from service.errors import BadBody, NotFound, ServiceError, TooLarge, shortened
from service.settings import Settings

log = logging.getLogger(__name__)

INTERNAL = "something went wrong here; it has been logged"
MEDIA_TYPE = "application/problem+json"
_OWN: dict[int, type[ServiceError]] = {kind.status: kind for kind in (BadBody, NotFound, TooLarge, ServiceError)}


def register(app: Flask, settings: Settings) -> None:
    """Answer errors of any kind with application/problem+json; a body over a limit of the settings is told which."""

    def refused(error: HTTPException) -> Response:
        detail = _too_large(settings) if error.code == 413 else _detail(error)
        status = error.code or 500
        problem = _problem(status, *words(status), detail, retryable=False)
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
    return _problem(500, *words(500), INTERNAL, retryable=False)


def _problem(status: int, code: str, title: str, detail: str, *, retryable: bool) -> Response:
    body = problem_body(status, code, title, detail, retryable=retryable)
    return Response(body, status, content_type=MEDIA_TYPE)


def problem_body(status: int, code: str, title: str, detail: str, *, retryable: bool) -> str:
    """The document, as every error is answered with it."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": retryable,
    }
    return json.dumps(document) + "\n"


def words(status: int) -> tuple[str, str]:
    """Code and title of a status that no ServiceError has brought: those of our own where there are some."""
    own = _OWN.get(status)
    if own is not None:
        return own.code, own.title
    # Python 3.13 has a new phrase for it; a code stays.
    name = "URI Too Long" if status == HTTPStatus.REQUEST_URI_TOO_LONG else HTTPStatus(status).phrase
    return name.lower().replace(" ", "_").replace("-", "_"), name


def _detail(error: HTTPException) -> str:
    """werkzeug's words where they say what is wrong."""
    if isinstance(error, NoSuchPath):
        return f"there is no {shortened(request.path)} here; GET /docs lists the paths"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"{shortened(request.method)} is not allowed on {shortened(request.path)}; allowed: {allowed}"
    if isinstance(error, ClientDisconnected):
        return "the body ends before it is whole"
    return error.description or error.name


def _too_large(settings: Settings) -> str:
    by_uri = "name it by image_uri (gs://bucket/object)"
    ways = [by_uri] if settings.limits.read_buckets else []
    ways += ["upload it to an input bucket (gs://) with a sidecar"] if settings.input_buckets else []
    way = " or ".join(ways) or f"make it smaller, or set READ_BUCKETS and {by_uri}"
    return f"the request is over {settings.max_body_bytes} bytes (MAX_BODY_BYTES); instead of sending the image, {way}"
