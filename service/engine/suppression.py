"""Instances of one image that are the same thing twice, within a prompt or of two prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.core.nms import kept
from service.engine.base import Grounding


def survivors(groundings: Sequence[Grounding], iou: float | None) -> list[NDArray[np.intp]]:
    """Which instances of each prompt stay: none whose box overlaps that of a better one by more than `iou`.

    Whatever prompt found either; None drops nothing. This is before any mask is made, as masks cost more than all else.
    """
    if iou is None or not groundings:
        return [np.arange(len(found.scores)) for found in groundings]
    boxes = np.concatenate([found.boxes for found in groundings])
    stays = kept(boxes, np.concatenate([found.scores for found in groundings]), iou)
    ends = np.cumsum([len(found.scores) for found in groundings])[:-1]
    return [np.flatnonzero(part) for part in np.split(stays, ends)]


def only(found: Grounding, indices: NDArray[np.intp]) -> Grounding:
    """These instances of a prompt; their logits are copied unless they are all."""
    if len(indices) == len(found.scores):
        return found
    return Grounding(found.scores[indices], found.boxes[indices], found.mask_logits[indices])
