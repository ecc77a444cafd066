"""The precisions and compilations that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from service.core.results import ModelInfo
from service.engine import pretrained
from service.engine.sam3 import Sam3Engine
from service.engine.weights import Checkpoint


@dataclass(frozen=True)
class Variant:
    """How the model computes. `tf32`: float32 products on tensor cores. `compiled`: torch.compile, vision encoder."""

    name: str
    dtype: torch.dtype
    tf32: bool = False
    compiled: bool = False


FP32 = Variant("fp32", torch.float32)
TF32 = Variant("tf32", torch.float32, tf32=True)
BF16 = Variant("bf16", torch.bfloat16)
BF16_COMPILED = Variant("bf16 + compile", torch.bfloat16, compiled=True)
VARIANTS = (BF16, BF16_COMPILED, TF32, FP32)
"""What the service does on a GPU comes first, should the time not be enough for all."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint on the device: transformers' model, its tokenizer, and the service's engine around both."""

    variant: Variant
    model: Any
    tokenizer: Any
    engine: Sam3Engine


def apply(variant: Variant) -> None:
    """Set what is set for the whole process."""
    torch.set_float32_matmul_precision("high" if variant.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = variant.tf32


def load(folder: Path, device: torch.device, variant: Variant) -> Loaded:
    """Load a checkpoint folder and set the process up for the variant."""
    apply(variant)
    model, tokenizer = pretrained.read(Checkpoint(folder, folder.name, "0"), variant.dtype)
    model = model.to(device).eval()
    info = ModelInfo(folder.name, "0", device.type, str(variant.dtype).removeprefix("torch."))
    engine = Sam3Engine(model, tokenizer, info)
    if variant.compiled:
        engine.compile_vision()
    return Loaded(variant, model, tokenizer, engine)
