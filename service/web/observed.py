"""Around every request: its id and trace, its line in the log, its place in the metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextlib import ExitStack

from flask import Flask, Response, g, request

from service.core.context import Context, current, entered, incoming_trace
from service.telemetry.listening import Telemetry, no_span

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-Id"
# One that could break a line, a label or a search is replaced, not repaired.
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# Asked every few seconds by probes and scrapers: they say nothing new.
_QUIET = ("health", "metrics")
_SHOWN = 200  # characters of a path in the log


def register(app: Flask, telemetry: Telemetry) -> None:
    """Put it around the requests of `app`; call it before anything else that acts before a request."""

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        g.leaving = ExitStack()
        span = no_span if _door() in _QUIET else telemetry.span
        rule = request.url_rule.rule if request.url_rule else "(no route)"
        trace = g.leaving.enter_context(span(f"{request.method} {rule}", incoming_trace(dict(request.headers))))
        g.leaving.enter_context(entered(Context(trace, {"request_id": _request_id()})))

    @app.after_request
    def end(answer: Response) -> Response:
        seconds = time.monotonic() - g.began
        telemetry.observer.answered(_door(), answer.status_code, seconds)
        _write_line(answer, seconds)
        return answer

    @app.teardown_request
    def leave(_: BaseException | None) -> None:
        leaving: ExitStack | None = g.pop("leaving", None)
        if leaving is not None:
            leaving.close()


def _door() -> str:
    """The blueprint that answers; callers cannot make up new ones."""
    return request.blueprint or "none"


def _request_id() -> str:
    given = request.headers.get(REQUEST_ID, "")
    return given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


def _write_line(answer: Response, seconds: float) -> None:
    """Neither the query string nor any header is in it: they may hold tokens."""
    context = current()
    assert context is not None
    answer.headers[REQUEST_ID] = context.labels["request_id"]
    level = logging.DEBUG if _door() in _QUIET else logging.INFO
    fields = {
        "status": answer.status_code,
        "ms": round(seconds * 1000, 1),
        "request_bytes": request.content_length,
        "response_bytes": answer.calculate_content_length(),
        "stages_ms": dict(context.stages_ms),
    }
    log.log(level, "%s %s", request.method, request.path[:_SHOWN], extra=fields)
