"""One image with its prompts: fetch, segment, write, announce."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from service.core.documents import (
    RequestRecord,
    SourceRecord,
    error_document,
    result_document,
    summary,
)
from service.core.events import Rules
from service.core.jobs import job_key
from service.core.naming import gs_uri, output_name
from service.core.prompts import Prompt, PromptSet
from service.core.results import Segmentation
from service.core.sources import source_metadata
from service.engine.place import Terms
from service.engine.segmenter import Segmenter
from service.errors import NotFound, OutputTaken, PreconditionFailed, ServiceError, TooLarge
from service.settings import Settings
from service.worker.named import check_free, check_place
from service.worker.sources import PromptFinder
from service.worker.surroundings import JOB_ID, Job, Slot

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher
    from service.gcp.storage import ObjectStore

# Somebody else was faster each time; after so many the event is given back.
ATTEMPTS = 5
Status = Literal[
    "succeeded",
    "failed",
    "replayed",
    "stale",
    "ignored",
    "fanned_out",
    "waiting_for_prompts",
    "waiting_for_image",
    "dead_lettered",
]


@dataclass(frozen=True)
class Outcome:
    """How an event ended, for the log: everything here is acknowledged with 204."""

    status: Status
    subject: str
    reason: str = ""


class JobRunner:
    """Turns one Job into its document and message.

    PreconditionFailed, NotFound and Elsewhere mean: look again and start over.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        prompts: PromptFinder,
        store: ObjectStore,
        publisher: Publisher,
        segmenter: Segmenter,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._prompts = prompts
        self._terms = Terms(urgent=False, wait_s=settings.event_wait_s, timeout_s=settings.event_timeout_s)
        self._store = store
        self._publisher = publisher
        self._segmenter = segmenter
        self._clock = clock

    def run(self, job: Job, request: RequestRecord | None = None) -> Outcome:
        """Do the job, or repeat its message when it has been done already; `request` if it brings its prompts."""
        try:
            request = request or self._request(job)
        except ServiceError as error:
            return self.fail(job, error, None)
        check_place(job, request.prompt_set.output)
        try:
            check_free(job)
        except OutputTaken as error:
            return self.fail(replace(job, slots=None), error, request)
        return self._run(job, request)

    def _run(self, job: Job, request: RequestRecord) -> Outcome:
        job_id = self._job_id(job, request.prompt_set)
        if job.slots and job.slots[0].holds(job_id):
            return self._replay(job, job.slots, request)
        try:
            segmentation = self._segment(job, request.prompt_set)
        except ServiceError as error:
            return self.fail(job, error, request)
        document = result_document(segmentation, request, _source(job), job_id, self._clock())
        return self._settle(job, document, request)

    def _request(self, job: Job) -> RequestRecord:
        """Read the prompts; BadSidecar and NameTooLong are the input's fault."""
        if job.slots is None:
            output_name(self._rules.output_prefix, job.bucket, job.image.name)
        assert job.prompts is not None
        prompt_set = self._prompts.read(job.bucket, job.prompts)
        if job.caller.metadata is not None:
            prompt_set = replace(prompt_set, metadata=job.caller.metadata)
        return RequestRecord(prompt_set, job.prompts.source)

    def _segment(self, job: Job, prompt_set: PromptSet) -> Segmentation:
        size, limit = job.image.size, self._settings.max_object_bytes
        if size > limit:
            raise TooLarge(f"the object has {size} bytes; at most {limit} are allowed (MAX_OBJECT_BYTES)")
        data = self._store.read(job.bucket, job.image.name, job.image.generation)
        return self._segmenter.segment(data, prompt_set, self._terms)

    def fail(self, job: Job, error: ServiceError, request: RequestRecord | None) -> Outcome:
        """Write down a fault of the input, once; any other error is raised again."""
        if not _is_input_fault(error):
            raise error
        if request is None:
            check_place(job, None)
        job_id = self._job_id(job, request.prompt_set if request else _unread(job))
        document = error_document(_source(job), error, job_id, self._clock(), request)
        if job.slots and job.slots[1].holds(job_id):
            return self._replay(job, (job.slots[1], job.slots[0]), request)
        return self._settle(job, document, request)

    def _settle(self, job: Job, document: dict[str, Any], request: RequestRecord | None) -> Outcome:
        """Write over what was there when we looked, announce, and remove the document of the other kind.

        Only the worker whose conditional write wins gets to announce without `replayed`.
        """
        if job.slots is None:
            self._announce(job, document, None, request, replayed=False)
            return _outcome(job, document)
        mine, other = reversed(job.slots) if "error" in document else job.slots
        self._store.write_json(
            mine.bucket,
            mine.name,
            _encoded(document),
            if_generation=mine.generation,
            metadata=_metadata(job, document["job_id"]),
        )
        self._announce(job, document, mine, request, replayed=False)
        self._exclude(other)
        return _outcome(job, document)

    def _replay(self, job: Job, slots: tuple[Slot, Slot], request: RequestRecord | None) -> Outcome:
        """Announce again what is written already, and finish the clean-up that a crash may have left."""
        mine, other = slots
        document = json.loads(self._store.read(mine.bucket, mine.name, mine.generation))
        self._announce(job, document, mine, request, replayed=True)
        if other.found:
            self._exclude(other)
        return Outcome("replayed", gs_uri(job.bucket, job.image.name))

    def _exclude(self, other: Slot) -> None:
        """Delete the document of the other kind as we saw it; PreconditionFailed when somebody wrote it meanwhile."""
        if other.found:
            gone = self._store.delete(other.bucket, other.name, other.generation)
        else:
            gone = self._store.stat(other.bucket, other.name) is None
        if not gone:
            raise PreconditionFailed(f"{gs_uri(other.bucket, other.name)} has been written meanwhile")

    def _announce(
        self,
        job: Job,
        document: Mapping[str, Any],
        output: Slot | None,
        request: RequestRecord | None,
        *,
        replayed: bool,
    ) -> None:
        topic = self._settings.results_topic
        if topic is None:
            return
        data = summary(
            document,
            gs_uri(output.bucket, output.name) if output else None,
            ms=sum(document["timing_ms"].values()) if "timing_ms" in document else None,
            caller_id=job.caller.id,
            metadata=request.prompt_set.metadata if request else job.caller.metadata,
        )
        attributes = {
            "status": data["status"],
            "bucket": job.bucket,
            "object": job.image.name,
            "job_id": document["job_id"],
            "replayed": str(replayed).lower(),
        }
        self._publisher.publish(topic, _encoded(data), attributes)

    def job_id(self, bucket: str, name: str, generation: int, prompt_set: PromptSet) -> str:
        """The key of the work; NotReady while it is not known which model does it."""
        model = self._segmenter.info
        return job_key(bucket, name, generation, prompt_set, model.id, model.revision)

    def _job_id(self, job: Job, prompt_set: PromptSet) -> str:
        return self.job_id(job.bucket, job.image.name, job.image.generation, prompt_set)


def _is_input_fault(error: ServiceError) -> bool:
    """NotFound is none: the object was replaced between the look and the read."""
    return error.status < 500 and not error.retryable and not isinstance(error, NotFound)


def _unread(job: Job) -> PromptSet:
    """Stand in for prompts that cannot be read, so that a corrected sidecar makes another job."""
    fingerprint = job.prompts.fingerprint if job.prompts else f"{gs_uri(job.bucket, job.image.name)}#"
    return PromptSet((Prompt(fingerprint),))


def _metadata(job: Job, job_id: str) -> dict[str, str]:
    return {JOB_ID: job_id} | (source_metadata(job.prompts.source) if job.prompts else {})


def _source(job: Job) -> SourceRecord:
    return SourceRecord(gs_uri(job.bucket, job.image.name), job.image.generation, job.image.crc32c)


def _outcome(job: Job, document: Mapping[str, Any]) -> Outcome:
    fault = document.get("error", {}).get("detail", "")
    return Outcome("failed" if fault else "succeeded", gs_uri(job.bucket, job.image.name), fault)


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
