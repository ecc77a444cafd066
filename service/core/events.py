"""A Pub/Sub message → a notification or a job; a notification → what it means for us."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from service.core import strict_json
from service.core.envelopes import Message
from service.core.folders import FolderPage, is_of_fan_out
from service.core.jobs import JobRequest, parse_job
from service.core.naming import expand_prefix, is_folder_prompts, is_image, is_sidecar
from service.core.notifications import NAMING, OBJECT_FINALIZE, Ignored, Notification, from_message, is_notification
from service.core.prompts import Limits
from service.errors import BadEnvelope, BadField

__all__ = [
    "OBJECT_FINALIZE",
    "Event",
    "FolderPage",
    "FolderPromptsArrived",
    "Ignored",
    "ImageArrived",
    "JobRequest",
    "Notification",
    "Rules",
    "SidecarArrived",
    "classify",
    "classify_object",
    "hangs_on_content_type",
    "in_scope",
    "read_message",
]

# Parts that gcloud and gsutil upload in parallel and compose afterwards; the composed object has its own event.
_UPLOAD_PARTS = ("gcloud/tmp/parallel_composite_uploads/", "/gsutil/tmp/parallel_composite_uploads/")


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
class FolderPromptsArrived:
    """This generation of the prompts of a folder, `_prompts.json` or `_prompts.txt` in it, is final."""

    bucket: str
    name: str
    generation: int


Arrived = ImageArrived | SidecarArrived | FolderPromptsArrived
Event = Notification | JobRequest | FolderPage


def read_message(message: Message, limits: Limits) -> Event:
    """Say what a Pub/Sub message asks for: with the attributes of a notification it is one, else a job or a page.

    Raises BadEnvelope, naming the part that is wrong, for what is neither, and for a job that may not be done.
    """
    if is_notification(message.attributes):
        return from_message(message.attributes, message.data, message.message_id, message.delivery_attempt)
    try:
        document = _document(message.data)
        if "folder" in document:
            return FolderPage.parse(document)
        return replace(parse_job(document, limits), only_repeats_upload=is_of_fan_out(message.attributes))
    except BadField as error:
        raise BadEnvelope(f"not a job: {error.detail}") from None


def classify(notification: Notification, rules: Rules) -> Arrived | Ignored:
    """Say what a notification means for us."""
    if notification.event_type != OBJECT_FINALIZE:
        return Ignored(f"event type {notification.event_type}, only {OBJECT_FINALIZE} starts work")
    return classify_object(
        notification.bucket, notification.name, notification.generation, notification.content_type, rules
    )


def hangs_on_content_type(notification: Notification, rules: Rules) -> bool:
    """Whether the content type would decide what a notification means that does not say it: one without payload."""
    if notification.content_type is not None:
        return False
    as_image = replace(notification, content_type="image/*")
    return classify(as_image, rules) != classify(notification, rules)


def classify_object(
    bucket: str, name: str, generation: int, content_type: str | None, rules: Rules
) -> Arrived | Ignored:
    """Say what a live object is to us, as its own event would have said."""
    reason = _out_of_scope(bucket, name, rules)
    if reason is not None:
        return Ignored(reason)
    if is_folder_prompts(name):
        return FolderPromptsArrived(bucket, name, generation)
    if is_sidecar(name):
        return SidecarArrived(bucket, name, generation)
    if is_image(name, content_type):
        return ImageArrived(bucket, name, generation)
    return Ignored(f"neither an image nor prompts (content type {content_type})")


def in_scope(bucket: str, name: str, rules: Rules) -> bool:
    """Whether an object of this name can be an input at all."""
    return _out_of_scope(bucket, name, rules) is None


def _out_of_scope(bucket: str, name: str, rules: Rules) -> str | None:
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


def _document(data: bytes) -> dict[str, Any]:
    """A message that is no notification is a JSON object."""
    try:
        document = strict_json.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise BadEnvelope(f"no notification (attributes {', '.join(NAMING)}) and no job: {reason}") from None
    if not isinstance(document, dict):
        raise BadEnvelope("not a job: it must be a JSON object")
    return document
