"""One image with its prompts: fetch, segment, write, announce."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.core.budget import Budget
from service.core.documents import RequestRecord, SourceRecord, error_document, rendered, result_document
from service.core.jobs import job_key
from service.core.naming import gs_uri, output_name
from service.core.observe import SILENT, Observer, timed
from service.core.options import Options
from service.core.prompts import Prompt, PromptSet
from service.core.sources import source_metadata
from service.engine.images import ImageLimits
from service.engine.queue_slot import Terms
from service.engine.segmenter import Segmenter
from service.errors import NameTooLong, OutputTaken, PreconditionFailed, ServiceError
from service.settings import Settings
from service.worker.bounded import read_within
from service.worker.destination import check_free, moved
from service.worker.model import ERROR_CODE, INPUT_GENERATION, JOB_ID, MODEL_SINCE, WORK_ID, Job, Slot
from service.worker.outcome import Announcer, Done, Outcome, replayed, settled
from service.worker.renditions import Renditions
from service.worker.running import Running
from service.worker.sources import PromptFinder

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher
    from service.gcp.storage import ObjectStore

# Somebody else was faster each time; after so many the event is given back.
ATTEMPTS = 5


class JobRunner:
    """Turns one Job into its document and message.

    PreconditionFailed, NotFound and Elsewhere mean: look again and start over.
    """

    def __init__(  # noqa: PLR0913 - each is another part of the service
        self,
        settings: Settings,
        prompts: PromptFinder,
        store: ObjectStore,
        publisher: Publisher,
        segmenter: Segmenter,
        clock: Callable[[], datetime],
        budget: Budget,
        observer: Observer = SILENT,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._prompts = prompts
        self._budget = budget
        self._running: Running[Done] = Running()
        self._renditions = Renditions(store, ImageLimits(settings.max_pixels))
        self._store = store
        self._announcer = Announcer(publisher, settings.results_topic, observer)
        self._segmenter = segmenter
        self._clock = clock
        self._model_since = clock().astimezone(UTC).isoformat(timespec="microseconds")

    def run(self, job: Job, request: RequestRecord | None = None) -> Outcome:
        """Do the job, or repeat its message when it has been done already or is being done in this process.

        `request` if the job brings its prompts.
        """
        try:
            request = request or self._request(job)
        except ServiceError as error:
            return self.fail(job, error, None).outcome
        job = moved(self._store, job, request.prompt_set.output)
        try:
            if job.slots is None:  # there is no such name
                output_name(self._settings.output_prefix, job.bucket, job.image.name)
            check_free(job, request.prompt_set.options)
        except (NameTooLong, OutputTaken) as error:
            return self.fail(_nowhere(job), error, request).outcome
        return self._once(job, request)

    def fail(self, job: Job, error: ServiceError, request: RequestRecord | None) -> Done:
        """Write down a fault of the input, once; any other error is raised again."""
        if not error.input_fault:  # NotFound is none: the object was replaced between the look and the read
            raise error
        if request is None:  # nobody has looked yet whether the place that the job names is free
            job, error = _where_free(moved(self._store, job, None), error)
        job_id = self._job_id(job, request.prompt_set if request else _unread(job))
        document = error_document(_source(job), error, job_id, self._clock(), request)
        if job.slots and job.slots[1].holds(job_id):
            return self._replay(job, (job.slots[1], job.slots[0]), request)
        return self._settle(job, document, request)

    def job_id(self, bucket: str, name: str, generation: int, prompt_set: PromptSet) -> str:
        """The key of the work; NotReady while it is not known which model does it."""
        model = self._segmenter.info
        return job_key(bucket, name, generation, prompt_set, model.id, model.revision)

    @property
    def waiting(self) -> int:
        """Events that wait for the same job in this process."""
        return self._running.waiting

    def _once(self, job: Job, request: RequestRecord) -> Outcome:
        job_id = self._job_id(job, request.prompt_set)
        if job.slots and self._has_been_done(job, request.prompt_set, job.slots[0], job_id):
            return self._replay(job, job.slots, request).outcome
        key = (job.slots and (job.slots[0].bucket, job.slots[0].name), job_id)
        done, first = self._running.once(key, lambda: self._do(job, request, job_id), self._budget.left_s())
        if first:
            return done.outcome
        self._announcer.announce(job, done.document, done.output, request, replayed=True)
        return replayed(job)

    def _has_been_done(self, job: Job, prompt_set: PromptSet, result: Slot, job_id: str) -> bool:
        """By this job, or better: a process leaves alone the result of one that was started later."""
        return result.holds(job_id) or result.surpasses(_work_id(job, prompt_set), self._model_since)

    def _do(self, job: Job, request: RequestRecord, job_id: str) -> Done:
        options = request.prompt_set.options
        try:
            self._renditions.check(job, options)
            data = self._image(job)
            segmentation = self._segmenter.segment(data, request.prompt_set, self._terms())
            drawn = self._renditions.draw(job, options, data, segmentation)
        except ServiceError as error:
            return self.fail(job, error, request)
        with self._renditions.beside(job, job_id, drawn) as uris:
            document = result_document(segmentation, request, _source(job), job_id, self._clock(), uris)
            return self._settle(job, document, request)

    def _terms(self) -> Terms:
        return Terms(
            urgent=False,
            wait_s=self._settings.event_wait_s,
            timeout_s=self._budget.left_for_model_s(),
            alone_s=self._budget.for_model_s,
        )

    def _request(self, job: Job) -> RequestRecord:
        """Read the prompts; BadSidecar is the input's fault."""
        assert job.prompts is not None
        prompt_set = self._prompts.read(job.bucket, job.prompts)
        if job.caller.metadata is not None:
            prompt_set = replace(prompt_set, metadata=job.caller.metadata)
        return RequestRecord(prompt_set, job.prompts.source)

    def _image(self, job: Job) -> bytes:
        limit = self._settings.max_object_bytes
        with timed(self._observer, "fetch"):
            return read_within(self._store, job.bucket, job.image, limit, "MAX_OBJECT_BYTES")

    def _settle(self, job: Job, document: dict[str, Any], request: RequestRecord | None) -> Done:
        """Write over what was there when we looked, announce, and remove the document of the other kind.

        Only the worker whose conditional write wins gets to announce without `replayed`.
        """
        if job.slots is None:
            self._announcer.announce(job, document, None, request, replayed=False)
            return Done(settled(job, document), document, None)
        mine, other = reversed(job.slots) if "error" in document else job.slots
        data, metadata = rendered(document), self._metadata(job, document, request)
        with timed(self._observer, "write"):
            self._store.write_json(mine.bucket, mine.name, data, if_generation=mine.generation, metadata=metadata)
        self._announcer.announce(job, document, mine, request, replayed=False)
        self._exclude(other)
        self._remove_outdated(job)
        self._renditions.clear(job, keep=document.get("renditions", ()))
        return Done(settled(job, document), document, mine)

    def _metadata(self, job: Job, document: Mapping[str, Any], request: RequestRecord | None) -> dict[str, str]:
        """What a list of documents tells about them."""
        metadata = {
            JOB_ID: document["job_id"],
            INPUT_GENERATION: str(job.image.generation),
            MODEL_SINCE: self._model_since,
        }
        if request:
            metadata[WORK_ID] = _work_id(job, request.prompt_set)
        if "error" in document:
            metadata[ERROR_CODE] = document["error"]["code"]
        return metadata | (source_metadata(job.prompts.source) if job.prompts else {})

    def _replay(self, job: Job, slots: tuple[Slot, Slot], request: RequestRecord | None) -> Done:
        """Announce again what is written already, and finish the clean-up that a crash may have left."""
        mine, other = slots
        document = json.loads(self._store.read(mine.bucket, mine.name, mine.generation))
        self._announcer.announce(job, document, mine, request, replayed=True)
        if other.found:
            self._exclude(other)
        self._remove_outdated(job)
        self._renditions.clear(job, keep=document.get("renditions", ()), older_than=mine.generation)
        return Done(replayed(job), document, mine)

    def _exclude(self, other: Slot) -> None:
        """Delete the document of the other kind as we saw it; PreconditionFailed when somebody wrote it meanwhile."""
        if other.found:
            gone = self._store.delete(other.bucket, other.name, other.generation)
        else:
            gone = self._store.stat(other.bucket, other.name) is None
        if not gone:
            raise PreconditionFailed(f"{gs_uri(other.bucket, other.name)} has been written meanwhile")

    def _remove_outdated(self, job: Job) -> None:
        """Delete the error of earlier prompts as we saw it; one that is newer tells of newer prompts and stays."""
        if job.outdated:
            self._store.delete(job.outdated.bucket, job.outdated.name, job.outdated.generation)

    def _job_id(self, job: Job, prompt_set: PromptSet) -> str:
        return self.job_id(job.bucket, job.image.name, job.image.generation, prompt_set)


def _where_free(job: Job, error: ServiceError) -> tuple[Job, ServiceError]:
    """The same, or OutputTaken and no place to write to when the named place is somebody else's."""
    try:
        check_free(job, Options())  # options that cannot be read ask for nothing beside the document
    except OutputTaken as taken:
        return _nowhere(job), taken
    return job, error


def _nowhere(job: Job) -> Job:
    return replace(job, slots=None, beside={})


def _unread(job: Job) -> PromptSet:
    """Stand in for prompts that cannot be read, so that a corrected sidecar makes another job."""
    fingerprint = job.prompts.fingerprint if job.prompts else f"{gs_uri(job.bucket, job.image.name)}#"
    return PromptSet((Prompt(fingerprint),))


def _source(job: Job) -> SourceRecord:
    return SourceRecord(gs_uri(job.bucket, job.image.name), job.image.generation, job.image.crc32c)


def _work_id(job: Job, prompt_set: PromptSet) -> str:
    return job_key(job.bucket, job.image.name, job.image.generation, prompt_set, "", "")
