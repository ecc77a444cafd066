"""A checkpoint folder → transformers' Sam3Model and tokenizer, complete or refused."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CLIPTokenizer, logging

# Imported from its module: the top-level names are placeholders where torchvision is absent.
from transformers.models.sam3.modeling_sam3 import Sam3Model

from service.core.results import ModelInfo
from service.engine.roi import install_roi_align
from service.engine.sam3 import Sam3Engine
from service.engine.warming import is_quick
from service.engine.weights import Checkpoint, refuse_wrong_keys
from service.errors import ModelUnavailable


def load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Sam3Engine:
    """Load a checkpoint folder as an engine; ModelUnavailable as in `read`."""
    model, tokenizer = read(checkpoint, dtype)
    info = ModelInfo(checkpoint.id, checkpoint.revision, device.type, str(dtype).removeprefix("torch."))
    return Sam3Engine(model.to(device).eval(), tokenizer, info, quick=is_quick(checkpoint, device.type))


def read(checkpoint: Checkpoint, dtype: torch.dtype) -> tuple[Any, Any]:
    """Sam3Model on the host and its tokenizer; ModelUnavailable when a weight is missing, left over or misshapen.

    transformers would fill a missing weight with random numbers and only log it. Weights that are in `dtype` on disk
    stay mapped files: they cost no memory that the system could not take back.
    """
    install_roi_align()
    logging.disable_progress_bar()
    try:
        model, report = Sam3Model.from_pretrained(
            checkpoint.folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below by name
        )
        tokenizer = CLIPTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailable(f"SAM3_MODEL: {checkpoint.id}: {first_line}") from error
    kinds = ("missing", "unexpected", "mismatched")
    refuse_wrong_keys(checkpoint, {kind: report.get(f"{kind}_keys") or () for kind in kinds})
    _restore_positions(model)
    return model, tokenizer


def _restore_positions(model: Any) -> None:
    """Give the vision encoder the places of its patches, for its rotary embedding, in float32 again.

    transformers makes them in the precision of the weights. In the full model they are thirds, up to 24, and bfloat16
    has steps of an eighth there: neighbours would be 0.25 or 0.375 apart.
    """
    for layer in model.vision_encoder.backbone.layers:
        layer.position_ids = layer.precompute_positions(layer.config, layer.window_size)
