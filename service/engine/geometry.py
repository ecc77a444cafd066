"""The geometry encoder: the tokens that an image and its exemplar boxes add to those of a phrase.

Upstream appends its CLS token to every prompt, also to text alone; transformers computes it only beside boxes
(facebookresearch/sam3, model/geometry_encoders.py: SequenceGeometryEncoder.forward).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from service.engine.base import Exemplar
from service.engine.boxes import padded_boxes
from service.engine.fusion import flat

# Its roi_align is put there by install_roi_align, after this import.
modeling_sam3: Any = import_module("transformers.models.sam3.modeling_sam3")


def cls_tokens(encoder: Any, features: Tensor, positions: Tensor) -> Tensor:
    """(B, C, h, w) features and their position code → (B, 1, C), the CLS token of a prompt without exemplars.

    It depends on the image alone, so it is computed once with the image's features, by the encoder's own modules.
    """
    token = encoder.cls_embed.weight.view(1, 1, -1).expand(features.shape[0], -1, -1)
    return _attended(encoder, encoder.prompt_layer_norm(encoder.final_proj(token)), None, features, positions)


def exemplar_tokens(
    encoder: Any, features: Tensor, positions: Tensor, exemplars: Sequence[Sequence[Exemplar]]
) -> list[Tensor]:
    """Encode the exemplars of B prompts, each on its own image's features (B, C, h, w), in one forward.

    Returns for each prompt with its n exemplars (1, n + 1, C): one token a box, then the CLS token, which here has
    looked at the boxes. In float32 it equals transformers' Sam3GeometryEncoder.forward bit for bit; that one rounds
    the boxes themselves to the model's precision.
    """
    boxes, labels, mask = (torch.from_numpy(array).to(features.device) for array in padded_boxes(exemplars))
    # bfloat16 has steps of 16 pixels at the far side of a photo 4000 pixels wide.
    boxes = boxes.to(torch.promote_types(features.dtype, torch.float32))
    embedded = _embedded(encoder, features, boxes) + encoder.label_embed(labels)
    cls_token = encoder.cls_embed.weight.view(1, 1, -1).expand(len(boxes), -1, -1)
    # Moves the padding behind the CLS token.
    tokens, mask = modeling_sam3.concat_padded_sequences(embedded, mask, cls_token, torch.ones_like(mask[:, :1]))
    tokens = encoder.prompt_layer_norm(encoder.final_proj(tokens))
    seen = create_bidirectional_mask(config=encoder.config, inputs_embeds=tokens, attention_mask=mask)
    encoded = _attended(encoder, tokens, seen, features, positions)
    return [encoded[row : row + 1, : len(group) + 1] for row, group in enumerate(exemplars)]


def _embedded(encoder: Any, features: Tensor, boxes: Tensor) -> Tensor:
    """(B, n, 4) cxcywh in at least float32 → (B, n, C) in the features' dtype: where, how large, and what is there."""
    exact = encoder._encode_box_coordinates(*(each.flatten() for each in boxes.unbind(-1)))
    code = exact.view(*boxes.shape[:2], -1).to(features.dtype)
    direct = encoder.boxes_direct_project(boxes.to(features.dtype))
    return direct + _pooled(encoder, features, boxes) + encoder.boxes_pos_enc_project(code)  # type: ignore[no-any-return]


def _pooled(encoder: Any, features: Tensor, boxes: Tensor) -> Tensor:
    """(B, n, C): the features within each box."""
    height, width = features.shape[-2:]
    normalized = encoder.vision_layer_norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    cells = modeling_sam3.box_cxcywh_to_xyxy(boxes) * boxes.new_tensor([width, height, width, height])
    sampled = modeling_sam3.torchvision.ops.roi_align(normalized, cells.unbind(0), encoder.roi_size)
    return encoder.boxes_pool_project(sampled).view(*boxes.shape[:2], -1)  # type: ignore[no-any-return]


def _attended(encoder: Any, tokens: Tensor, mask: Tensor | None, features: Tensor, positions: Tensor) -> Tensor:
    """The encoder's layers: tokens (B, L, C) look at each other, where `mask` lets them, and at the image."""
    flat_features, flat_positions = flat(features), flat(positions.expand_as(features))
    for layer in encoder.layers:
        tokens = layer(
            prompt_feats=tokens,
            vision_feats=flat_features,
            vision_pos_encoding=flat_positions,
            prompt_mask=mask,
        )
    return encoder.output_layer_norm(tokens)  # type: ignore[no-any-return]
