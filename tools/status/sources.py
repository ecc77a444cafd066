"""Which object an image's prompts come from, as the names and metadata of a list tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from service.core.events import Rules

FOLDER_PROMPTS = ("_prompts.json", "_prompts.txt")
PROMPTS_METADATA = "prompts"
_KIND, _URI, _GENERATION = "sam3-prompts-kind", "sam3-prompts-uri", "sam3-prompts-generation"


@dataclass(frozen=True)
class PromptSource:
    """The object generation that prompts came from; DEFAULT_PROMPTS have neither."""

    uri: str | None = None
    generation: int | None = None


def folder_prompts_names(image: str, rules: Rules) -> tuple[str, ...]:
    """The names under which folder prompts for `image` may lie, highest rank first: the nearest folder, JSON first."""
    folders = [image[: end + 1] for end in range(len(image) - 1, -1, -1) if image[end] == "/"]
    names = (folder + file for folder in (*folders, "") for file in FOLDER_PROMPTS)
    return tuple(name for name in names if name.startswith(rules.input_prefix))


def recorded_source(metadata: Mapping[str, str]) -> PromptSource | None:
    """The source that a document's metadata remembers, or None when it remembers none."""
    if _KIND not in metadata:
        return None
    uri, generation = metadata.get(_URI), metadata.get(_GENERATION)
    return PromptSource(unquote(uri) if uri else None, int(generation) if generation else None)
