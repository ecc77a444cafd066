"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """`quick` is a small share that shows that everything works; checkpoints are made in `cache`, and `keep`
    leaves the full-size one there."""

    cache: Path
    quick: bool = False
    keep: bool = False

    def pick(self, usual: T, quick: T) -> T:
        """One of the two."""
        return quick if self.quick else usual
