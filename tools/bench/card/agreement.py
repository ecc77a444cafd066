"""Does the device find what the CPU finds: the trained embedded model on its demo scene, in each variant."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask
import torch
from numpy.typing import NDArray

from service.core.masks import crop_masks, rle
from service.engine.base import Grounding, Query
from service.engine.sam3 import Sam3Engine
from service.engine.weights import EMBEDDED
from tools.bench.card import variants
from tools.bench.card.variants import Variant

_DEMO = EMBEDDED.parent / "demo"


@dataclass(frozen=True)
class Agreement:
    """How far a variant on the device is from float32 on the CPU, over the instances of all prompts.

    instances: found by the CPU and by the device. The rest is the worst of the matched ones: difference of scores,
    of box edges in pixels, and mask IoU.
    """

    variant: str
    instances: tuple[int, int]
    score: float
    box_px: float
    iou: float
    good: bool

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def compare(device: torch.device, asked: Sequence[Variant]) -> list[Agreement]:
    """One row a variant; in half precision the tiny model's scores move by up to 0.15."""
    picture, prompts = _scene()
    reference = _find(variants.load(EMBEDDED, torch.device("cpu"), variants.FP32).engine, picture, prompts)
    found = [(each, _find(variants.load(EMBEDDED, device, each).engine, picture, prompts)) for each in asked]
    return [agreement(variant, reference, answers, picture.shape[:2]) for variant, answers in found]


def _scene() -> tuple[NDArray[np.uint8], list[str]]:
    """The demo scene as RGB, and its prompts."""
    picture = cv2.imread(str(_DEMO / "scene.png"), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8), _texts(_DEMO / "scene.prompts.json")


def _texts(sidecar: Path) -> list[str]:
    document = json.loads(sidecar.read_text())
    return list(document["prompts"] if isinstance(document, dict) else document)


def _find(engine: Sam3Engine, picture: NDArray[np.uint8], prompts: Sequence[str]) -> list[Grounding]:
    [image] = engine.encode_image([engine.prepare(picture)])
    return engine.ground([Query(image, text, 0.5, 200) for text in engine.encode_text(prompts)])


def agreement(
    variant: Variant, reference: Sequence[Grounding], found: Sequence[Grounding], size_hw: Sequence[int]
) -> Agreement:
    """Compare prompt by prompt; not good where anything is NaN, or where there is nothing to compare with."""
    height, width = size_hw
    pairs = [_worst(a, b, (height, width)) for a, b in zip(reference, found, strict=True) if len(a.scores)]
    scores, boxes_px, ious = zip(*(pairs or [_nothing((height, width))]), strict=True)
    score, box_px, iou = float(np.max(scores)), float(np.max(boxes_px)), float(np.min(ious))
    counts = sum(len(a.scores) for a in reference), sum(len(b.scores) for b in found)
    allowed_score, least_iou = (0.01, 0.98) if variant.dtype == torch.float32 and not variant.tf32 else (0.15, 0.8)
    good = counts[0] == counts[1] and score <= allowed_score and iou >= least_iou and math.isfinite(box_px)
    return Agreement(variant.name, counts, score, box_px, iou, good)


def _nothing(size_hw: tuple[int, int]) -> tuple[float, float, float]:
    """What is as far from an instance as can be."""
    return 1.0, float(max(size_hw)), 0.0


def _worst(a: Grounding, b: Grounding, size_hw: tuple[int, int]) -> tuple[float, float, float]:
    """Of one prompt: each instance of `a` beside the one of `b` that overlaps it most."""
    if not len(b.scores):
        return _nothing(size_hw)
    masks, others = ([rle(mask) for mask in crop_masks(each.mask_logits, size_hw)] for each in (a, b))
    overlaps = np.asarray(pycocotools.mask.iou(masks, others, [0] * len(others)))
    partner = overlaps.argmax(axis=1)
    edges = (a.boxes - b.boxes[partner]) * (size_hw[1], size_hw[0], size_hw[1], size_hw[0])
    return (
        float(np.abs(a.scores - b.scores[partner]).max()),
        float(np.abs(edges).max()),
        float(overlaps.max(axis=1).min()),
    )
