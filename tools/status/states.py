"""What can be said of one image: done, failed, missing, outdated or waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from service.core.naming import gs_uri
from service.core.sources import PROMPTS_METADATA, PromptSource, RankedPlace, object_source, recorded_source
from service.gcp.storage import ObjectInfo
from service.worker.model import ERROR_CODE, INPUT_GENERATION, JOB_ID

State = Literal["done", "failed", "missing", "outdated", "waiting"]
STATES: tuple[State, ...] = get_args(State)
UNKNOWN_CODE = "unknown"  # of an error document without the metadata that tells it
NAME_TOO_LONG = "name_too_long"  # such an image has no documents


@dataclass(frozen=True)
class Verdict:
    """A state, and the error code or the reason."""

    state: State
    detail: str = ""


@dataclass(frozen=True)
class Sources:
    """The prompt sources of an image that exist, and the URIs of all that may, highest rank first; "" for defaults."""

    uris: Sequence[str]
    live: PromptSource | None

    def supersedes(self, recorded: PromptSource) -> bool:
        """Whether the live source is newer than the recorded one, or ranks above it.

        One that ranks below is no reason to work again: the recorded one has been deleted, which starts nothing.
        """
        if self.live is None or (recorded.uri or "") not in self.uris:
            return False
        mine, theirs = (self.uris.index(source.uri or "") for source in (self.live, recorded))
        return mine < theirs or (mine == theirs and self.live.generation != recorded.generation)


def sources_of(
    bucket: str, image: ObjectInfo, places: Sequence[RankedPlace], around: Sequence[ObjectInfo], *, default: bool
) -> Sources:
    """Rank the prompts of an image; `places` are all where they may be, `around` has its sidecars and its folders'."""
    there = {info.name: info.generation for info in around}
    if PROMPTS_METADATA in image.metadata:
        there[image.name] = image.generation
    ranked = (object_source(kind, bucket, name, there[name]) for kind, name in places if name in there)
    uris = (*(gs_uri(bucket, place.name) for place in places), "")
    return Sources(uris, next(ranked, None) or (PromptSource("default") if default else None))


def output_taken(found: Sequence[ObjectInfo]) -> Verdict | None:
    """Say so when something at a named place was not written by the service: it fails, and leaves no document."""
    foreign = any(JOB_ID not in each.metadata for each in found)
    return Verdict("failed", "output_taken") if foreign else None


def judge(image: ObjectInfo, documents: Sequence[ObjectInfo], error_name: str, sources: Sources) -> Verdict:
    """Say how far an image is. Of a result and an error, between whose writes we may have looked, the newer counts."""
    newest = max(documents, key=lambda document: document.generation, default=None)
    if newest is None:
        return Verdict("waiting" if sources.live is None else "missing")
    made_from, recorded = newest.metadata.get(INPUT_GENERATION), recorded_source(newest.metadata)
    if made_from not in (None, str(image.generation)):
        return Verdict("outdated", "the image is newer")
    if recorded is not None and sources.supersedes(recorded):
        return Verdict("outdated", "the prompts are newer")
    if newest.name == error_name:
        return Verdict("failed", newest.metadata.get(ERROR_CODE, UNKNOWN_CODE))
    return Verdict("done")
