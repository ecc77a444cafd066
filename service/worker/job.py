"""One image with its prompts: fetch, segment, write, announce."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from service.core.documents import (
    PromptSource,
    RequestRecord,
    SourceRecord,
    error_document,
    result_document,
    summary,
)
from service.core.events import Rules
from service.core.naming import gs_uri, job_key, output_name
from service.core.prompts import Limits, Prompt, PromptSet, parse_sidecar
from service.core.results import Segmentation
from service.engine.place import Terms
from service.engine.segmenter import Segmenter
from service.errors import BadSidecar, NotFound, PreconditionFailed, ServiceError, TooLarge
from service.settings import Settings
from service.worker.surroundings import ERROR_CODE, INPUT_GENERATION, JOB_ID, Job, Slot

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher
    from service.gcp.storage import ObjectStore

Status = Literal[
    "succeeded", "failed", "replayed", "stale", "ignored", "waiting_for_prompts", "waiting_for_image", "dead_lettered"
]


@dataclass(frozen=True)
class Outcome:
    """How an event ended, for the log: everything here is acknowledged with 204."""

    status: Status
    subject: str
    reason: str = ""


class JobRunner:
    """Turns one Job into its document and message. PreconditionFailed and NotFound mean: look again and start over."""

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        store: ObjectStore,
        publisher: Publisher,
        segmenter: Segmenter,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._limits = Limits(settings.max_prompts, settings.max_prompt_chars, settings.max_boxes)
        self._terms = Terms(urgent=False, wait_s=settings.event_wait_s, timeout_s=settings.event_timeout_s)
        self._store = store
        self._publisher = publisher
        self._segmenter = segmenter
        self._clock = clock

    def run(self, job: Job) -> Outcome:
        """Do the job, or repeat its message when it has been done already."""
        try:
            request = self._request(job)
        except ServiceError as error:
            return self._fail(job, error, None)
        job_id = self._job_id(job, request.prompt_set)
        if job.slots and job.slots[0].holds(job_id):
            return self._replay(job, job.slots, request)
        try:
            segmentation = self._segment(job, request.prompt_set)
        except ServiceError as error:
            return self._fail(job, error, request)
        document = result_document(segmentation, request, _source(job), job_id, self._clock())
        return self._settle(job, document, request)

    def _request(self, job: Job) -> RequestRecord:
        """Read the prompts; BadSidecar and NameTooLong are the input's fault."""
        output_name(self._rules.output_prefix, job.bucket, job.image.name)
        name, size, limit = job.sidecar.name, job.sidecar.size, self._settings.max_sidecar_bytes
        if size > limit:
            raise BadSidecar(f"{name}: {size} bytes; at most {limit} are allowed (MAX_SIDECAR_BYTES)")
        data = self._store.read(job.bucket, name, job.sidecar.generation)
        return RequestRecord(parse_sidecar(name, data, self._limits), _prompt_source(job))

    def _segment(self, job: Job, prompt_set: PromptSet) -> Segmentation:
        size, limit = job.image.size, self._settings.max_object_bytes
        if size > limit:
            raise TooLarge(f"the object has {size} bytes; at most {limit} are allowed (MAX_OBJECT_BYTES)")
        data = self._store.read(job.bucket, job.image.name, job.image.generation)
        return self._segmenter.segment(data, prompt_set, self._terms)

    def _fail(self, job: Job, error: ServiceError, request: RequestRecord | None) -> Outcome:
        """Write down a fault of the input, once; any other error is raised again."""
        if not _is_input_fault(error):
            raise error
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
            self._rules.output_bucket,
            mine.name,
            _encoded(document),
            if_generation=mine.generation,
            metadata={JOB_ID: document["job_id"], **_listed(document)},
        )
        self._announce(job, document, mine.name, request, replayed=False)
        self._exclude(other)
        return _outcome(job, document)

    def _replay(self, job: Job, slots: tuple[Slot, Slot], request: RequestRecord | None) -> Outcome:
        """Announce again what is written already, and finish the clean-up that a crash may have left."""
        mine, other = slots
        document = json.loads(self._store.read(self._rules.output_bucket, mine.name, mine.generation))
        self._announce(job, document, mine.name, request, replayed=True)
        if other.found:
            self._exclude(other)
        return Outcome("replayed", gs_uri(job.bucket, job.image.name))

    def _exclude(self, other: Slot) -> None:
        """Delete the document of the other kind as we saw it; PreconditionFailed when somebody wrote it meanwhile."""
        bucket = self._rules.output_bucket
        if other.found:
            gone = self._store.delete(bucket, other.name, other.generation)
        else:
            gone = self._store.stat(bucket, other.name) is None
        if not gone:
            raise PreconditionFailed(f"{gs_uri(bucket, other.name)} has been written meanwhile")

    def _announce(
        self,
        job: Job,
        document: Mapping[str, Any],
        output: str | None,
        request: RequestRecord | None,
        *,
        replayed: bool,
    ) -> None:
        topic = self._settings.results_topic
        if topic is None:
            return
        data = summary(
            document,
            gs_uri(self._rules.output_bucket, output) if output else None,
            ms=sum(document["timing_ms"].values()) if "timing_ms" in document else None,
            metadata=request.prompt_set.metadata if request else None,
        )
        attributes = {
            "status": data["status"],
            "bucket": job.bucket,
            "object": job.image.name,
            "job_id": document["job_id"],
            "replayed": str(replayed).lower(),
        }
        self._publisher.publish(topic, _encoded(data), attributes)

    def _job_id(self, job: Job, prompt_set: PromptSet) -> str:
        model = self._segmenter.info
        return job_key(job.bucket, job.image.name, job.image.generation, prompt_set, model.id, model.revision)


def _is_input_fault(error: ServiceError) -> bool:
    """NotFound is none: the object was replaced between the look and the read."""
    return error.status < 500 and not error.retryable and not isinstance(error, NotFound)


def _unread(job: Job) -> PromptSet:
    """Stand in for prompts that cannot be read, so that a corrected sidecar makes another job."""
    source = _prompt_source(job)
    return PromptSet((Prompt(f"{source.uri}#{source.generation}"),))


def _source(job: Job) -> SourceRecord:
    return SourceRecord(gs_uri(job.bucket, job.image.name), job.image.generation, job.image.crc32c)


def _prompt_source(job: Job) -> PromptSource:
    return PromptSource(gs_uri(job.bucket, job.sidecar.name), job.sidecar.generation)


def _listed(document: Mapping[str, Any]) -> dict[str, str]:
    """What a list of outputs shall tell without reading them."""
    made_from = {INPUT_GENERATION: str(document["input"]["generation"])}
    return made_from | ({ERROR_CODE: document["error"]["code"]} if "error" in document else {})


def _outcome(job: Job, document: Mapping[str, Any]) -> Outcome:
    fault = document.get("error", {}).get("detail", "")
    return Outcome("failed" if fault else "succeeded", gs_uri(job.bucket, job.image.name), fault)


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
