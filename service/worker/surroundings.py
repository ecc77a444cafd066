"""What lies in the buckets around one stem: images, their sidecars, and the documents made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.core.events import ImageArrived, Rules, classify_object
from service.core.naming import (
    MAX_NAME_BYTES,
    RENDITION_SUFFIXES,
    error_name,
    expand_prefix,
    is_image,
    is_sidecar,
    output_name,
    rendition_name,
    sidecar_base,
    sidecar_names,
)
from service.core.outputs import Output
from service.core.sources import folder_prompts_names
from service.errors import NameTooLong
from service.worker.found import Found
from service.worker.model import JOB_ID, NOBODY, Caller, Job, Slot

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectInfo, ObjectStore


@dataclass(frozen=True)
class Surroundings:
    """Live objects by name, as two lists found them: the outputs first, then the inputs.

    In this order, whoever wrote a listed output knew no newer inputs than those listed here, so it may be replaced.
    """

    bucket: str
    outputs: Mapping[str, ObjectInfo]
    inputs: Mapping[str, ObjectInfo]
    folder_prompts: Mapping[str, ObjectInfo] | None = None
    """Those that may concern the image, where they have been looked at already."""
    unlisted: str | None = None
    """The name of an image without a suffix that would share the stem, where nobody has looked for it."""

    def sidecar_of(self, image: str) -> ObjectInfo | None:
        """The highest-ranked sidecar of an image."""
        return next((self.inputs[name] for name in sidecar_names(image) if name in self.inputs), None)

    def images_of(self, sidecar: str, rules: Rules) -> list[ObjectInfo]:
        """The images that a sidecar may speak for, by name."""
        named = (info for info in self.inputs.values() if sidecar in sidecar_names(info.name))
        return sorted((info for info in named if is_image_here(self.bucket, info, rules)), key=lambda info: info.name)

    def spoken_for_by(self, sidecar: str) -> tuple[str, ...]:
        """The names of the listed images whose prompts are in that sidecar, whether or not uploads of theirs count."""
        names = (info.name for info in self.inputs.values() if is_candidate(info))
        return tuple(name for name in sorted(names) if (best := self.sidecar_of(name)) and best.name == sidecar)

    def job(self, image: ObjectInfo, prompts: Found, rules: Rules, caller: Caller = NOBODY) -> Job:
        """Put together what one job needs to know."""
        try:
            output = output_name(rules.output_prefix, self.bucket, image.name)
        except NameTooLong:
            return Job(self.bucket, image, prompts, None, caller=caller)
        slots, beside = places(Output(rules.output_bucket, output), self.outputs)
        return Job(self.bucket, image, prompts, slots, beside, caller=caller)


def places(output: Output, found: Mapping[str, ObjectInfo]) -> tuple[tuple[Slot, Slot], dict[str, Slot]]:
    """The two documents of an output, and what options may ask for beside it, by option; `found` is what lies there."""

    def slot(name: str) -> Slot:
        return Slot(output.bucket, name, found.get(name))

    beside = {kind: slot(rendition_name(output.name, kind)) for kind in RENDITION_SUFFIXES}
    return (slot(output.name), slot(error_name(output.name))), beside


def is_image_here(bucket: str, info: ObjectInfo, rules: Rules) -> bool:
    """Whether the upload of this live object is an image's."""
    return isinstance(classify_object(bucket, info.name, info.generation, info.content_type, rules), ImageArrived)


def is_candidate(info: ObjectInfo) -> bool:
    """Whether the live object, wherever it lies, is an image that somebody may want segmented."""
    return is_image(info.name, info.content_type) and JOB_ID not in info.metadata


def list_beside(store: ObjectStore, bucket: str, prefix: str) -> dict[str, ObjectInfo]:
    """The live objects by name that begin with `prefix`, but not what lies in folders that are called so."""
    if len(prefix.encode()) > MAX_NAME_BYTES:  # no name begins so, and Cloud Storage refuses to look
        return {}
    return {info.name: info for info in store.list(bucket, prefix, delimiter="/")}


def look(store: ObjectStore, rules: Rules, bucket: str, name: str, *, outputs_too: bool = True) -> Surroundings:
    """List outputs, then inputs, that share the stem of `name`, an image or a sidecar."""
    stem = _stem(name)
    prefix = f"{expand_prefix(rules.output_prefix, bucket)}{stem}."
    outputs = list_beside(store, rules.output_bucket, prefix) if outputs_too else {}
    around = Surroundings(bucket, outputs, list_beside(store, bucket, f"{stem}."))
    # An image without a suffix is named like the stem itself, which the list leaves out.
    if stem == name:  # its folders are looked at in the same call
        there = store.stat_all(bucket, [stem, *folder_prompts_names(bucket, stem, rules)])
        bare = {stem: there.pop(stem)} if stem in there else {}
        return replace(around, inputs={**bare, **around.inputs}, folder_prompts=there)
    if stem == sidecar_base(name):
        return replace(around, inputs={**store.stat_all(bucket, [stem]), **around.inputs})
    return replace(around, unlisted=stem)


def _stem(name: str) -> str:
    """`in/photo` for `in/photo.jpg` and for each of its sidecars."""
    image = sidecar_base(name) if is_sidecar(name) else name
    return min((sidecar_base(sidecar) for sidecar in sidecar_names(image)), key=len)
