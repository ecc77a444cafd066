"""Results that go to a place which a job or a sidecar names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.core.options import Options
from service.core.outputs import Output
from service.errors import OutputTaken
from service.worker.surroundings import Job, Slot, places

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectStore


class Elsewhere(Exception):
    """The prompts name another place than the one whose generation was read: look there, and start over."""

    def __init__(self, output: Output | None) -> None:
        super().__init__(output)
        self.output = output


@dataclass(frozen=True)
class Place:
    """Where a result goes and what was there, and beside it, when we looked."""

    output: Output
    slots: tuple[Slot, Slot]
    beside: Mapping[str, Slot]


def look_at(store: ObjectStore, output: Output) -> Place:
    """Look, with one list, what lies where a result is wanted. Like all outputs that comes before the inputs."""
    found = {info.name: info for info in store.list(output.bucket, output.name.removesuffix("json"))}
    return Place(output, *places(output, found))


def placed(job: Job, place: Place | None) -> Job:
    """The same job with its documents at that place; None leaves them where its image's name says."""
    return job if place is None else replace(job, output=place.output, slots=place.slots, beside=place.beside)


def check_place(job: Job, by_prompts: Output | None) -> None:
    """Raise Elsewhere when the result is wanted at another place than the job's; what its message says comes first."""
    wanted = job.caller.output or by_prompts
    if wanted != job.output:
        raise Elsewhere(wanted)


def check_free(job: Job, options: Options) -> None:
    """Raise OutputTaken when something lies at a named place that this service has not written."""
    asked = [slot for kind, slot in job.beside.items() if getattr(options, kind)]
    for slot in (*(job.slots or ()), *asked):
        if job.output is not None and slot.foreign:
            raise OutputTaken(
                f"output: gs://{slot.bucket}/{slot.name} has not been written by this service and is not replaced"
            )
