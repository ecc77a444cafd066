"""POST /events: Pub/Sub pushes and CloudEvents."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from flask import Blueprint, Response, request
from werkzeug.datastructures import Headers

from service.core.envelopes import Message, read_request
from service.core.notifications import Ignored
from service.errors import BadEnvelope, EventsOff
from service.web.bodies import whole_body
from service.worker import Outcome, Worker

log = logging.getLogger(__name__)


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
        for outcome in _outcomes(worker, dict(request.headers), whole_body(request)):
            log.info(outcome.status, extra={"subject": outcome.subject, "reason": outcome.reason})
        return Response(status=204)

    return door


def _authorization(headers: Headers) -> str | None:
    """The header whose token Cloud Run has checked: where there is the first, it lets any `Authorization` pass.

    https://cloud.google.com/run/docs/authenticating/service-to-service
    """
    return headers.get("X-Serverless-Authorization", headers.get("Authorization"))


def _outcomes(worker: Worker, headers: Mapping[str, str], body: bytes) -> list[Outcome]:
    try:
        event = read_request(headers, body)
    except BadEnvelope as error:
        return [worker.reject(body, error)]
    if isinstance(event, Ignored):
        return [Outcome("ignored", "", event.reason)]
    return worker.deliver(event) if isinstance(event, Message) else worker.handle(event)
