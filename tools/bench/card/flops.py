"""How much there is to compute, and how fast the card computes at best."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Sam3Config
from transformers.models.sam3.modeling_sam3 import Sam3Model

from tools.bench.card.stopwatch import Stopwatch
from tools.bench.card.variants import Variant, apply


def of_vision(folder: Path) -> int:
    """Floating point operations of the vision encoder for one image (a multiply-add is two), counted without data."""
    config = Sam3Config.from_pretrained(folder)
    side = config.vision_config.backbone_config.image_size
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.inference_mode(), counter:
        Sam3Model(config).eval().get_vision_features(torch.zeros(1, 3, side, side))
    return int(counter.get_total_flops())


def ceiling(device: torch.device, variant: Variant, stopwatch: Stopwatch) -> float | None:
    """Operations a second of one large matrix product: what this card reaches in this precision; None on error."""
    apply(variant)
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=variant.dtype) for _ in range(2))
    ms = stopwatch.measure(lambda: left @ right).best_ms
    return None if ms is None else 2 * side**3 / (ms / 1000)
