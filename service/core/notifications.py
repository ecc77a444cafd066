"""A Cloud Storage notification, as the attributes of a Pub/Sub message or as the data of a CloudEvent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from service.errors import BadEnvelope

OBJECT_FINALIZE = "OBJECT_FINALIZE"
NAMING = ("eventType", "bucketId", "objectId")


@dataclass(frozen=True)
class Notification:
    """One event of one object generation, and the message that brought it.

    `delivery_attempt` counts from 1 and is there only when the subscription has a dead-letter policy.
    """

    event_type: str
    bucket: str
    name: str
    generation: int
    content_type: str | None
    message_id: str
    delivery_attempt: int | None


@dataclass(frozen=True)
class Ignored:
    """Nothing to do, and why."""

    reason: str


class _Attributes(BaseModel):
    """https://cloud.google.com/storage/docs/pubsub-notifications#attributes."""

    event_type: str = Field(validation_alias="eventType", min_length=1)
    bucket: str = Field(validation_alias="bucketId", min_length=1)
    name: str = Field(validation_alias="objectId", min_length=1)
    generation: int = Field(validation_alias="objectGeneration", gt=0)
    payload_format: str = Field("NONE", validation_alias="payloadFormat")


class _Payload(BaseModel):
    """What of https://cloud.google.com/storage/docs/json_api/v1/objects#resource the attributes do not say."""

    content_type: str | None = Field(None, validation_alias="contentType")


class _Resource(_Payload):
    """The same as a CloudEvent's data: int64 as text or as a number, as protobuf's JSON has it."""

    bucket: str = Field(min_length=1)
    name: str = Field(min_length=1)
    generation: int = Field(gt=0)


def is_notification(attributes: Mapping[str, str]) -> bool:
    """Whether a Pub/Sub message with these attributes comes from Cloud Storage."""
    return all(name in attributes for name in NAMING)


def from_message(
    attributes: Mapping[str, str], data: bytes, message_id: str, delivery_attempt: int | None
) -> Notification:
    """Read the notification in a Pub/Sub message. Raises BadEnvelope, saying which part is missing or wrong."""
    try:
        found = _Attributes.model_validate(attributes)
    except ValidationError as error:
        raise BadEnvelope(f"not a Cloud Storage notification: attributes.{first_problem(error)}") from None
    return Notification(
        event_type=found.event_type,
        bucket=found.bucket,
        name=found.name,
        generation=found.generation,
        content_type=_content_type(data) if found.payload_format == "JSON_API_V1" else None,
        message_id=message_id,
        delivery_attempt=delivery_attempt,
    )


def from_resource(data: object, event_id: str) -> Notification:
    """Read the data of a `google.cloud.storage.object.v1.finalized` event.

    Raises BadEnvelope, saying which part is missing or wrong.
    """
    try:
        found = _Resource.model_validate(data)
    except ValidationError as error:
        raise BadEnvelope(f"data is not an object resource: {first_problem(error)}") from None
    return Notification(OBJECT_FINALIZE, found.bucket, found.name, found.generation, found.content_type, event_id, None)


def first_problem(error: ValidationError) -> str:
    """`place: what is wrong there`, for the first thing that pydantic found; it quotes no input."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])[:80]
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _content_type(data: bytes) -> str | None:
    try:
        return _Payload.model_validate_json(data).content_type
    except ValidationError as error:
        raise BadEnvelope(f"message.data is not an object resource: {first_problem(error)}") from None
