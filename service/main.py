"""functions-framework targets over the same parts as the container: `segment` (http) and `on_event` (cloudevent).

functions-framework --source service/main.py --target on_event
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING

import functions_framework
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent
from flask import Flask, Request, abort, request
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from service.app import from_environment
from service.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_first_call = threading.Lock()
# What the framework leaves out of an event, of the request that it came in.
_PASSED_ON = ("Authorization", "X-Serverless-Authorization", "Traceparent", "X-Cloud-Trace-Context", "X-Request-Id")


@functions_framework.http
def segment(request: Request) -> Response:
    """`POST /segment` at the function's own address, and the container's other paths below it."""
    path = request.path if request.path != "/" else "/segment"
    # What is read here counts as read there: the framework reads to the end of a request that it answers.
    return _answer(request.environ | {"PATH_INFO": path, "wsgi.input": request.stream, "wsgi.input_terminated": True})


@functions_framework.cloud_event
def on_event(event: CloudEvent) -> None:
    """`POST /events` for one CloudEvent. Returns when it may be acknowledged.

    The framework throws return values away, so that any other answer leaves as an exception that carries it: 503 and
    429 have the event delivered again.
    """
    headers, body = to_structured(event)
    headers |= {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    answer = _answer(EnvironBuilder("/events", method="POST", headers=Headers(headers), data=body).get_environ())
    if answer.status_code >= 300:
        abort(answer)


def _answer(environ: WSGIEnvironment) -> Response:
    return Response.from_app(_service(), environ)


def _service() -> Flask:
    with _first_call:
        return _built()


@cache
def _built() -> Flask:
    return from_environment()


def _begin() -> None:
    """Load the model as soon as there is a process to load it in.

    The framework imports this module in gunicorn's arbiter, whose threads do not outlive the fork of its worker.
    """
    _service()


Settings.or_exit()
os.register_at_fork(after_in_child=_begin)
