"""Which instances a random model is let find, and whether two sides found the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray

from service.engine.base import Engine, Query
from tools.bench.inputs import PROMPTS

_KEPT = 40  # instances over 16 prompts


def choose_threshold(engine: Engine[Any, Any], rgb: NDArray[np.uint8], kept: int = _KEPT) -> float:
    """What lets about `kept` instances through over all prompts; in the widest gap near there, away from rounding."""
    [image] = engine.encode_image([engine.prepare(rgb)])
    asked = [Query(image, text, -1.0, 1000) for text in engine.encode_text(PROMPTS)]
    scores = np.sort(np.concatenate([found.scores for query in asked for found in engine.ground([query])]))[::-1]
    near = scores[kept - kept // 4 : kept + kept // 4]
    widest = int(np.argmax(near[:-1] - near[1:]))
    return float(near[widest] + near[widest + 1]) / 2


def same_finds(ones: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> bool:
    """The same instances for every prompt: scores to 0.001, boxes to half a pixel, masks to an IoU of 0.999.

    Takes `results` of the JSON answer, with masks. Prompts that share a forward add up in another order; single pixels
    on a contour may differ by it. The service cuts boxes off at the image's edge, the baseline does not.
    """
    return len(ones) == len(others) and all(_same_result(a, b) for a, b in zip(ones, others, strict=True))


def _same_result(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if one["label"] != other["label"] or len(one["scores"]) != len(other["scores"]):
        return False
    if not one["scores"]:
        return True
    masks, others = one["masks_rle"], other["masks_rle"]
    overlaps = np.diag(np.asarray(pycocotools.mask.iou(masks, others, [0] * len(others))))
    equal = [a["counts"] == b["counts"] for a, b in zip(masks, others, strict=True)]  # the IoU of two empty ones is 0
    return (
        np.allclose(one["scores"], other["scores"], atol=1e-3)
        and np.allclose(_on_the_image(one), _on_the_image(other), atol=0.5)
        and bool(np.all((overlaps > 0.999) | equal))
    )


def _on_the_image(result: dict[str, Any]) -> NDArray[np.float64]:
    height, width = result["masks_rle"][0]["size"]
    return np.clip(np.asarray(result["boxes"], np.float64), 0, (width, height, width, height))
