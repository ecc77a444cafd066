"""Every failure the service knows, named once: its stable code, HTTP status, whether a retry can help, and whose it is.

Both doors read it. The HTTP door renders a failure as an RFC 9457 problem. The event door decides by `input_fault`
between an error document and redelivery, and by `of_the_service` whether the other images of a sidecar get their turn.
"""

from __future__ import annotations

import json
from typing import ClassVar


class ServiceError(Exception):
    """A failure with a stable `code`, an HTTP `status` and a `detail` that is safe to show to the caller."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    retry_after_s: ClassVar[int | None] = None
    input_fault: ClassVar[bool] = False
    """Whether the image or what is asked of it is at fault, and will be at every delivery: written down and told."""
    of_the_service: ClassVar[bool] = False
    """Whether the service cannot work now, whatever the image: the next one would fare no better."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadField(ServiceError):
    """A form field, option or sidecar value that is not allowed; `detail` names field, value and what is."""

    code, title, status = "bad_field", "A field is not valid", 400
    input_fault = True

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {_shown(value)} is not allowed; {allowed}")
        self.field = field


class BadSidecar(ServiceError):
    """A prompt source (sidecar, metadata, folder prompts) that cannot be understood."""

    code, title, status = "bad_sidecar", "The prompts cannot be read", 400
    input_fault = True


class NotAnImage(ServiceError):
    """The bytes are no image format that the service decodes."""

    code, title, status = "not_an_image", "Not an image", 415
    input_fault = True


class UnreadableImage(ServiceError):
    """The bytes begin like an image, but decoding fails (truncated, corrupt)."""

    code, title, status = "unreadable_image", "The image cannot be decoded", 422
    input_fault = True


class TooLarge(ServiceError):
    """Body, pixel count, what a file makes its decoder do, or answer is over its limit."""

    code, title, status = "too_large", "Over a size limit", 413
    input_fault = True


GS_WAY = "upload the image to an input bucket (gs://) with a sidecar, which has no such limit"
"""What to do about an answer that is too large for HTTP."""


class TooManyInstances(TooLarge):
    """An answer would hold more instances than it may; `found` are those so far, the search may have ended early."""

    def __init__(self, found: int, allowed: int) -> None:
        super().__init__(
            f"{found} instances were found; an answer holds at most {allowed} (MAX_TOTAL_INSTANCES): "
            f"lower max_instances, or {GS_WAY}"
        )


class Forbidden(ServiceError):
    """An object in a bucket that this service may not be asked for, or a push with the token of somebody else."""

    code, title, status = "forbidden", "Not allowed", 403


class NotFound(ServiceError):
    """The named object does not exist."""

    code, title, status = "not_found", "Not found", 404


class NameTooLong(ServiceError):
    """The input's name leaves no room for the output's: Cloud Storage allows 1024 bytes of UTF-8."""

    code, title, status = "name_too_long", "The object name is too long", 400
    input_fault = True


class OutputTaken(ServiceError):
    """At the place that a job or sidecar names lies an object that this service has not written."""

    code, title, status = "output_taken", "The output is taken", 409
    input_fault = True


class InputGone(ServiceError):
    """A job's image does not exist, or no longer."""

    code, title, status = "input_gone", "The image is gone", 410
    input_fault = True


class StaleInput(ServiceError):
    """The generation that a job is pinned to is not the live one."""

    code, title, status = "stale_input", "The image has changed", 409
    input_fault = True


class BadBody(ServiceError):
    """A body that is not what its media type says."""

    code, title, status = "bad_request", "The request cannot be read", 400


class MissingImage(ServiceError):
    """A request without an image."""

    code, title, status = "missing_image", "There is no image", 400


class UnsupportedMediaType(ServiceError):
    """A body that is neither multipart/form-data nor JSON."""

    code, title, status = "unsupported_media_type", "Unsupported media type", 415


class Unauthorized(ServiceError):
    """A push without a token that holds."""

    code, title, status = "unauthorized", "Not authenticated", 401


class SlowClient(ServiceError):
    """The body does not come in time; the thread that waits for it is needed by others."""

    code, title, status, retryable, retry_after_s = "request_timeout", "The request came too slowly", 408, True, 1


