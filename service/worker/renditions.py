"""What is written beside a result when its options ask for it: the overlay picture and the index mask."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from service.core.naming import MAX_NAME_BYTES, gs_uri
from service.core.options import Options
from service.core.results import Segmentation
from service.engine.images import ImageLimits
from service.engine.pictures import Pictures
from service.errors import NameTooLong, PreconditionFailed
from service.worker.model import JOB_ID, Job, Slot

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectStore

_CONTENT_TYPES = {"overlay": "image/webp", "mask_png": "image/png"}


class Renditions:
    """Writes and removes them, each at the generation that was looked at, as the documents are."""

    def __init__(self, store: ObjectStore, limits: ImageLimits) -> None:
        self._store = store
        self._pictures = Pictures(limits)

    def check(self, job: Job, options: Options) -> None:
        """Raise NameTooLong where the name of something asked for is longer than Cloud Storage allows."""
        for kind, slot in _asked(job, options):
            size = len(slot.name.encode("utf-8", "surrogatepass"))
            if size > MAX_NAME_BYTES:
                raise NameTooLong(
                    f"{kind}: its name would have {size} bytes, at most {MAX_NAME_BYTES} are allowed: {slot.name}"
                )

    def draw(self, job: Job, options: Options, data: bytes, segmentation: Segmentation) -> dict[str, bytes]:
        """What is asked for, by kind. `data` is the image file; TooLarge when a mask cannot number all instances."""
        return {kind: self._drawn(kind, data, segmentation) for kind, _ in _asked(job, options)}

    @contextmanager
    def beside(self, job: Job, job_id: str, drawn: Mapping[str, bytes]) -> Iterator[dict[str, str]]:
        """Write what is drawn, then the caller its result, within: so a result implies what it names. The URIs by kind.

        Raises PreconditionFailed when another job was faster, here or with the result; what has been written is then
        taken back, unless the result that is there now is of this job all the same, written by another process.
        """
        written: list[tuple[Slot, int]] = []
        try:
            for kind, data in drawn.items():
                written.append(self._write(job.beside[kind], data, _CONTENT_TYPES[kind], job_id))
            yield {kind: gs_uri(job.beside[kind].bucket, job.beside[kind].name) for kind in drawn}
        except PreconditionFailed:
            if written and not self._has_result(job, job_id):
                for slot, generation in written:
                    self._store.delete(slot.bucket, slot.name, generation)
            raise

    def clear(self, job: Job, keep: Collection[str] = (), older_than: float = float("inf")) -> None:
        """Delete what we wrote for other jobs: of those kinds not in `keep`, the generations below `older_than`.

        Whatever is newer than when we looked is left alone.
        """
        for kind, slot in job.beside.items():
            if slot.ours and kind not in keep and slot.generation < older_than:
                self._store.delete(slot.bucket, slot.name, slot.generation)

    def _write(self, slot: Slot, data: bytes, content_type: str, job_id: str) -> tuple[Slot, int]:
        metadata = {JOB_ID: job_id}
        generation = self._store.write(
            slot.bucket, slot.name, data, content_type, if_generation=slot.generation, metadata=metadata
        )
        return slot, generation

    def _has_result(self, job: Job, job_id: str) -> bool:
        if job.slots is None:
            return False
        result = job.slots[0]
        return replace(result, found=self._store.stat(result.bucket, result.name)).holds(job_id)

    def _drawn(self, kind: str, data: bytes, segmentation: Segmentation) -> bytes:
        if kind == "mask_png":
            return self._pictures.index_mask(segmentation)
        return self._pictures.overlay(data, segmentation)


def _asked(job: Job, options: Options) -> Iterator[tuple[str, Slot]]:
    return ((kind, slot) for kind, slot in job.beside.items() if getattr(options, kind))
