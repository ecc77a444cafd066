"""A Pub/Sub push that carries a Cloud Storage notification → what has happened to which object."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from service.core.envelopes import Message
from service.core.naming import expand_prefix, is_image, is_sidecar
from service.errors import BadEnvelope

OBJECT_FINALIZE = "OBJECT_FINALIZE"
# Parts that gcloud and gsutil upload in parallel and compose afterwards; the composed object has its own event.
_UPLOAD_PARTS = ("gcloud/tmp/parallel_composite_uploads/", "/gsutil/tmp/parallel_composite_uploads/")


@dataclass(frozen=True)
class Notification:
    """One event of one object generation, and the Pub/Sub message that brought it.

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
class Rules:
    """Where inputs come from and outputs go; `output_prefix` may contain `{bucket}`, the input's bucket."""

    input_buckets: tuple[str, ...]
    input_prefix: str
    output_bucket: str
    output_prefix: str


@dataclass(frozen=True)
class ImageArrived:
    """This generation of an image is final."""

    bucket: str
    name: str
    generation: int


@dataclass(frozen=True)
class SidecarArrived:
    """This generation of an image's prompts is final."""

    bucket: str
    name: str
    generation: int


@dataclass(frozen=True)
class Ignored:
    """Nothing to do, and why."""

    reason: str


class _Message(BaseModel):
    attributes: dict[str, str] = {}
    data: str = ""
    message_id: str = Field("", validation_alias=AliasChoices("messageId", "message_id"))


class _Push(BaseModel):
    """https://cloud.google.com/pubsub/docs/push#receive_push (wrapped)."""

    message: _Message
    delivery_attempt: int | None = Field(None, validation_alias="deliveryAttempt")


class _Attributes(BaseModel):
    """https://cloud.google.com/storage/docs/pubsub-notifications#attributes."""

    event_type: str = Field(validation_alias="eventType", min_length=1)
    bucket: str = Field(validation_alias="bucketId", min_length=1)
    name: str = Field(validation_alias="objectId", min_length=1)
    generation: int = Field(validation_alias="objectGeneration", gt=0)
    payload_format: str = Field("NONE", validation_alias="payloadFormat")


class _Resource(BaseModel):
    """https://cloud.google.com/storage/docs/json_api/v1/objects#resource."""

    content_type: str | None = Field(None, validation_alias="contentType")


def parse_push(body: bytes) -> Notification:
    """Read a wrapped Pub/Sub push of a Cloud Storage notification.

    Raises BadEnvelope, saying which part is missing or wrong, for any other body.
    """
    try:
        push = _Push.model_validate_json(body)
    except ValidationError as error:
        raise BadEnvelope(f"not a Pub/Sub push: {_reason(error)}") from None
    message = push.message
    return read_message(
        Message(_decoded(message.data), message.attributes, message.message_id, "", push.delivery_attempt)
    )


def read_message(message: Message) -> Notification:
    """Read the Cloud Storage notification in a message. Raises BadEnvelope, saying what is missing or wrong."""
    try:
        attributes = _Attributes.model_validate(dict(message.attributes))
    except ValidationError as error:
        raise BadEnvelope(f"not a Cloud Storage notification: attributes.{_reason(error)}") from None
    return Notification(
        event_type=attributes.event_type,
        bucket=attributes.bucket,
        name=attributes.name,
        generation=attributes.generation,
        content_type=_content_type(message.data) if attributes.payload_format == "JSON_API_V1" else None,
        message_id=message.message_id,
        delivery_attempt=message.delivery_attempt,
    )


def classify(notification: Notification, rules: Rules) -> ImageArrived | SidecarArrived | Ignored:
    """Say what a notification means for us."""
    reason = _out_of_scope(notification, rules)
    if reason is not None:
        return Ignored(reason)
    bucket, name, generation = notification.bucket, notification.name, notification.generation
    if is_sidecar(name):
        return SidecarArrived(bucket, name, generation)
    if is_image(name, notification.content_type):
        return ImageArrived(bucket, name, generation)
    return Ignored(f"neither an image nor a sidecar (content type {notification.content_type})")


def _out_of_scope(notification: Notification, rules: Rules) -> str | None:
    bucket, name = notification.bucket, notification.name
    if notification.event_type != OBJECT_FINALIZE:
        return f"event type {notification.event_type}, only {OBJECT_FINALIZE} starts work"
    if bucket not in rules.input_buckets:
        return f"bucket {bucket} is not in INPUT_BUCKETS ({', '.join(rules.input_buckets)})"
    if name.endswith("/"):
        return "a folder"
    if name.startswith(_UPLOAD_PARTS):
        return "a part of a parallel composite upload"
    if _is_output(bucket, name, rules):
        return f"under the output prefix {rules.output_prefix!r}"
    if not name.startswith(rules.input_prefix):
        return f"outside the input prefix {rules.input_prefix!r}"
    return None


def _is_output(bucket: str, name: str, rules: Rules) -> bool:
    """Outputs of every input bucket may lie in this one, each under its own expansion of the prefix."""
    prefixes = tuple(expand_prefix(rules.output_prefix, source) for source in rules.input_buckets)
    return bucket == rules.output_bucket and name.startswith(prefixes)


def _content_type(data: bytes) -> str | None:
    try:
        return _Resource.model_validate_json(data).content_type
    except ValidationError as error:
        raise BadEnvelope(f"message.data is not an object resource: {_reason(error)}") from None


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise BadEnvelope(f"message.data is not base64: {error}") from None


def _reason(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])[:80]
    return f"{place}: {problem['msg']}" if place else problem["msg"]
