"""Checkpoints to measure with: the embedded one, and random weights in a medium and in the full size."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Sam3Config
from transformers.models.sam3.modeling_sam3 import Sam3Model

from service.engine.weights import EMBEDDED

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_WEIGHTS, _PICKLED, _COMPLETE = "model.safetensors", "model.pt", "complete"
_SEED = 3
_LOOKED_UP = ("_embed.weight", "embedding.weight", "position_embeddings")
_SMALL_KERNELS = ((2, 2), (3, 3))
# With plain random weights every query ends up as the mean of all, and every phrase is as present as any other.
_GAINS = {r"(o_proj|out_proj|fc2)\.weight": 0.25, r"presence_head\.layer3\.weight": 6.0}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint `folder` in transformers' layout; `weight_bytes` is the size of its weights as stored."""

    folder: Path

    @property
    def weight_bytes(self) -> int:
        """Bytes of the safetensors file."""
        return (self.folder / _WEIGHTS).stat().st_size


def embedded() -> Checkpoint:
    """The tiny trained model that ships with the package."""
    return Checkpoint(EMBEDDED)


def medium(cache: Path) -> Checkpoint:
    """The whole architecture at 504 pixels and 384 wide: large enough to keep two cores busy. Made once."""
    return _made(cache / "medium", medium_config)


def full(cache: Path) -> Checkpoint:
    """The shape of facebook/sam3: 840 million float32 weights, 3.4 GB. Made once."""
    return _made(cache / "full", full_config)


def pickled(checkpoint: Checkpoint, cache: Path) -> Path:
    """The same weights as `torch.save` writes them, which is how the one-file service got its own. Made once."""
    path = cache / f"{checkpoint.folder.name}-{_PICKLED}"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        torch.save(load_file(checkpoint.folder / _WEIGHTS), unfinished)
        unfinished.rename(path)
    return path


def remove(cache: Path) -> None:
    """Delete the full-size checkpoint in both its forms."""
    shutil.rmtree(cache / "full", ignore_errors=True)
    (cache / f"full-{_PICKLED}").unlink(missing_ok=True)


def full_config() -> Sam3Config:
    """transformers' defaults are the shape of facebook/sam3; special tokens are those of the embedded tokenizer."""
    config = Sam3Config()
    _speak_embedded(config.text_config)
    return config


def medium_config() -> Sam3Config:
    """Every part of the full model, narrower and shorter; the detection transformer keeps its width and queries."""
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "image_size": 504,
        "pretrain_image_size": 504,
        "window_size": 12,
        "global_attn_indexes": [1, 3, 5, 7],
    }
    vision = {"backbone_config": backbone, "backbone_feature_sizes": [[144, 144], [72, 72], [36, 36]]}
    text = {
        "model_type": "clip_text_model",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "projection_dim": 384,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "max_position_embeddings": 32,
    }
    config = Sam3Config(vision_config=vision, text_config=text)
    _speak_embedded(config.text_config)
    return config


def _speak_embedded(text_config: Any) -> None:
    """The vocabulary may be larger than the tokenizer's, but the end of a text must be where the model looks for it."""
    shipped = json.loads((EMBEDDED / "config.json").read_text())["text_config"]
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(text_config, name, shipped[name])
    text_config.vocab_size = max(text_config.vocab_size, shipped["vocab_size"])


def _made(folder: Path, config: Callable[[], Sam3Config]) -> Checkpoint:
    if not (folder / _COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        save_random(config(), folder)
        (folder / _COMPLETE).touch()
    return Checkpoint(folder)


def save_random(config: Sam3Config, folder: Path) -> None:
    """Save a checkpoint of random float32 weights that are the same on every run; reads and needs no network."""
    folder.mkdir(parents=True)
    config.dtype = "float32"
    with torch.device("meta"):  # only names and shapes: transformers' own initialisation takes minutes at full size
        shapes = Sam3Model(config).state_dict()
    save_file(dict(_random(shapes)), folder / _WEIGHTS, metadata={"format": "pt"})
    config.architectures = ["Sam3Model"]
    config.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(EMBEDDED / name, folder / name)


def _random(shapes: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Weights that keep the scale of their input, so that 32 layers neither vanish nor overflow, also in bfloat16."""
    generator = torch.Generator().manual_seed(_SEED)
    for name, like in shapes.items():
        if like.ndim < 2:
            yield name, torch.full(like.shape, 0.0 if name.endswith("bias") else 1.0)
            continue
        tensor = torch.empty(like.shape).normal_(0, _deviation(name, like.shape), generator=generator)
        yield name, _even(tensor) if like.shape[2:] in _SMALL_KERNELS else tensor


def _even(kernels: Tensor) -> Tensor:
    """The same weight at every tap: features stay smooth, and masks are areas as a trained head's, not speckle."""
    first: Tensor = kernels[..., :1, :1] / math.sqrt(math.prod(kernels.shape[2:]))
    return first.expand_as(kernels).contiguous()


def _deviation(name: str, shape: torch.Size) -> float:
    if name.endswith(_LOOKED_UP):
        return 1.0
    inputs = shape[0] if "scale_layers" in name else shape[1:].numel()  # ConvTranspose2d is (in, out, k, k)
    return next((gain for part, gain in _GAINS.items() if re.search(part, name)), 1.0) * float(inputs**-0.5)
