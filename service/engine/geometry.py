"""The geometry encoder: the tokens that an image and its exemplar boxes add to those of a phrase.

Upstream appends its CLS token to every prompt, also to text alone; transformers computes it only beside boxes
(facebookresearch/sam3, model/geometry_encoders.py: SequenceGeometryEncoder.forward).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.engine.base import Exemplar


def cls_tokens(encoder: Any, features: Tensor, positions: Tensor) -> Tensor:
    """(B, C, h, w) features and their position code → (B, 1, C), the CLS token of a prompt without exemplars.

    It depends on the image alone, so it is computed once with the image's features, by the encoder's own modules.
    """
    token = encoder.cls_embed.weight.view(1, 1, -1).expand(features.shape[0], -1, -1)
    token = encoder.prompt_layer_norm(encoder.final_proj(token))
    flat_features = features.flatten(2).transpose(1, 2)
    flat_positions = positions.expand_as(features).flatten(2).transpose(1, 2)
    for layer in encoder.layers:
        token = layer(
            prompt_feats=token,
            vision_feats=flat_features,
            vision_pos_encoding=flat_positions,
            prompt_mask=None,
        )
    return encoder.output_layer_norm(token)  # type: ignore[no-any-return]


def exemplar_tokens(
    encoder: Any, features: Tensor, positions: Tensor, exemplars: Sequence[Sequence[Exemplar]]
) -> list[Tensor]:
    """Encode the exemplars of B prompts, each on its own image's features (B, C, h, w), in one forward.

    Returns for each prompt with its n exemplars (1, n + 1, C): one token a box, then the CLS token, which here has
    looked at the boxes.
    """
    boxes, labels, mask = (torch.from_numpy(array).to(features.device) for array in padded_boxes(exemplars))
    encoded = encoder(
        box_embeddings=boxes.to(features.dtype),
        box_mask=mask,
        box_labels=labels,
        img_feats=(features,),
        img_pos_embeds=(positions.expand_as(features),),
    ).last_hidden_state
    # The encoder moves its padding behind the CLS token.
    return [encoded[row : row + 1, : len(group) + 1] for row, group in enumerate(exemplars)]


def padded_boxes(
    exemplars: Sequence[Sequence[Exemplar]],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes (B, n, 4) cxcywh, labels (B, n), 1 or 0, and which of them are no padding (B, n)."""
    shape = len(exemplars), max(map(len, exemplars))
    boxes, labels, mask = np.zeros((*shape, 4)), np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for row, group in enumerate(exemplars):
        x0, y0, x1, y1 = np.array([exemplar.box_xyxy for exemplar in group]).reshape(-1, 4).T
        boxes[row, : len(group)] = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)
        labels[row, : len(group)] = [exemplar.positive for exemplar in group]
        mask[row, : len(group)] = True
    return boxes, labels, mask
