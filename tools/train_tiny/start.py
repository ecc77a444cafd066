"""A run that goes on from the weights of an earlier one, whose vocabulary was smaller."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_TOKENS = "text_encoder.text_model.embeddings.token_embedding.weight"


@torch.no_grad()
def start_from(model: Any, tokenizer: Any, folder: Path, sha256: str) -> None:
    """Give `model` the weights of the checkpoint in `folder`, the embedding of each token by the token's text.

    Tokens that are new keep what they have. ValueError for a weights file with another hash: another start is another
    recipe.
    """
    file = folder / "model.safetensors"
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{file} has sha256 {found}, and the recipe starts from {sha256}")
    weights = {name: tensor.float() for name, tensor in load_file(file).items()}
    earlier = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    embedding = model.state_dict()[_TOKENS].clone()
    for token, index in tokenizer.get_vocab().items():
        if token in earlier:
            embedding[index] = weights[_TOKENS][earlier[token]]
    model.load_state_dict(weights | {_TOKENS: embedding})
