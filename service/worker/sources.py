"""Finding and reading the prompts of an uploaded image."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cachetools import LRUCache

from service.core.events import Rules
from service.core.naming import sidecar_base
from service.core.prompts import PromptSet, check_one_image, parse_defaults, parse_image_metadata, parse_sidecar
from service.core.sources import (
    OPTIONS_METADATA,
    PROMPTS_METADATA,
    PromptSource,
    RankedPlace,
    SourceKind,
    object_source,
    ranked_places,
)
from service.errors import BadSidecar, TooLarge
from service.settings import Settings
from service.worker.bounded import read_within
from service.worker.found import Found
from service.worker.model import JOB_ID
from service.worker.surroundings import Surroundings, is_candidate

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectInfo, ObjectStore


# Contents up to that size are kept, so that a folder's prompts are not read once for each of its images.
_KEPT_BYTES, _KEPT_IN_ALL_BYTES = 64 * 1024, 4 * 1024 * 1024


class PromptFinder:
    """Goes through the places of an image's prompts by their ranks.

    Between calls it remembers contents, which no generation changes, and nothing else: a missing source may come, and
    one that is there may go, at any time.
    """

    def __init__(self, settings: Settings, rules: Rules, store: ObjectStore) -> None:
        self._limits = settings.limits
        self._max_bytes = settings.max_sidecar_bytes
        self._defaults = parse_defaults(settings.default_prompts, self._limits) if settings.default_prompts else None
        self._rules = rules
        self._store = store
        self._lock = threading.Lock()
        self._contents: LRUCache[tuple[str, str, int], bytes] = LRUCache(_KEPT_IN_ALL_BYTES, getsizeof=len)

    def find(self, around: Surroundings, image: ObjectInfo) -> Found | None:
        """The highest-ranked source that exists, or None. Folders are looked at only when nothing nearer is there."""
        places = ranked_places(around.bucket, image.name, self._rules)
        own = {image.name: image} if PROMPTS_METADATA in image.metadata else {}
        there: dict[SourceKind, Mapping[str, ObjectInfo]] = {"sidecar": around.inputs, "metadata": own}
        for kind, name in places:
            if kind not in there:
                there[kind] = self._folder_prompts(around, places)
            if name in there[kind]:
                return _found(kind, around, there[kind][name])
        return Found(PromptSource("default")) if self._defaults else None

    def read(self, bucket: str, found: Found) -> PromptSet:
        """The prompts of what was found. Raises BadSidecar when it is at fault, NotFound when it has gone since.

        It is at fault, too, when it names one output for several images.
        """
        held_by = found.held_by
        if held_by is None:
            assert self._defaults is not None
            return self._defaults
        if found.source.kind == "metadata":
            metadata = held_by.metadata
            prompts, options = metadata[PROMPTS_METADATA], metadata.get(OPTIONS_METADATA)
            return parse_image_metadata(held_by.name, prompts, options, self._limits)
        prompt_set = parse_sidecar(held_by.name, self._content(bucket, held_by), self._limits)
        if prompt_set.output is not None:
            check_one_image(held_by.name, prompt_set.output, self._images(bucket, found))
        return prompt_set

    def _images(self, bucket: str, found: Found) -> tuple[str, ...]:
        """The images that a sidecar speaks for; one that is called like its stem is in no list."""
        bare = self._store.stat(bucket, found.unlisted) if found.unlisted is not None else None
        return (bare.name, *found.images) if bare and is_candidate(bare) else found.images

    def _content(self, bucket: str, info: ObjectInfo) -> bytes:
        key = bucket, info.name, info.generation
        with self._lock:
            kept = self._contents.get(key)
        if kept is not None:
            return kept
        data = self._read(bucket, info)
        if len(data) <= _KEPT_BYTES:
            with self._lock:
                self._contents[key] = data
        return data

    def _read(self, bucket: str, info: ObjectInfo) -> bytes:
        try:
            return read_within(self._store, bucket, info, self._max_bytes, "MAX_SIDECAR_BYTES")
        except TooLarge as error:
            raise BadSidecar(f"{info.name}: {error.detail}") from None

    def _folder_prompts(self, around: Surroundings, places: Sequence[RankedPlace]) -> dict[str, ObjectInfo]:
        """Those that are there. The result of an image, where a job may find its own, may be called like them."""
        there = around.folder_prompts
        if there is None:
            there = self._store.stat_all(around.bucket, [place.name for place in places if place.kind == "folder"])
        return {name: info for name, info in there.items() if JOB_ID not in info.metadata}


def _found(kind: SourceKind, around: Surroundings, held_by: ObjectInfo) -> Found:
    found = Found(object_source(kind, around.bucket, held_by.name, held_by.generation), held_by)
    if kind != "sidecar":
        return found
    unlisted = around.unlisted if around.unlisted == sidecar_base(held_by.name) else None
    return replace(found, images=around.spoken_for_by(held_by.name), unlisted=unlisted)
