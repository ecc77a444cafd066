"""The HTTP request of an event: a wrapped Pub/Sub push, or a CloudEvent of Eventarc, binary or structured."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError, field_validator
from pydantic_core import from_json

from service.core.notifications import Ignored, Notification, first_problem, from_resource
from service.errors import BadEnvelope

FINALIZED = "google.cloud.storage.object.v1.finalized"
MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
_STRUCTURED = "application/cloudevents+json"
_ANY_CLOUDEVENT = "application/cloudevents"
_BATCH = "application/cloudevents-batch"
_HEADER = "ce-"
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class Message:
    """One Pub/Sub message, whichever way it came.

    `subscription` is "" where the envelope does not say. `delivery_attempt` counts from 1 and is there only when the
    subscription has a dead-letter policy.
    """

    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_id: str = ""
    subscription: str = ""
    delivery_attempt: int | None = None


class _PubsubMessage(BaseModel):
    attributes: dict[str, str] = {}
    data: bytes = b""
    message_id: str = Field("", validation_alias=AliasChoices("messageId", "message_id"))

    @field_validator("attributes", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return {} if value is None else value

    @field_validator("data", mode="before")
    @classmethod
    def _decoded(cls, value: object) -> bytes:
        return _from_base64(value)


class _Push(BaseModel):
    """A wrapped push, and the data of `messagePublished`: https://cloud.google.com/pubsub/docs/push#receive_push."""

    message: _PubsubMessage
    subscription: str = ""
    delivery_attempt: int | None = Field(None, validation_alias="deliveryAttempt")


class _CloudEvent(BaseModel):
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#context-attributes, what we need of it."""

    specversion: str
    type: str = Field(min_length=1)
    id: str = Field(min_length=1)

    @field_validator("specversion")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "1.0":
            raise ValueError("only 1.0 is understood")
        return value


def read_request(headers: Mapping[str, str], body: bytes) -> Message | Notification | Ignored:
    """Unwrap an event; header names may have any case. Ignored: a CloudEvent of a type that is none of ours.

    Raises BadEnvelope, saying which part is missing or wrong, for what is neither a wrapped push nor a CloudEvent.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith(_BATCH):
        raise BadEnvelope("a batch of CloudEvents is not taken; send each in a request of its own")
    if media_type == _STRUCTURED:
        return _structured(body)
    if media_type.startswith(_ANY_CLOUDEVENT):
        raise BadEnvelope(f"a CloudEvent as {media_type[:80]} is not understood; send it as {_STRUCTURED}")
    attributes = {name.removeprefix(_HEADER): value for name, value in headers.items() if name.startswith(_HEADER)}
    if attributes.keys() & {"specversion", "type"}:
        return _cloud_event(attributes, _Body(body))
    return _message(_json(body, "not a Pub/Sub push"), "not a Pub/Sub push")


@dataclass(frozen=True)
class _Body:
    """The data of a CloudEvent, which is looked at only when its type is one of ours."""

    encoded: bytes = b""
    plain: Any = None

    def value(self) -> Any:
        return _json(self.encoded, "data") if self.encoded else self.plain


def _structured(body: bytes) -> Message | Notification | Ignored:
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md."""
    event = _json(body, "not a CloudEvent")
    if not isinstance(event, dict):
        raise BadEnvelope("not a CloudEvent: it must be a JSON object")
    if "data_base64" in event:
        return _cloud_event(event, _Body(_decoded(event["data_base64"], "data_base64")))
    return _cloud_event(event, _Body(plain=event.get("data")))


def _cloud_event(attributes: Mapping[str, Any], data: _Body) -> Message | Notification | Ignored:
    try:
        event = _CloudEvent.model_validate(attributes)
    except ValidationError as error:
        raise BadEnvelope(f"not a CloudEvent: {first_problem(error)}") from None
    if event.type == FINALIZED:
        return from_resource(data.value(), event.id)
    if event.type == MESSAGE_PUBLISHED:
        return _message(data.value(), f"data is no {MESSAGE_PUBLISHED}")
    return Ignored(f"CloudEvent type {event.type[:200]}, only {FINALIZED} and {MESSAGE_PUBLISHED} start work")


def _message(push: Any, otherwise: str) -> Message:
    try:
        found = _Push.model_validate(push)
    except ValidationError as error:
        raise BadEnvelope(f"{otherwise}: {first_problem(error)}") from None
    message = found.message
    return Message(
        data=message.data,
        attributes=message.attributes,
        message_id=message.message_id,
        subscription=found.subscription,
        delivery_attempt=found.delivery_attempt or None,  # messagePublished has 0 without a dead-letter policy
    )


def _json(body: bytes, otherwise: str) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadEnvelope(f"{otherwise}: not JSON: {error}") from None


def _decoded(text: object, field: str) -> bytes:
    try:
        return _from_base64(text)
    except ValueError as error:
        raise BadEnvelope(f"{field}: {error}") from None


def _from_base64(value: object) -> bytes:
    """Either alphabet, padded or not, as protobuf's JSON allows: https://protobuf.dev/programming-guides/json/."""
    if value is None:
        return b""
    if not isinstance(value, str):
        raise ValueError("it must be base64 text")
    text = value.rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise ValueError(f"not base64: {error}") from None