class BadEnvelope(ServiceError):
    """A push that is no Pub/Sub envelope or carries no event that the service knows."""

    code, title, status = "bad_envelope", "The event cannot be understood", 400


class QueueFull(ServiceError):
    """More work is waiting than the queue holds."""

    code, title, status, retryable, retry_after_s = "queue_full", "Too many requests", 429, True, 2
    of_the_service = True


class NotReady(ServiceError):
    """The model is still loading."""

    code, title, status, retryable, retry_after_s = "loading", "The model is loading", 503, True, 5
    of_the_service = True


class EventsOff(ServiceError):
    """An event that a missing setting keeps from being handled; Pub/Sub keeps it until the setting is there."""

    code, title, status, retryable, retry_after_s = "events_off", "Events are not configured", 503, True, 60


class CloudUnavailable(ServiceError):
    """Cloud Storage or Pub/Sub does not answer, or refuses us: the event is kept and tried again."""

    code, title, status, retryable, retry_after_s = "cloud_unavailable", "Storage or Pub/Sub trouble", 503, True, 10
    of_the_service = True


class ObjectRefused(CloudUnavailable):
    """Cloud Storage refuses to let one object be read, as its key or its ACL does not let us, or as a grant is broken.

    The event is kept, too, as the latter cannot be told apart, but other objects may be readable.
    """

    of_the_service = False


class PreconditionFailed(ServiceError):
    """The object is not at the generation that the write expected: somebody else was faster."""

    code, title, status, retryable = "precondition_failed", "Changed meanwhile", 409, True


class DeadlineExceeded(ServiceError):
    """The work was not done within its time; what was left of it has been dropped."""

    code, title, status, retryable, retry_after_s = "deadline_exceeded", "Not done in time", 503, True, 5
    of_the_service = True


class TooLong(ServiceError):
    """More work than an event has time for, even alone and at this device's best; another device may be faster."""

    code, title, status = "too_long", "Too much work for one event", 413
    input_fault = True

    def __init__(self, prompts: int, needed_s: float, allowed_s: float) -> None:
        super().__init__(
            f"prompts: {prompts} on this image take at least {needed_s:.3g} s on this device; "
            f"an event has {allowed_s:.3g} s for them (EVENT_TIMEOUT_S): give fewer at a time, or use a faster device"
        )


class Ending(ServiceError):
    """The process has been told to end; another instance does the work."""

    code, title, status, retryable, retry_after_s = "ending", "The instance is ending", 503, True, 1
    of_the_service = True

    def __init__(self) -> None:
        super().__init__("this instance is ending; another one will do the work")


class CallerGone(ServiceError):
    """The caller has closed the connection; nobody reads this, and the work has been dropped."""

    code, title, status = "caller_gone", "The caller is gone", 499


class OutOfMemory(ServiceError):
    """The device has no memory left for even one image and one prompt; another instance may have."""

    code, title, status, retryable, retry_after_s = "out_of_memory", "Out of memory", 503, True, 10


class EngineBroken(ServiceError):
    """The device answers no more (a lost CUDA context), or nothing of use: the process ends so that it is replaced."""

    code, title, status, retryable, retry_after_s = "engine_broken", "The engine has failed", 503, True, 10
    of_the_service = True


class NotFinite(ServiceError):
    """The model put out NaN or infinity, for this input, or for every one: that of a broken device looks the same.

    So it is no fault of the input: an error document for each image that one instance sees would be worse than trying
    again, on another one, what has no result anywhere.
    """

    code, title, status = "not_finite", "The model's output is not finite", 500


class ModelUnavailable(ServiceError):
    """A checkpoint that cannot be loaded; one line that says what to do."""

    code, title, status = "model_unavailable", "The model cannot be loaded", 503


def shortened(name: str) -> str:
    """A name that somebody else has chosen, as much of it as belongs in a message."""
    return name if len(name) <= 40 and name.isprintable() else repr(name[:40])


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value) if isinstance(value, str) else _as_json(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _as_json(value: object) -> str:
    """As the caller has written it: null and true, not None and True."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if text.isprintable() else json.dumps(value, default=repr)
