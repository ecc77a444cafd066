"""A trained model → the checkpoint folder that transformers and the service load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.models.sam3.modeling_sam3 import Sam3Model

from tools.train_tiny.architecture import Size


def export(config: Any, weights: Mapping[str, Tensor], tokenizer: Any, size: Size, folder: Path) -> None:
    """Write config, fp16 weights, tokenizer and processor settings into `folder`."""
    model = Sam3Model(config)
    model.load_state_dict({name: tensor.cpu() for name, tensor in weights.items()})
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor = _image_processor(size)
    processor = {
        "image_processor": image_processor,
        "processor_class": "Sam3Processor",
        "target_size": size.image_px,
        "point_pad_value": -10,
    }
    for name, document in (("preprocessor_config.json", image_processor), ("processor_config.json", processor)):
        (folder / name).write_text(json.dumps(document, indent=1) + "\n")


def _image_processor(size: Size) -> dict[str, Any]:
    """The settings of Sam3ImageProcessor, at the tiny model's size."""
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "rescale_factor": 1 / 255,
        "resample": 2,
        "size": {"height": size.image_px, "width": size.image_px},
        "mask_size": {"height": size.mask_px, "width": size.mask_px},
        "image_processor_type": "Sam3ImageProcessor",
        "processor_class": "Sam3Processor",
    }
