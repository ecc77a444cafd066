"""Where a result goes that a job or a sidecar sends to a place of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.core.options import Options
from service.core.outputs import Output
from service.core.sources import recorded_source
from service.errors import OutputTaken
from service.worker.model import INPUT_GENERATION, JOB_ID, Job, Slot
from service.worker.surroundings import list_beside, places

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectInfo, ObjectStore


@dataclass(frozen=True)
class Destination:
    """Where a result goes and what was there, and beside it, when we looked; `outdated` as in Job."""

    output: Output
    slots: tuple[Slot, Slot]
    beside: Mapping[str, Slot]
    outdated: Slot | None = None


class Elsewhere(Exception):
    """The prompts name another place than the one that was looked at before the inputs: start over with that.

    `destination` is None for the one that the image's name says.
    """

    def __init__(self, destination: Destination | None) -> None:
        super().__init__(destination)
        self.destination = destination


def look_at(store: ObjectStore, output: Output) -> Destination:
    """Look, with one list, what lies where a result is wanted. Like all outputs that comes before the inputs."""
    found = list_beside(store, output.bucket, output.name.removesuffix("json"))
    return Destination(output, *places(output, found))


def look_again(store: ObjectStore, destination: Destination) -> Destination:
    """What lies there now."""
    return replace(look_at(store, destination.output), outdated=destination.outdated)


def placed(job: Job, destination: Destination | None) -> Job:
    """The same job with its documents there; None leaves them where its image's name says."""
    if destination is None:
        return job
    outdated = destination.outdated or _outdated(job)
    return replace(
        job, output=destination.output, slots=destination.slots, beside=destination.beside, outdated=outdated
    )


def _outdated(job: Job) -> Slot | None:
    """The error where the image's name says, once its prompts name another place; a job's own word outdates nothing."""
    if job.output is not None:
        return job.outdated
    error = job.slots[1] if job.slots and job.caller.output is None else None
    return error if error and error.ours else None


def moved(store: ObjectStore, job: Job, by_prompts: Output | None) -> Job:
    """The same job where its result is wanted; what its message says comes before what its prompts say.

    Outputs are looked at before inputs, so that whoever wrote what lies there knew no newer inputs. A place that only
    the prompts name is looked at after them; what lies there must show by itself that it was made from no newer ones,
    else Elsewhere is raised.
    """
    wanted = job.caller.output or by_prompts
    if wanted == job.output:
        return job
    destination = look_at(store, wanted) if wanted else None
    if destination is None or not _made_from_no_newer(destination, job):
        raise Elsewhere(destination and replace(destination, outdated=_outdated(job)))
    return placed(job, destination)


def _made_from_no_newer(destination: Destination, job: Job) -> bool:
    """Also true of what somebody else has put there, which will be left alone."""
    documents = [slot.found for slot in destination.slots if slot.found and slot.ours]
    theirs = {document.metadata[JOB_ID] for document in documents}
    pictures = [slot.found for slot in destination.beside.values() if slot.found and slot.ours]
    if any(picture.metadata[JOB_ID] not in theirs for picture in pictures):
        return False  # of a job that is about to write its result, or that has been cut off
    return all(_no_newer(document, job) for document in documents)


def _no_newer(document: ObjectInfo, job: Job) -> bool:
    """Generations of one object grow; those of two objects tell nothing."""
    text = document.metadata.get(INPUT_GENERATION, "")
    image_generation = int(text) if text.isdecimal() else 0
    if image_generation != job.image.generation:
        return 0 < image_generation < job.image.generation
    recorded = recorded_source(document.metadata)
    mine = job.prompts.source if job.prompts else None
    if recorded is None or mine is None or mine.uri != recorded.uri:
        return False
    return (recorded.generation or 0) <= (mine.generation or 0)


def check_free(job: Job, options: Options) -> None:
    """Raise OutputTaken when something lies at a named place that this service has not written."""
    asked = [slot for kind, slot in job.beside.items() if getattr(options, kind)]
    for slot in (*(job.slots or ()), *asked):
        if job.output is not None and slot.foreign:
            raise OutputTaken(
                f"output: gs://{slot.bucket}/{slot.name} has not been written by this service and is not replaced"
            )
