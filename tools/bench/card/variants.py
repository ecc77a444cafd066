"""The precisions and compilations that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer, logging
from transformers.models.sam3.modeling_sam3 import Sam3Model

from service.core.results import ModelInfo
from service.engine.sam3 import Sam3Engine


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
VARIANTS = (BF16, FP32, TF32, BF16_COMPILED)


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
    logging.disable_progress_bar()
    model = Sam3Model.from_pretrained(folder, dtype=variant.dtype, local_files_only=True).to(device).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    if variant.compiled:
        model.vision_encoder = torch.compile(model.vision_encoder, dynamic=False)
    info = ModelInfo(folder.name, "0", device.type, str(variant.dtype).removeprefix("torch."))
    return Loaded(variant, model, tokenizer, Sam3Engine(model, tokenizer, info))
