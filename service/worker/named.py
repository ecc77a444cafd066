"""Results that go to a place which a job or a sidecar names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.core.naming import error_name
from service.core.outputs import Output
from service.errors import OutputTaken
from service.worker.surroundings import Job, Slot

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectStore


class Elsewhere(Exception):
    """The prompts name another place than the one whose generation was read: look there, and start over."""

    def __init__(self, output: Output | None) -> None:
        super().__init__(output)
        self.output = output


@dataclass(frozen=True)
class NamedPlace:
    """A named output and what was there, and in the error document beside it, when we looked."""

    output: Output
    slots: tuple[Slot, Slot]


def look_at(store: ObjectStore, output: Output | None) -> NamedPlace | None:
    """Look what lies where a result is wanted; None when it is wanted nowhere in particular.

    Like all outputs it is to be looked at before the inputs.
    """
    return None if output is None else NamedPlace(output, slots_of(store, output))


def slots_of(store: ObjectStore, output: Output) -> tuple[Slot, Slot]:
    """The two documents of an output, with one list."""
    found = {info.name: info for info in store.list(output.bucket, output.name.removesuffix("json"))}
    failure = error_name(output.name)
    return Slot(*output, found.get(output.name)), Slot(output.bucket, failure, found.get(failure))


def placed(job: Job, place: NamedPlace | None) -> Job:
    """The same job with its documents at that place."""
    return job if place is None else replace(job, output=place.output, slots=place.slots)


def check_place(job: Job, by_prompts: Output | None) -> None:
    """Raise Elsewhere when the result is wanted at another place than the job's; what its message says comes first."""
    wanted = job.caller.output or by_prompts
    if wanted != job.output:
        raise Elsewhere(wanted)


def check_free(job: Job) -> None:
    """Raise OutputTaken when something lies at a named place that this service has not written."""
    for slot in job.slots or ():
        if job.output is not None and slot.foreign:
            raise OutputTaken(
                f"output: gs://{slot.bucket}/{slot.name} has not been written by this service and is not replaced"
            )
