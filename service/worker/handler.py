"""From one notification to its outcomes: which images it concerns, and whether it is still current."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from service.core.budget import Budget
from service.core.events import Ignored, ImageArrived, Notification, Rules, SidecarArrived, classify
from service.core.naming import gs_uri
from service.engine.segmenter import Segmenter
from service.errors import BadEnvelope, CloudUnavailable, NotFound, PreconditionFailed
from service.settings import Settings
from service.worker.job import JobRunner, Outcome
from service.worker.surroundings import JOB_ID, Surroundings, look

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
        budget: Budget | None = None,
    ) -> None:
        """`budget` is that of `store` and `publisher`, when they have one."""
        self._rules = Rules(
            settings.input_buckets, settings.input_prefix, settings.output_bucket or "", settings.output_prefix
        )
        self._dead_letter_topic = settings.dead_letter_topic
        self._store = store
        self._publisher = publisher
        self._segmenter = segmenter
        self._budget = budget or Budget(settings.event_timeout_s)
        self._jobs = JobRunner(settings, self._rules, store, publisher, segmenter, clock, self._budget)

    def handle(self, notification: Notification) -> list[Outcome]:
        """Do what the event asks for, within EVENT_TIMEOUT_S from now; one Outcome an image."""
        with self._budget.event():
            return self._handle(notification)

    def reject(self, body: bytes, error: BadEnvelope) -> Outcome:
        """Publish an unreadable push whole to the dead-letter topic; without one the error is raised again."""
        if self._dead_letter_topic is None:
            raise error
        reason = error.detail.encode(errors="replace")[:_MAX_REASON_BYTES].decode(errors="ignore")
        message_id = self._publisher.publish(self._dead_letter_topic, body, {"reason": reason})
        return Outcome("dead_lettered", f"message {message_id}", reason)

    def _handle(self, notification: Notification) -> list[Outcome]:
        event = classify(notification, self._rules)
        if isinstance(event, Ignored):
            return [Outcome("ignored", gs_uri(notification.bucket, notification.name), event.reason)]
        _ = self._segmenter.info  # NotReady before anything is read
        if isinstance(event, SidecarArrived):
            return self._sidecar(event)
        return [self._image(event, look(self._store, self._rules, event.bucket, event.name))]

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
        if JOB_ID in image.metadata:
            return Outcome("ignored", subject, "written by this service")
        sidecar = around.sidecar_of(event.name)
        if sidecar is None:
            return Outcome("waiting_for_prompts", subject)
        return self._jobs.run(around.job(image, sidecar, self._rules))


def _is_live(found: ObjectInfo | None, generation: int) -> bool:
    return found is not None and found.generation == generation
