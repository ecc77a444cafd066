"""POST /events: Pub/Sub pushes of Cloud Storage notifications."""

from __future__ import annotations

import logging

from flask import Blueprint, Response, request

from service.core.events import ImageArrived, Notification, parse_push
from service.core.folders import FolderPage
from service.core.jobs_topic import read_jobs_message
from service.errors import BadEnvelope, EventsOff
from service.worker import Outcome, Worker

log = logging.getLogger(__name__)


def blueprint(worker: Worker | None) -> Blueprint:
    """The event door; without a worker it answers 503, so that nothing is acknowledged."""
    door = Blueprint("events", __name__)

    @door.post("/events")
    def events() -> Response:
        if worker is None:
            raise EventsOff("INPUT_BUCKETS is not set")
        for outcome in _outcomes(worker, request.get_data(cache=False)):
            log.info(outcome.status, extra={"subject": outcome.subject, "reason": outcome.reason})
        return Response(status=204)

    return door


def _outcomes(worker: Worker, body: bytes) -> list[Outcome]:
    try:
        return worker.handle(_received(body))
    except BadEnvelope as error:
        return [worker.reject(body, error)]


def _received(body: bytes) -> Notification | FolderPage | ImageArrived:
    try:
        return parse_push(body)
    except BadEnvelope:
        message = read_jobs_message(body)
        if message is None:
            raise
        return message
