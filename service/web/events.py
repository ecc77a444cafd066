"""POST /events: Pub/Sub pushes and CloudEvents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Blueprint, Response, request
from werkzeug.datastructures import Headers

from service.core.envelopes import Message, read_request
from service.errors import BadEnvelope, EventsOff
from service.web.bodies import whole_body
from service.worker import Worker

Check = Callable[[str | None], None]


def nobody_checks(authorization: str | None) -> None:
    """The platform has done it."""


def blueprint(worker: Worker | None, check: Check = nobody_checks) -> Blueprint:
    """The event door; without a worker it answers 503, so that nothing is acknowledged.

    `check`: raises for the header `Authorization`, or what stands for it, of who may not push.
    """
    door = Blueprint("events", __name__)

    @door.before_request
    def authenticate() -> None:
        check(_authorization(request.headers))

    @door.post("/events")
    def events() -> Response:
        if worker is None:
            raise EventsOff("INPUT_BUCKETS is not set")
        _deliver(worker, dict(request.headers), whole_body(request))
        return Response(status=204)

    return door


def _authorization(headers: Headers) -> str | None:
    """The header whose token Cloud Run has checked: where there is the first, it lets any `Authorization` pass.

    https://cloud.google.com/run/docs/authenticating/service-to-service
    """
    return headers.get("X-Serverless-Authorization", headers.get("Authorization"))


def _deliver(worker: Worker, headers: Mapping[str, str], body: bytes) -> None:
    try:
        event = read_request(headers, body)
    except BadEnvelope as error:
        worker.reject(body, error)
        return
    if isinstance(event, Message):
        worker.deliver(event)
    else:
        worker.handle(event)
