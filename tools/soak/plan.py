"""How much of everything, and what becomes of which image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["before", "after", "together", "folder", "job", "broken"]
"""A sidecar before, after or together with its image; prompts of the folder; a job; a file that is no image."""

_CYCLE: tuple[Kind, ...] = (
    "before", "after", "together", "folder", "job", "before", "after", "together", "folder", "after",
    "before", "after", "together", "folder", "job", "before", "after", "together", "folder", "broken",
)  # fmt: skip
_LABELS = ("cat", "dog", "red circle", "mug", "tree")
FOLDER_SIZE = 10


@dataclass(frozen=True)
class Plan:
    """One run. Rates are shares; times in seconds. The load and the burst belong to the second part."""

    images: int = 2000
    kills: int = 5
    terms: int = 2
    seed: int = 0
    folders: bool = True
    jobs: bool = True
    duplicate_rate: float = 0.2
    loss_rate: float = 0.1
    jitter_s: float = 0.3
    max_backoff_s: float = 5.0
    queue_size: int = 16
    burst_queues: int = 20
    burst_at_ready: bool = True
    load_s: float = 60.0
    timeout_s: float = 1200.0

    def quick(self) -> Plan:
        """A small share of it."""
        return replace(
            self, images=60, kills=1, terms=1, queue_size=1, burst_at_ready=False, load_s=2.0, timeout_s=200.0
        )

    def image(self, number: int) -> Planned:
        """What becomes of the image of that number."""
        kind = _CYCLE[number % len(_CYCLE)]
        if kind == "folder" and not self.folders:
            kind = "before"
        if kind == "job" and not self.jobs:
            kind = "together"
        return Planned(number, kind)


@dataclass(frozen=True)
class Planned:
    """One image."""

    number: int
    kind: Kind

    @property
    def name(self) -> str:
        """Its object."""
        if self.kind == "folder":
            return f"{self.folder}{self.number}.png"
        return f"{self.kind}/{self.number}.png"

    @property
    def folder(self) -> str:
        """With a slash at its end; many images of the kind `folder` share one."""
        return f"folder/{self.number // (FOLDER_SIZE * 5)}/"

    @property
    def prompts_name(self) -> str:
        """The object with its prompts; a job has none."""
        return f"{self.folder}_prompts.json" if self.kind == "folder" else f"{self.name}.prompts.json"

    @property
    def replaced(self) -> bool:
        """Whether the image is uploaded again, with other content. Not of a job: each generation has its own result."""
        return self.kind != "job" and self.number % 7 == 3

    @property
    def prompts_versions(self) -> int:
        """How often the prompts are written."""
        if self.kind == "folder":
            return 1 + (self.number // (FOLDER_SIZE * 5)) % 2
        return 1 + (self.kind in ("before", "after", "together") and self.number % 9 == 4)

    def labels(self, version: int) -> list[str]:
        """The phrases of that version, from 1."""
        share = self.number // (FOLDER_SIZE * 5) if self.kind == "folder" else self.number
        return [_LABELS[(share + version) % len(_LABELS)], f"version {version}"]
