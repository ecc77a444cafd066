"""Which of a forward's queries are kept: decided on the host, after one copy of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import NotFinite


@dataclass(frozen=True)
class Selection:
    """The kept ones of B × Q candidates, best first.

    kept: for each of the B prompts the indices (n,) of its candidates. scores: theirs, (n,) float32.
    """

    kept: tuple[NDArray[np.intp], ...]
    scores: tuple[NDArray[np.float32], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many each prompt keeps."""
        return tuple(len(indices) for indices in self.kept)

    @property
    def rows(self) -> list[int]:
        """The prompts that keep any."""
        return [row for row, count in enumerate(self.counts) if count]

    def of(self, values: Tensor) -> list[NDArray[np.float32]]:
        """The kept ones' rows of `values` (B, Q, …), on the host; the device is asked once."""
        host = values.float().cpu().numpy()
        return [host[row, indices] for row, indices in enumerate(self.kept)]

    def gather(self, values: Tensor) -> Tensor:
        """(rows, most, C) of `values` (B, Q, C): the kept ones of each row that keeps any, padded with its last."""
        most = max(self.counts)
        index = np.stack([np.pad(self.kept[row], (0, most - self.counts[row]), mode="edge") for row in self.rows])
        rows = torch.tensor(self.rows, device=values.device)
        return values[rows[:, None], torch.from_numpy(index).to(values.device)]


def select(scores: Tensor, terms: Sequence[tuple[float, int]]) -> Selection:
    """Keep of each row of `scores` (B, Q) what is above its threshold, best first, up to its limit.

    `terms`: (threshold, limit) a row. Raises NotFinite for a score that is no number.
    """
    host: NDArray[np.float32] = scores.float().cpu().numpy()
    if not np.isfinite(host).all():
        raise NotFinite("the model put out scores that are NaN or infinite")
    kept = tuple(_keep(row, threshold, limit) for row, (threshold, limit) in zip(host, terms, strict=True))
    return Selection(kept, tuple(row[indices] for row, indices in zip(host, kept, strict=True)))


def finite(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mask logits themselves; NotFinite when one is no number."""
    if not np.isfinite(logits).all():
        raise NotFinite("the model put out mask logits that are NaN or infinite")
    return logits


def _keep(scores: NDArray[np.float32], threshold: float, limit: int) -> NDArray[np.intp]:
    order = np.argsort(-scores, kind="stable")
    return order[scores[order] > threshold][:limit]
