"""Where the prompts of an uploaded image may come from, highest rank first, and how a document remembers its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args
from urllib.parse import quote, unquote

from service.core.events import Rules, in_scope
from service.core.naming import MAX_NAME_BYTES, folder_prompts_beside, gs_uri, sidecar_names

SourceKind = Literal["sidecar", "metadata", "folder", "default"]
# Custom metadata of an image that holds its prompts (a JSON list) and options (a JSON object).
PROMPTS_METADATA, OPTIONS_METADATA = "prompts", "options"
# Custom metadata of every document: the source of its prompts, so that a list of documents tells it.
_KIND, _URI, _GENERATION = "sam3-prompts-kind", "sam3-prompts-uri", "sam3-prompts-generation"


@dataclass(frozen=True)
class PromptSource:
    """The object generation that prompts came from; DEFAULT_PROMPTS are no object and have neither."""

    kind: SourceKind
    uri: str | None = None
    generation: int | None = None


class RankedPlace(NamedTuple):
    """An object that may hold prompts of an image, and as what it would."""

    kind: SourceKind
    name: str


def ranked_places(bucket: str, image: str, rules: Rules) -> tuple[RankedPlace, ...]:
    """Where the prompts of `image` may lie, highest rank first; DEFAULT_PROMPTS, which are no object, come after all.

    The image itself is there for its metadata.
    """
    return (
        *(RankedPlace("sidecar", name) for name in sidecar_names(image)),
        RankedPlace("metadata", image),
        *(RankedPlace("folder", name) for name in folder_prompts_names(bucket, image, rules)),
    )


def folder_prompts_names(bucket: str, image: str, rules: Rules) -> tuple[str, ...]:
    """The names under which folder prompts for `image` may lie, highest rank first: the nearest folder, JSON first.

    Like any input, such a file must begin with INPUT_PREFIX and lie outside the output prefix: so the parents go up to
    INPUT_PREFIX, whether or not that ends in a slash. An image that is no input itself, which only a job can name, has
    the folders of its bucket.
    """
    by_job = not in_scope(bucket, image, rules)
    folders = [image[: end + 1] for end in range(len(image) - 1, -1, -1) if image[end] == "/"]
    names = (name for folder in (*folders, "") for name in folder_prompts_beside(folder))
    names = (name for name in names if len(name.encode()) <= MAX_NAME_BYTES)
    return tuple(name for name in names if by_job or in_scope(bucket, name, rules))


def names_above(folder_prompts: str, bucket: str, image: str, rules: Rules) -> tuple[str, ...]:
    """The names of objects of their own whose prompts for `image` rank above the file `folder_prompts` over it."""
    ranked = [place.name for place in ranked_places(bucket, image, rules) if place.kind != "metadata"]
    return tuple(ranked[: ranked.index(folder_prompts)])


def source_metadata(source: PromptSource) -> dict[str, str]:
    """Custom metadata that remembers a source; `recorded_source` reads it back.

    The URI is percent-encoded, as metadata may travel in HTTP headers.
    """
    values: dict[str, str] = {_KIND: source.kind}
    if source.uri is not None:
        values |= {_URI: quote(source.uri, safe="/:"), _GENERATION: str(source.generation)}
    return values


def recorded_source(metadata: Mapping[str, str]) -> PromptSource | None:
    """The source that a document's metadata remembers, or None when it remembers none that we know."""
    kind: SourceKind | None = next((kind for kind in get_args(SourceKind) if kind == metadata.get(_KIND)), None)
    if kind is None:
        return None
    generation = metadata.get(_GENERATION, "")
    if _URI not in metadata or not generation.isdecimal():
        return PromptSource(kind)
    return PromptSource(kind, unquote(metadata[_URI]), int(generation))


def object_source(kind: SourceKind, bucket: str, name: str, generation: int) -> PromptSource:
    """The source that is this generation of an object."""
    return PromptSource(kind, gs_uri(bucket, name), generation)
