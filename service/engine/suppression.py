"""Instances of one image that are the same thing twice, within a prompt or of two prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.core.nms import kept
from service.engine.base import Grounding


def suppress(groundings: Sequence[Grounding], iou: float | None) -> list[Grounding]:
    """Drop each instance whose box overlaps that of a better one by more than `iou`, whatever prompt found either.

    None drops nothing. This is before any mask is made, as masks cost more than all else.
    """
    if iou is None or not groundings:
        return list(groundings)
    boxes = np.concatenate([found.boxes for found in groundings])
    stays = kept(boxes, np.concatenate([found.scores for found in groundings]), iou)
    ends = np.cumsum([len(found.scores) for found in groundings])[:-1]
    return [_only(found, part) for found, part in zip(groundings, np.split(stays, ends), strict=True)]


def _only(found: Grounding, stays: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Grounding:
    return Grounding(found.scores[stays], found.boxes[stays], found.mask_logits[stays])
