"""From one notification to its outcomes: which images it concerns, and whether it is still current."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from service.core.envelopes import Message
from service.core.events import Ignored, ImageArrived, Notification, Rules, SidecarArrived, classify, read_message
from service.core.naming import gs_uri
from service.engine.segmenter import Segmenter
from service.errors import BadEnvelope, CloudUnavailable, NotFound, PreconditionFailed
from service.settings import Settings
from service.worker.job import JobRunner, Outcome
from service.worker.surroundings import Surroundings, look

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher
    from service.gcp.storage import ObjectInfo, ObjectStore

_ATTEMPTS = 5
_MAX_REASON_BYTES = 1024  # https://cloud.google.com/pubsub/quotas#resource_limits: the value of an attribute


class Worker:
    """Handles events; every method may be called from many threads, and in many instances, at the same time.

    Raises a retryable ServiceError when the event is to be delivered again.
    """

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        publisher: Publisher,
        segmenter: Segmenter,
        clock: Callable[[], datetime],
    ) -> None:
        self._rules = Rules(
            settings.input_buckets, settings.input_prefix, settings.output_bucket or "", settings.output_prefix
        )
        self._dead_letter_topic = settings.dead_letter_topic
        self._store = store
        self._publisher = publisher
        self._segmenter = segmenter
        self._jobs = JobRunner(settings, self._rules, store, publisher, segmenter, clock)

    def deliver(self, message: Message) -> list[Outcome]:
        """Do what a message asks for; one that cannot be read goes whole to the dead-letter topic."""
        try:
            notification = read_message(message)
        except BadEnvelope as error:
            return [self.reject(message, error)]
        return self.handle(notification)

    def handle(self, notification: Notification) -> list[Outcome]:
        """Do what the event asks for; one Outcome an image."""
        event = classify(notification, self._rules)
        if isinstance(event, Ignored):
            return [Outcome("ignored", gs_uri(notification.bucket, notification.name), event.reason)]
        _ = self._segmenter.info  # NotReady before anything is read
        if isinstance(event, SidecarArrived):
            return self._sidecar(event)
        return [self._image(event, look(self._store, self._rules, event.bucket, event.name))]

    def reject(self, unread: bytes | Message, error: BadEnvelope) -> Outcome:
        """Publish an unreadable push or message whole to the dead-letter topic; without one raise the error again."""
        if self._dead_letter_topic is None:
            raise error
        reason = error.detail.encode(errors="replace")[:_MAX_REASON_BYTES].decode(errors="ignore")
        message = Message(unread) if isinstance(unread, bytes) else unread
        why = {"reason": reason} | ({"subscription": message.subscription} if message.subscription else {})
        message_id = self._publisher.publish(self._dead_letter_topic, message.data, {**message.attributes, **why})
        return Outcome("dead_lettered", f"message {message_id}", reason)

    def _sidecar(self, event: SidecarArrived) -> list[Outcome]:
        around = look(self._store, self._rules, event.bucket, event.name)
        subject = gs_uri(event.bucket, event.name)
        if not _is_live(around.inputs.get(event.name), event.generation):
            return [Outcome("stale", subject)]
        images = around.images_of(event.name, self._rules)
        if not images:
            return [Outcome("waiting_for_image", subject)]
        return [self._image(ImageArrived(event.bucket, image.name, image.generation), around) for image in images]

    def _image(self, event: ImageArrived, around: Surroundings) -> Outcome:
        """Run the job of an image, looking again whenever somebody else was faster."""
        for _ in range(_ATTEMPTS):
            try:
                return self._attempt(event, around)
            except (PreconditionFailed, NotFound):
                around = look(self._store, self._rules, event.bucket, event.name)
        raise CloudUnavailable(f"{gs_uri(event.bucket, event.name)} or its outputs kept changing")

    def _attempt(self, event: ImageArrived, around: Surroundings) -> Outcome:
        subject = gs_uri(event.bucket, event.name)
        image = around.inputs.get(event.name)
        if image is None or not _is_live(image, event.generation):
            return Outcome("stale", subject)
        sidecar = around.sidecar_of(event.name)
        if sidecar is None:
            return Outcome("waiting_for_prompts", subject)
        return self._jobs.run(around.job(image, sidecar, self._rules))


def _is_live(found: ObjectInfo | None, generation: int) -> bool:
    return found is not None and found.generation == generation
