"""Which images of one part of a folder are to be done again, told from lists, without reading a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.core.events import Rules
from service.core.folders import FolderPage
from service.core.naming import error_name, expand_prefix, gs_uri, output_name
from service.core.sources import PROMPTS_METADATA, PromptSource, names_above, object_source, recorded_source
from service.errors import NameTooLong
from service.worker.surroundings import is_image_here

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectInfo, ObjectStore

# An image has up to four documents beside each other; more in the range belong to jobs, or to images that are gone.
_DOCUMENTS_PER_OBJECT = 4
_LOOKED_AT = 50  # images whose two documents fit into one call, when the list does not tell


@dataclass(frozen=True)
class Part:
    """Consecutive objects of a folder: all whose name is above `after`, up to that of the last one."""

    after: str
    objects: Sequence[ObjectInfo]
    more: bool

    @property
    def last(self) -> str:
        """The name of the last object, where the next part begins."""
        return self.objects[-1].name if self.objects else self.after

    def before(self, name: str) -> Part:
        """The objects up to that one, which is left to the next part."""
        return Part(self.after, [info for info in self.objects if info.name < name], more=True)

    def spans(self, name: str) -> bool:
        """Whether an object of that name would be one of `objects` if it were there."""
        return self.after < name <= self.last


@dataclass(frozen=True)
class _Image:
    """A live image, the sources that its documents were made from, and the names of those above the folder's."""

    info: ObjectInfo
    recorded: tuple[PromptSource, ...]
    above: tuple[str, ...]

    @property
    def made_from_its_metadata(self) -> bool:
        """A source above the folder's, as long as it is there."""
        return PROMPTS_METADATA in self.info.metadata and any(source.kind == "metadata" for source in self.recorded)


class Dependents:
    """Tells the images that depend on a folder's prompts and were not made from this generation of them."""

    def __init__(self, rules: Rules, store: ObjectStore, page_size: int) -> None:
        self._rules = rules
        self._store = store
        self._max_documents = _DOCUMENTS_PER_OBJECT * page_size

    def of(self, page: FolderPage, part: Part) -> tuple[Part, list[ObjectInfo]]:
        """The part, cut short where the images to be looked at one by one would be too many, and its dependents."""
        outputs = self._outputs(page.bucket, part)
        documents, first_untold = self._documents(page.bucket, outputs)
        if first_untold is not None:
            part = part.before(first_untold)
        mine = object_source("folder", page.bucket, page.name, page.generation)
        images = [self._image(page, info, outputs, documents) for info in part.objects if info.name in outputs]
        to_do = [image for image in images if mine not in image.recorded and not image.made_from_its_metadata]
        live = self._live(page.bucket, part, to_do)
        # Whatever ranks above has reached the image by its own event. (Metadata may have come later, without one.)
        return part, [image.info for image in to_do if live.isdisjoint(image.above)]

    def _outputs(self, bucket: str, part: Part) -> dict[str, str]:
        """The name of the result of each image; "" where there is none, as it would be too long."""
        images = (info.name for info in part.objects if is_image_here(bucket, info, self._rules))
        return {image: self._output(bucket, image) for image in images}

    def _output(self, bucket: str, image: str) -> str:
        try:
            return output_name(self._rules.output_prefix, bucket, image)
        except NameTooLong:
            return ""

    def _documents(self, bucket: str, outputs: Mapping[str, str]) -> tuple[dict[str, ObjectInfo], str | None]:
        """What has been written for these images, by name, and the first image of which that is not known."""
        named = {image: output for image, output in outputs.items() if output}
        if not named:
            return {}, None
        start, last = expand_prefix(self._rules.output_prefix, bucket) + min(named), named[max(named)]
        found = self._store.list_range(
            self._rules.output_bucket, "", start=start, end=f"{last}!", limit=self._max_documents
        )
        told = found[-1].name if len(found) == self._max_documents else last
        # Not in that range: `a.jpg.json` when the last one is `a.jpg (1).jpg.json`.
        untold = [image for image, output in named.items() if output > told]
        names = [name for image in untold[:_LOOKED_AT] for name in (named[image], error_name(named[image]))]
        looked_at = self._store.stat_all(self._rules.output_bucket, names)
        return {info.name: info for info in found} | looked_at, next(iter(untold[_LOOKED_AT:]), None)

    def _image(
        self, page: FolderPage, info: ObjectInfo, outputs: Mapping[str, str], documents: Mapping[str, ObjectInfo]
    ) -> _Image:
        output = outputs[info.name]
        found = [documents[name] for name in (output, error_name(output)) if name in documents]
        recorded = (recorded_source(document.metadata) for document in found)
        above = names_above(page.name, page.bucket, info.name, self._rules)
        return _Image(info, tuple(source for source in recorded if source), above)

    def _live(self, bucket: str, part: Part, images: Sequence[_Image]) -> set[str]:
        """The names of this part, and those of recorded sources beyond its ends that are still there.

        Beyond its ends are few: the image and its source begin alike, and so does everything between them.
        """
        beyond = {
            name
            for image in images
            for name in image.above
            if not part.spans(name) and any(source.uri == gs_uri(bucket, name) for source in image.recorded)
        }
        return {info.name for info in part.objects} | set(self._store.stat_all(bucket, sorted(beyond)))
