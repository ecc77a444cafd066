"""A job that came as a message: its image, its prompts, and where its result goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.core.documents import RequestRecord
from service.core.events import Rules
from service.core.jobs import JobRequest
from service.core.naming import gs_uri, keyed_output_name
from service.core.outputs import Output
from service.core.prompts import PromptSet
from service.errors import (
    BadField,
    CloudUnavailable,
    InputGone,
    NameTooLong,
    NotFound,
    PreconditionFailed,
    ServiceError,
    StaleInput,
)
from service.worker.destination import Destination, Elsewhere, look_at, placed
from service.worker.job import ATTEMPTS, JobRunner
from service.worker.model import JOB_ID, Caller, Job
from service.worker.outcome import Outcome
from service.worker.sources import PromptFinder
from service.worker.surroundings import look

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectInfo, ObjectStore


class DirectJobs:
    """Does the jobs of the jobs topic.

    Nothing but its message will ever start a job, so one whose image is gone or replaced is announced as failed, where
    an upload's event is left to the newer one.
    """

    def __init__(self, rules: Rules, prompts: PromptFinder, store: ObjectStore, jobs: JobRunner) -> None:
        self._rules = rules
        self._prompts = prompts
        self._store = store
        self._jobs = jobs

    def run(self, request: JobRequest) -> Outcome:
        """Do the job, looking again whenever somebody else was faster."""
        output = request.output
        for _ in range(ATTEMPTS):
            try:
                return self._attempt(request, output)
            except (InputGone, StaleInput) as fault:
                if request.only_repeats_upload:
                    return Outcome("stale", _uri(request))
                return self._fail(request, _not_there(request), fault)
            except Elsewhere as elsewhere:
                output = elsewhere.destination.output if elsewhere.destination else None
            except (PreconditionFailed, NotFound):
                pass
        raise CloudUnavailable(f"{_uri(request)} or its outputs kept changing")

    def _attempt(self, request: JobRequest, output: Output | None) -> Outcome:
        if request.prompt_set is None:
            return self._with_found_prompts(request, output and look_at(self._store, output))
        if output is None:
            return self._under_its_key(request, request.prompt_set)
        return self._with_own_prompts(request, request.prompt_set, look_at(self._store, output))

    def _with_found_prompts(self, request: JobRequest, destination: Destination | None) -> Outcome:
        around = look(self._store, self._rules, request.bucket, request.name)
        image = _wanted(request, around.inputs.get(request.name))
        if request.only_repeats_upload and JOB_ID in image.metadata:
            return Outcome("ignored", _uri(request), "written by this service")
        if destination is None and self._is_stranger(request.bucket):
            allowed = f"a job without prompts needs it for an image outside INPUT_BUCKETS ({_uri(request)})"
            return self._fail(request, image, BadField("output", None, allowed))
        prompts = self._prompts.find(around, image)
        if prompts is None:
            return Outcome("waiting_for_prompts", _uri(request))
        return self._jobs.run(placed(around.job(image, prompts, self._rules, _caller(request)), destination))

    def _under_its_key(self, request: JobRequest, prompt_set: PromptSet) -> Outcome:
        """Two jobs on one image leave two results: the name follows from the key, and so from the generation."""
        generation = request.generation or self._live(request).generation
        key = self._jobs.job_id(request.bucket, request.name, generation, prompt_set)
        try:
            name = keyed_output_name(self._rules.output_prefix, request.bucket, request.name, key)
        except NameTooLong as fault:
            return self._fail(request, self._live(request), fault)
        destination = look_at(self._store, Output(self._rules.output_bucket, name))
        return self._with_own_prompts(request, prompt_set, destination, generation)

    def _with_own_prompts(
        self, request: JobRequest, prompt_set: PromptSet, destination: Destination, generation: int | None = None
    ) -> Outcome:
        """Do the job on the live image, if that is still the one whose `generation` made the name of the output."""
        image = self._live(request)
        if generation not in (None, image.generation):
            raise PreconditionFailed(f"{_uri(request)} has been replaced meanwhile")
        job = Job(request.bucket, image, None, destination.slots, destination.beside, request.output, _caller(request))
        return self._jobs.run(job, RequestRecord(prompt_set, None))

    def _live(self, request: JobRequest) -> ObjectInfo:
        return _wanted(request, self._store.stat(request.bucket, request.name))

    def _is_stranger(self, bucket: str) -> bool:
        """Whether the result of an image in that bucket would have the name of another image's result."""
        return bucket not in self._rules.input_buckets and "{bucket}" not in self._rules.output_prefix

    def _fail(self, request: JobRequest, image: ObjectInfo, fault: ServiceError) -> Outcome:
        """Announce a fault that there is no place to write to."""
        record = None if request.prompt_set is None else RequestRecord(request.prompt_set, None)
        job = Job(request.bucket, image, None, None, output=request.output, caller=_caller(request))
        return self._jobs.fail(job, fault, record).outcome


def _wanted(request: JobRequest, live: ObjectInfo | None) -> ObjectInfo:
    if live is None:
        raise InputGone(f"image: {_uri(request)} does not exist")
    if request.generation not in (None, live.generation):
        raise StaleInput(f"image: {_uri(request)} is at generation {live.generation}, not {request.generation}")
    return live


def _not_there(request: JobRequest) -> ObjectInfo:
    """What is known of an image that is not there: generation 0 stands for whichever was live."""
    from service.gcp.storage import ObjectInfo

    return ObjectInfo(request.name, request.generation or 0, 0)


def _caller(request: JobRequest) -> Caller:
    return Caller(request.id, request.metadata, request.output)


def _uri(request: JobRequest) -> str:
    return gs_uri(request.bucket, request.name)
