"""Where the prompts of an image were found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.core.sources import OPTIONS_METADATA, PROMPTS_METADATA, PromptSource

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.storage import ObjectInfo


@dataclass(frozen=True)
class Found:
    """A source of prompts and the live object that holds them, the image itself for its metadata; None for defaults.

    Of a sidecar, images: the names of those that it speaks for; unlisted: what may be one more, as nobody has looked.
    """

    source: PromptSource
    held_by: ObjectInfo | None = None
    images: tuple[str, ...] = ()
    unlisted: str | None = None

    @property
    def fingerprint(self) -> str:
        """Changes whenever the source does: the metadata of an image changes without a new generation."""
        text = f"{self.source.uri}#{self.source.generation}"
        if self.source.kind != "metadata" or self.held_by is None:
            return text
        return f"{text} {self.held_by.metadata.get(PROMPTS_METADATA)} {self.held_by.metadata.get(OPTIONS_METADATA)}"
