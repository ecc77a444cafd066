"""From one notification to its outcomes: which images it concerns, and whether it is still current."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from service.core import context
from service.core.budget import Budget
from service.core.envelopes import Message
from service.core.events import (
    Event,
    FolderPage,
    FolderPromptsArrived,
    Ignored,
    ImageArrived,
    JobRequest,
    Notification,
    SidecarArrived,
    classify,
    hangs_on_content_type,
    read_message,
)
from service.core.naming import gs_uri
from service.core.observe import SILENT, Observer
from service.engine.segmenter import Segmenter
from service.errors import (
    BadEnvelope,
    CloudUnavailable,
    NotFound,
    PreconditionFailed,
    ServiceError,
)
from service.settings import Settings
from service.worker.dead_letters import DeadLetters
from service.worker.destination import Destination, Elsewhere, look_again, placed
from service.worker.direct import DirectJobs
from service.worker.folder import PAGE_SIZE, FolderFanOut
from service.worker.job import ATTEMPTS, JobRunner
from service.worker.model import JOB_ID
from service.worker.outcome import Outcome
from service.worker.sources import PromptFinder
from service.worker.surroundings import Surroundings, look

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher
    from service.gcp.storage import ObjectInfo, ObjectStore

log = logging.getLogger(__name__)


class Worker:
    """Handles events; every method may be called from many threads, and in many instances, at the same time.

    Whatever they raise means that the event is to be delivered again.
    """

    def __init__(  # noqa: PLR0913 - each is another part of the service
        self,
        settings: Settings,
        store: ObjectStore,
        publisher: Publisher,
        segmenter: Segmenter,
        clock: Callable[[], datetime],
        budget: Budget | None = None,
        folder_page_size: int = PAGE_SIZE,
        observer: Observer = SILENT,
    ) -> None:
        """`budget` is that of `store` and `publisher`, when they have one."""
        self._rules = settings.rules
        self._limits = settings.limits
        self._observer = observer
        self._dead_letters = DeadLetters(publisher, settings.dead_letter_topic)
        self._store = store
        self._segmenter = segmenter
        self._prompts = PromptFinder(settings, self._rules, store)
        self._budget = budget or Budget()
        self._timeout_s = settings.event_timeout_s
        self._jobs = JobRunner(settings, self._prompts, store, publisher, segmenter, clock, self._budget, observer)
        self._folders = FolderFanOut(
            self._rules, settings.jobs_topic, store, publisher, folder_page_size, self._budget.left_s
        )
        self._direct = DirectJobs(self._rules, self._prompts, store, self._jobs)

    def deliver(self, message: Message) -> list[Outcome]:
        """Read a Pub/Sub message and do what it asks for; one that cannot be read goes to the dead-letter topic."""
        attempt = str(message.delivery_attempt or "")
        context.label(
            message_id=message.message_id, delivery_attempt=attempt, subscription=message.subscription.split("/")[-1]
        )
        with self._budget.within(self._timeout_s):
            try:
                event = read_message(message, self._limits)
            except BadEnvelope as error:
                return [self.reject(message, error)]
            return self.handle(event)

    def reject(self, message: Message | bytes, error: BadEnvelope) -> Outcome:
        """Publish an unreadable message, or the body of a request without one, whole to the dead-letter topic.

        Without such a topic the error is raised again.
        """
        with self._budget.within(self._timeout_s):
            [outcome] = self._told(self._kept(message, error))
            return outcome

    def handle(self, event: Event | Ignored) -> list[Outcome]:
        """Do what the event asks for, within EVENT_TIMEOUT_S from now; one Outcome an image."""
        with self._budget.within(self._timeout_s):
            return self._told(self._handled(event))

    def _told(self, outcomes: Iterator[Outcome]) -> list[Outcome]:
        """All of them, each told as soon as it is there, also when a later one fails."""
        told = []
        try:
            for outcome in outcomes:
                self._tell(outcome)
                told.append(outcome)
        except Exception as error:
            self._observer.event(_code(error))  # whoever catches it logs it
            raise
        return told

    def _tell(self, outcome: Outcome) -> None:
        """Count how an image's event has ended, and log it: here, for both doors."""
        self._observer.event(outcome.status)
        log.info(outcome.status, extra={"subject": outcome.subject, "reason": outcome.reason})

    def _tell_hidden(self, errors: Iterable[tuple[str, Exception]]) -> None:
        """The same of failures, by image, that nobody will see, as another one is raised."""
        for subject, error in errors:
            self._observer.event(_code(error))
            log.warning("%s", _code(error), extra={"subject": subject}, exc_info=error)

    def _kept(self, message: Message | bytes, error: BadEnvelope) -> Iterator[Outcome]:
        yield self._dead_letters.keep(message, error)

    def _handled(self, event: Event | Ignored) -> Iterator[Outcome]:
        if isinstance(event, Ignored):
            yield Outcome("ignored", "", event.reason)
        elif isinstance(event, FolderPage):  # needs no model
            yield self._folders.handle(event)
        elif isinstance(event, JobRequest):
            self._segmenter.require_ready()
            yield self._direct.run(event)
        else:
            yield from self._notified(event)

    def _notified(self, notification: Notification) -> Iterator[Outcome]:
        event = classify(self._with_content_type(notification), self._rules)
        if isinstance(event, Ignored):
            yield Outcome("ignored", gs_uri(notification.bucket, notification.name), event.reason)
            return
        if isinstance(event, FolderPromptsArrived):  # needs no model
            yield self._folders.handle(FolderPage(event.bucket, event.name, event.generation))
            return
        self._segmenter.require_ready()
        if isinstance(event, SidecarArrived):
            yield from self._sidecar(event)
        else:
            yield self._image(event, look(self._store, self._rules, event.bucket, event.name))

    def _with_content_type(self, notification: Notification) -> Notification:
        """The same; where the object must be asked what it is, as it is called like no image, with its answer."""
        if not hangs_on_content_type(notification, self._rules):
            return notification
        found = self._store.stat(notification.bucket, notification.name, notification.generation)
        return replace(notification, content_type=found.content_type) if found else notification

    def _sidecar(self, event: SidecarArrived) -> Iterator[Outcome]:
        around = look(self._store, self._rules, event.bucket, event.name)
        subject = gs_uri(event.bucket, event.name)
        if not _is_live(around.inputs.get(event.name), event.generation):
            yield Outcome("stale", subject)
            return
        images = around.images_of(event.name, self._rules)
        if not images:
            yield Outcome("waiting_for_image", subject)
        yield from self._every([ImageArrived(event.bucket, image.name, image.generation) for image in images], around)

    def _every(self, images: Sequence[ImageArrived], around: Surroundings) -> Iterator[Outcome]:
        """Give every image its turn, then raise the first error: one that fails each time must not starve the others.

        What says that the service cannot work now is raised at once: the others would fare no better. (That an object
        must not be read may be said of it alone.) Errors that are not raised are told.
        """
        errors: list[tuple[str, Exception]] = []
        for image in images:
            try:
                outcome = self._image(image, around)
            except Exception as error:
                if isinstance(error, ServiceError) and error.of_the_service:
                    self._tell_hidden(errors)
                    raise
                errors.append((gs_uri(image.bucket, image.name), error))
            else:
                yield outcome
        self._tell_hidden(errors[1:])
        if errors:
            raise errors[0][1]

    def _image(self, event: ImageArrived, around: Surroundings) -> Outcome:
        """Run the job of an image, looking again whenever somebody else was faster."""
        destination = None
        for _ in range(ATTEMPTS):
            try:
                return self._attempt(event, around, destination)
            except Elsewhere as elsewhere:
                destination = elsewhere.destination
            except (PreconditionFailed, NotFound):
                destination = destination and look_again(self._store, destination)
            around = look(self._store, self._rules, event.bucket, event.name, outputs_too=destination is None)
        raise CloudUnavailable(f"{gs_uri(event.bucket, event.name)} or its outputs kept changing")

    def _attempt(self, event: ImageArrived, around: Surroundings, destination: Destination | None) -> Outcome:
        subject = gs_uri(event.bucket, event.name)
        image = around.inputs.get(event.name)
        if image is None or not _is_live(image, event.generation):
            return Outcome("stale", subject)
        if JOB_ID in image.metadata:
            return Outcome("ignored", subject, "written by this service")
        prompts = self._prompts.find(around, image)
        if prompts is None:
            return Outcome("waiting_for_prompts", subject)
        return self._jobs.run(placed(around.job(image, prompts, self._rules), destination))


def _code(error: Exception) -> str:
    return error.code if isinstance(error, ServiceError) else ServiceError.code


def _is_live(found: ObjectInfo | None, generation: int) -> bool:
    return found is not None and found.generation == generation
