"""What lies in the buckets around one stem: images, their sidecars, and the documents made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.core.events import OBJECT_FINALIZE, ImageArrived, Notification, Rules, classify
from service.core.naming import (
    MAX_NAME_BYTES,
    error_name,
    expand_prefix,
    is_sidecar,
    output_name,
    sidecar_base,
    sidecar_names,
)
from service.errors import NameTooLong

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectInfo, ObjectStore

# Custom metadata of every document that we write: the job that it answers.
JOB_ID = "sam3-job-id"
# Beside it, for whoever has only a list: the generation of the image, and the code of a failure.
INPUT_GENERATION = "sam3-input-generation"
ERROR_CODE = "sam3-error-code"


@dataclass(frozen=True)
class Slot:
    """The name of a document and what was there when we looked."""

    name: str
    found: ObjectInfo | None

    @property
    def generation(self) -> int:
        """The generation that a write may replace; 0 when there was none."""
        return self.found.generation if self.found else 0

    def holds(self, job_id: str) -> bool:
        """Whether the document was made by that job."""
        return self.found is not None and self.found.metadata.get(JOB_ID) == job_id


@dataclass(frozen=True)
class Job:
    """One live image with its sidecar, and the places of its two documents; None when its name is too long."""

    bucket: str
    image: ObjectInfo
    sidecar: ObjectInfo
    slots: tuple[Slot, Slot] | None


@dataclass(frozen=True)
class Surroundings:
    """Live objects by name, as two lists found them: the outputs first, then the inputs.

    In this order, whoever wrote a listed output knew no newer inputs than those listed here, so it may be replaced.
    """

    bucket: str
    outputs: Mapping[str, ObjectInfo]
    inputs: Mapping[str, ObjectInfo]

    def sidecar_of(self, image: str) -> ObjectInfo | None:
        """The highest-ranked sidecar of an image."""
        return next((self.inputs[name] for name in sidecar_names(image) if name in self.inputs), None)

    def images_of(self, sidecar: str, rules: Rules) -> list[ObjectInfo]:
        """The images that a sidecar may speak for, by name."""
        arrived = (self._as_arrived(info) for info in self.inputs.values() if sidecar in sidecar_names(info.name))
        images = (classify(notification, rules) for notification in arrived)
        return sorted(
            (self.inputs[image.name] for image in images if isinstance(image, ImageArrived)), key=lambda info: info.name
        )

    def job(self, image: ObjectInfo, sidecar: ObjectInfo, rules: Rules) -> Job:
        """Put together what one job needs to know."""
        try:
            output = output_name(rules.output_prefix, self.bucket, image.name)
        except NameTooLong:
            return Job(self.bucket, image, sidecar, None)
        slots = self._slot(output), self._slot(error_name(output))
        return Job(self.bucket, image, sidecar, slots)

    def _slot(self, name: str) -> Slot:
        return Slot(name, self.outputs.get(name))

    def _as_arrived(self, info: ObjectInfo) -> Notification:
        return Notification(OBJECT_FINALIZE, self.bucket, info.name, info.generation, info.content_type, "", None)


def look(store: ObjectStore, rules: Rules, bucket: str, name: str) -> Surroundings:
    """List outputs, then inputs, that share the stem of `name`, an image or a sidecar."""
    stem = _stem(name)
    prefix = f"{expand_prefix(rules.output_prefix, bucket)}{stem}."
    outputs = store.list(rules.output_bucket, prefix) if len(prefix.encode()) <= MAX_NAME_BYTES else []
    inputs = store.list(bucket, f"{stem}.")
    # An image without a suffix is named like the stem itself, which the list leaves out.
    bare = store.stat(bucket, stem) if stem in (name, sidecar_base(name)) else None
    return Surroundings(bucket, _by_name(outputs), _by_name([bare, *inputs] if bare else inputs))


def _stem(name: str) -> str:
    """`in/photo` for `in/photo.jpg` and for each of its sidecars."""
    image = sidecar_base(name) if is_sidecar(name) else name
    return min((sidecar_base(sidecar) for sidecar in sidecar_names(image)), key=len)


def _by_name(infos: list[ObjectInfo]) -> dict[str, ObjectInfo]:
    return {info.name: info for info in infos}
