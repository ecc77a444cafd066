"""Images with what lies around them, from two lists that are read side by side."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from service.core.events import ImageArrived, Rules, SidecarArrived, classify_object
from service.core.naming import error_name, expand_prefix, output_name, sidecar_base, sidecar_names
from service.errors import NameTooLong
from service.gcp.storage import ObjectInfo
from service.worker.model import JOB_ID


@dataclass
class Around:
    """A live image, its sidecars and its documents; `names` is None when the image's name is too long for any."""

    image: ObjectInfo
    names: tuple[str, str] | None
    """Of the result and of the error document."""
    until: str
    """The last name, in the lists' common order, of what belongs to the image."""
    sidecars: list[ObjectInfo] = field(default_factory=list)
    documents: list[ObjectInfo] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """URIs of what lies where its sidecar's `output` says, if anybody has looked."""


def walk(inputs: Iterable[ObjectInfo], outputs: Iterable[ObjectInfo], bucket: str, rules: Rules) -> Iterator[Around]:
    """Join two lists, each in the order of its names' UTF-8; the names of outputs count without the output prefix.

    Remembers only what may still belong together: images and sidecars whose names are beginnings of the names that
    come now. So a million objects take no more memory than a hundred.
    """
    window = _Window(bucket, rules)
    prefix = expand_prefix(rules.output_prefix, bucket)
    taken = ((info.name, 0, info) for info in inputs)
    made = ((info.name.removeprefix(prefix), 1, info) for info in outputs)
    for name, is_output, info in heapq.merge(taken, made, key=lambda entry: entry[:2]):
        yield from window.pass_by(name)
        if is_output:
            window.add_output(info)
        else:
            window.add_input(info)
    yield from window.images


class _Window:
    """The images and sidecars that something to come may belong to: a handful."""

    def __init__(self, bucket: str, rules: Rules) -> None:
        self._bucket = bucket
        self._rules = rules
        self._prefix = expand_prefix(rules.output_prefix, bucket)
        self._sidecars: list[ObjectInfo] = []
        self.images: list[Around] = []

    def pass_by(self, name: str) -> list[Around]:
        """Forget, and for images return, what nothing from `name` on belongs to."""
        # "/" is the character after ".": images of a sidecar are called like its base, or that and a dot and more.
        self._sidecars = [each for each in self._sidecars if name < sidecar_base(each.name) + "/"]
        complete = [each for each in self.images if each.until < name]
        self.images = [each for each in self.images if each.until >= name]
        return complete

    def add_input(self, info: ObjectInfo) -> None:
        arrived = classify_object(self._bucket, info.name, info.generation, info.content_type, self._rules)
        if isinstance(arrived, SidecarArrived):
            self._sidecars.append(info)
            for around in self.images:
                if info.name in sidecar_names(around.image.name):
                    around.sidecars.append(info)
        elif isinstance(arrived, ImageArrived) and JOB_ID not in info.metadata:  # what the service wrote is no input
            self.images.append(self._around(info))

    def add_output(self, info: ObjectInfo) -> None:
        for around in self.images:
            if around.names is not None and info.name in around.names:
                around.documents.append(info)

    def _around(self, image: ObjectInfo) -> Around:
        names, wanted = self._document_names(image.name), sidecar_names(image.name)
        until = max(*wanted, *(name.removeprefix(self._prefix) for name in names or ()))
        return Around(image, names, until, [each for each in self._sidecars if each.name in wanted])

    def _document_names(self, image: str) -> tuple[str, str] | None:
        try:
            output = output_name(self._rules.output_prefix, self._bucket, image)
        except NameTooLong:
            return None
        return output, error_name(output)
