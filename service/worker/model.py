"""What a piece of work is: one image with its prompts, and the places of what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.core.outputs import Output
from service.worker.found import Found

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectInfo

# Custom metadata of everything that we write: the job that it answers.
JOB_ID = "sam3-job-id"
# Of documents: the same job whatever the model, and when the process that wrote it was started.
WORK_ID = "sam3-work-id"
MODEL_SINCE = "sam3-model-since"
# Beside it, for whoever has only a list: the generation of the image, and the code of a failure.
INPUT_GENERATION = "sam3-input-generation"
ERROR_CODE = "sam3-error-code"


@dataclass(frozen=True)
class Slot:
    """The place of a document and what was there when we looked."""

    bucket: str
    name: str
    found: ObjectInfo | None

    @property
    def generation(self) -> int:
        """The generation that a write may replace; 0 when there was none."""
        return self.found.generation if self.found else 0

    def holds(self, job_id: str) -> bool:
        """Whether the document was made by that job."""
        return self.found is not None and self.found.metadata.get(JOB_ID) == job_id

    @property
    def ours(self) -> bool:
        """Whether this service wrote it."""
        return self.found is not None and JOB_ID in self.found.metadata

    @property
    def foreign(self) -> bool:
        """Whether somebody else has put an object there."""
        return self.found is not None and not self.ours

    def surpasses(self, work_id: str, model_since: str) -> bool:
        """Whether a process that was started later, perhaps with a newer model, has answered the same work."""
        if self.found is None:
            return False
        metadata = self.found.metadata
        return metadata.get(WORK_ID) == work_id and metadata.get(MODEL_SINCE, "") > model_since


@dataclass(frozen=True)
class Caller:
    """What a job's message adds to an image: id and metadata, which are echoed, and where it wants the result."""

    id: str | None = None
    metadata: dict[str, Any] | None = None
    output: Output | None = None


NOBODY = Caller()
"""The caller of an upload's work."""


@dataclass(frozen=True)
class Job:
    """One live image with its prompts, and the places of its two documents; None when nothing is to be written.

    `prompts` is None when the job brings its own. `output` is the name that was asked for, if any, of the first place;
    a job for which nobody has asked goes where its image's name says. beside: the places of what options may ask for,
    by option. outdated: the error document where the image's name says, of prompts that did not name `output` yet.
    """

    bucket: str
    image: ObjectInfo
    prompts: Found | None
    slots: tuple[Slot, Slot] | None
    beside: Mapping[str, Slot] = field(default_factory=dict)
    output: Output | None = None
    caller: Caller = NOBODY
    outdated: Slot | None = None
