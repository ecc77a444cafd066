"""The OpenAPI 3.1 description of every path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from service import errors
from service.core.prompts import Limits
from service.web.answers import CONTENT_TYPES
from service.web.schemas import Schema, components

Operation = dict[str, Any]
Failures = tuple[type[errors.ServiceError], ...]

VERSION = "1.0.0"
"""Of the contract, not of the code: a field that goes or changes its meaning makes the next whole number."""

_ALWAYS: Failures = (errors.ServiceError,)
_MODEL: Failures = (
    errors.NotReady,
    errors.Ending,
    errors.DeadlineExceeded,
    errors.OutOfMemory,
    errors.EngineBroken,
    errors.CloudUnavailable,
)
SEGMENT_FAILURES: Failures = (
    errors.BadField,
    errors.BadBody,
    errors.MissingImage,
    errors.Forbidden,
    errors.NotFound,
    errors.SlowClient,
    errors.TooLarge,
    errors.NotAnImage,
    errors.UnsupportedMediaType,
    errors.UnreadableImage,
    errors.QueueFull,
    errors.NotFinite,
    *_ALWAYS,
    *_MODEL,
)
EVENT_FAILURES: Failures = (
    errors.BadEnvelope,
    errors.Unauthorized,
    errors.Forbidden,
    errors.SlowClient,
    errors.TooLarge,
    errors.UnsupportedMediaType,
    errors.QueueFull,
    errors.NotFinite,
    *_ALWAYS,
    errors.EventsOff,
    *_MODEL,
)

_INTRODUCTION = """\
SAM 3 finds every instance of a short phrase in an image. `POST /segment` answers at once; images that are uploaded to
an input bucket, and jobs, come as events to `POST /events`. On Cloud Run callers need an identity token
(`Authorization: Bearer …`); the platform itself answers 401 and 403 to those who may not call."""


def document(limits: Limits) -> Schema:
    """The whole description, with the limits of this deployment; the same whatever else is set."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SAM 3 service",
            "version": VERSION,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(),
        "components": {"schemas": dict(sorted(components(limits).items()))},
    }


def text(limits: Limits) -> str:
    """The same as it is served and committed."""
    return json.dumps(document(limits), ensure_ascii=False, indent=2) + "\n"


def _paths() -> dict[str, dict[str, Operation]]:
    probe = {"200": _json("Yes.", "Probe"), "503": _json("No, or not yet.", "Probe", retry=True)} | _problems(_ALWAYS)
    return {
        "/": _get("playground", "A page to try it in the browser", {"200": _page("text/html")}),
        "/segment": {"post": _segment()},
        "/events": {"post": _events()},
        "/ready": _get("ready", "Does the model answer?", probe),
        "/health": _get("health", "Are the process and its model thread alive?", probe),
        "/healthz": _get(
            "healthz", "The same, for local use", probe, "On Cloud Run Google's front end answers this path itself."
        ),
        "/metrics": _get("metrics", "Measurements for Prometheus", {"200": _page("text/plain")}),
        "/openapi.json": _get("openapi", "This document", {"200": _page("application/json", {"type": "object"})}),
        "/docs": _get("docs", "This document as a page", {"200": _page("text/html")}),
    }


def _segment() -> Operation:
    formats = {kind: {"schema": _bytes()} for name, kind in CONTENT_TYPES.items() if name != "json"}
    found = {
        "description": "What was found, in the `format` that was asked for.",
        "content": {"application/json": {"schema": _ref("SegmentAnswer")}} | formats,
    }
    return {
        "operationId": "segment",
        "summary": "Find every instance of each prompt in an image",
        "description": "Scores above `threshold`, then the best `max_instances` of each prompt, then `nms_iou`; an "
        "answer over MAX_TOTAL_INSTANCES or MAX_RESPONSE_BYTES is refused whole, never cut.",
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _ref("SegmentForm")},
                "application/json": {"schema": _ref("SegmentRequest")},
            },
        },
        "responses": {"200": found} | _problems(SEGMENT_FAILURES),
    }


def _events() -> Operation:
    return {
        "operationId": "events",
        "summary": "A Pub/Sub push or a CloudEvent",
        "description": "A wrapped push that carries a Cloud Storage notification or a job, or a CloudEvent of an "
        "upload or of a message, binary or structured. Everything but 204 has the event delivered again.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("PubSubPush")},
                "application/cloudevents+json": {"schema": _ref("CloudEvent")},
            },
        },
        "responses": {"204": {"description": "Acknowledged: done, or nothing to do."}} | _problems(EVENT_FAILURES),
    }


def _get(name: str, summary: str, responses: Mapping[str, Any], description: str = "") -> dict[str, Operation]:
    operation: Operation = {"operationId": name, "summary": summary}
    return {"get": operation | ({"description": description} if description else {}) | {"responses": dict(responses)}}


def _problems(failures: Iterable[type[errors.ServiceError]]) -> dict[str, Any]:
    """A response for each status, with the codes that it may carry."""
    by_status = groupby(sorted(failures, key=lambda failure: failure.status), key=lambda failure: failure.status)
    return {str(status): _problem(tuple(group)) for status, group in by_status}


def _problem(failures: Failures) -> dict[str, Any]:
    codes = [failure.code for failure in failures]
    described = "; ".join(f"`{failure.code}`: {failure.title}" for failure in failures)
    schema = {"allOf": [_ref("Problem"), {"properties": {"code": {"enum": codes}}}]}
    response = {"description": described, "content": {"application/problem+json": {"schema": schema}}}
    return response | (_RETRY if any(failure.retry_after_s is not None for failure in failures) else {})


_RETRY = {
    "headers": {"Retry-After": {"description": "seconds after which to try again", "schema": {"type": "integer"}}}
}


def _json(description: str, model: str, *, retry: bool = False) -> dict[str, Any]:
    response = {"description": description, "content": {"application/json": {"schema": _ref(model)}}}
    return response | (_RETRY if retry else {})


def _page(content_type: str, schema: Schema | None = None) -> dict[str, Any]:
    return {"description": "The whole of it.", "content": {content_type: {"schema": schema or {"type": "string"}}}}


def _bytes() -> Schema:
    return {"type": "string", "format": "binary"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
