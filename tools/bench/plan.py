"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """`quick` is a small share that shows that everything works; checkpoints are kept in `cache`."""

    cache: Path
    quick: bool = False

    def pick(self, usual: T, quick: T) -> T:
        """One of the two."""
        return quick if self.quick else usual
