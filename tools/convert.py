"""`sam3 convert`: an official `.pt`, also a fine-tuned one, into the folder that the default engine loads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import logging
from transformers.models.sam3.modeling_sam3 import Sam3Model

from service.engine import pretrained
from service.engine.official_weights import BadCheckpoint, read_detector
from service.engine.vocabulary import find_merges
from service.engine.weights import Checkpoint
from service.errors import ModelUnavailable
from tools.folders import whole_folder
from tools.official_config import config_of
from tools.official_names import renamed
from tools.train_tiny.tokenizer import tokenizer_of


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 convert`."""
    parser = subparsers.add_parser("convert", help=purpose, description=purpose)
    parser.add_argument("checkpoint", type=Path, metavar="IN.pt", help="official or fine-tuned checkpoint")
    parser.add_argument("folder", type=Path, metavar="OUT_FOLDER", help="a new folder")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="precision of the stored weights (as they are)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert, check and put in place; one line on standard error and status 1 when that cannot be done."""
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    try:
        config = convert(arguments.checkpoint, arguments.folder, dtype)
    except (BadCheckpoint, ModelUnavailable, OSError) as error:
        print(f"{arguments.checkpoint}: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.folder}: {_depths(config)}; load it with SAM3_MODEL={arguments.folder}")
    return 0


def convert(source: Path, target: Path, dtype: torch.dtype | None = None) -> Any:
    """Write the checkpoint `source` as the new folder `target` and return its Sam3Config.

    The folder is written beside its place, loaded once by the service's own code, and then renamed: it is whole or not
    there. Raises BadCheckpoint or ModelUnavailable.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadCheckpoint(f"{target} is there already; name a new folder")
    logging.disable_progress_bar()
    weights = read_detector(source)
    merges = find_merges(source.parent)
    config = config_of(weights)
    with whole_folder(target) as folder:
        model = _model(config, weights)
        (model.to(dtype) if dtype else model).save_pretrained(folder)
        pairs = [(left, right) for left, right in (merge.split() for merge in merges)]
        tokenizer_of(pairs, folder.parent).save_pretrained(folder)
        pretrained.load(Checkpoint(folder, str(target), ""), torch.device("cpu"), dtype or torch.float32)
    return config


def _model(config: Any, weights: Mapping[str, Tensor]) -> Any:
    """A Sam3Model that uses the weights where they are, on the host."""
    made, unknown = renamed(weights)
    if unknown:
        raise BadCheckpoint(f"holds {len(unknown)} weights that are not SAM 3's: {', '.join(sorted(unknown)[:3])}")
    with torch.device("meta"):
        model = Sam3Model(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    wrong = sorted(name for name in shapes.keys() | made.keys() if shapes.get(name) != _shape(made.get(name)))
    if wrong:
        raise BadCheckpoint(f"is no complete SAM 3: {len(wrong)} weights missing or misshapen: {', '.join(wrong[:3])}")
    model.load_state_dict({name: weight.contiguous() for name, weight in made.items()}, assign=True)
    return model


def _shape(weight: Tensor | None) -> tuple[int, ...] | None:
    return None if weight is None else tuple(weight.shape)


def _depths(config: Any) -> str:
    parts = {
        "vision": config.vision_config.backbone_config.num_hidden_layers,
        "text": config.text_config.num_hidden_layers,
        "geometry": config.geometry_encoder_config.num_layers,
        "encoder": config.detr_encoder_config.num_layers,
        "decoder": config.detr_decoder_config.num_layers,
    }
    return "layers: " + ", ".join(f"{name} {count}" for name, count in parts.items())
