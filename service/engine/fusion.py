"""The DETR encoder, which mixes an image's features with the tokens of a prompt, without repeating itself.

Its first layer begins with self-attention on the image alone, before it looks at the prompt: that part is the same for
every prompt and is computed once an image (transformers' Sam3DetrEncoderLayer.forward repeats it for each).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask


@dataclass(frozen=True)
class Prompts:
    """B prompts as the model reads them: tokens (B, L, C), and mask (B, L), true where a token is no padding."""

    tokens: Tensor
    mask: Tensor

    def of(self, rows: list[int]) -> Prompts:
        """The prompts at `rows`."""
        return Prompts(self.tokens[rows], self.mask[rows])

    def attention_mask(self, config: Any, queries: Tensor) -> Tensor | None:
        """Where `queries` (B, N, C) may look, as the model's attention wants to be told; None for everywhere."""
        mask = create_bidirectional_mask(
            config=config, inputs_embeds=queries, attention_mask=self.mask, encoder_hidden_states=self.tokens
        )
        assert mask is None or isinstance(mask, Tensor)
        return mask


def flat(maps: Tensor) -> Tensor:
    """(B, C, h, w) → (B, h * w, C)."""
    return maps.flatten(2).transpose(1, 2)


def attended(encoder: Any, features: Tensor, positions: Tensor) -> Tensor:
    """(B, C, h, w) features and their position code → (B, h * w, C), after the first layer's self-attention."""
    layer, tokens = encoder.layers[0], flat(features)
    normed = layer.layer_norm1(tokens)
    placed = normed + flat(positions)
    return tokens + layer.self_attn(query=placed, key=placed, value=normed)[0]  # type: ignore[no-any-return]


def fuse(encoder: Any, image: Tensor, positions: Tensor, prompts: Prompts) -> Tensor:
    """Finish the encoder for B prompts on what `attended` made of their images, (B, N, C) → (B, N, C).

    `positions`: the position code (1, N, C).
    """
    first, *others = encoder.layers
    mask = prompts.attention_mask(encoder.config, image)
    normed = first.layer_norm2(image)
    hidden = image + first.cross_attn(query=normed, key=prompts.tokens, value=prompts.tokens, attention_mask=mask)[0]
    hidden = hidden + first.mlp(first.layer_norm3(hidden))
    for layer in others:
        hidden = layer(hidden, prompt_feats=prompts.tokens, vision_pos_encoding=positions, prompt_cross_attn_mask=mask)
    return hidden  # type: ignore[no-any-return]
