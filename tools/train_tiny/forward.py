"""The training forward: `Sam3Model.forward` step by step, with the work that the losses need and no other.

The prompts of an image share its vision features, every decoder layer's answer comes out, and masks are made for some
of the prompts only: the fine pyramid levels and the pixel decoder are half of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.sam3.modeling_sam3 import box_cxcywh_to_xyxy, inverse_sigmoid

from tools.train_tiny.batches import PADDING_LABEL, Batch


@dataclass(frozen=True)
class Output:
    """L decoder layers, N prompts, Q queries, K = len(mask_rows) prompts with masks.

    boxes: (L, N, Q, 4) xyxy in [0, 1]. logits: (L, N, Q). presence: (L, N). features: (B, C, g, g) of the vision tower.
    fused: (N, g x g, C) after fusion with the prompt. masks: (K, Q, m, m) logits. relevance: (K, m, m) logits.
    """

    boxes: Tensor
    logits: Tensor
    presence: Tensor
    features: Tensor
    fused: Tensor
    masks: Tensor
    relevance: Tensor


def vision_features(model: Any, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """The backbone's tokens as a map (B, V, g, g), and the coarsest level that the detector reads (B, C, g, g)."""
    tokens = model.vision_encoder.backbone(pixel_values).last_hidden_state
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
    return grid, model.vision_encoder.neck.fpn_layers[2](grid)


def forward(model: Any, batch: Batch, mask_images: int) -> Output:
    """Run the batch, with masks for the prompts of its first `mask_images` images."""
    count = len(batch.pixel_values)
    prompts = len(batch.input_ids) // count
    grid, features = vision_features(model, batch.pixel_values)
    neck = model.vision_encoder.neck
    pyramid = [layer(grid[:mask_images]) for layer in neck.fpn_layers[:2]]
    positions = neck.position_encoding(features.shape, features.device, features.dtype)
    per_prompt = features.repeat_interleave(prompts, 0)
    positions = positions[:1].expand(len(per_prompt), -1, -1, -1)
    text, text_mask = _prompt_tokens(model, batch, per_prompt, positions)
    encoded = model.detr_encoder(
        vision_features=[per_prompt], text_features=text, vision_pos_embeds=[positions], text_mask=text_mask
    )
    boxes, logits, decoded = _decode(model, encoded, text, text_mask)
    rows = batch.mask_rows
    masks = model.mask_decoder(
        decoder_queries=decoded.intermediate_hidden_states[-1][rows],
        backbone_features=[*(level[rows // prompts] for level in pyramid), features[rows // prompts]],
        encoder_hidden_states=encoded.last_hidden_state[rows],
        prompt_features=text[rows],
        prompt_mask=text_mask[rows],
    )
    return Output(
        boxes=boxes.float(),
        logits=logits.float(),
        presence=decoded.presence_logits.squeeze(-1).float(),
        features=features.float(),
        fused=encoded.last_hidden_state.float(),
        masks=masks.pred_masks.float(),
        relevance=masks.semantic_seg[:, 0].float(),
    )


def _prompt_tokens(model: Any, batch: Batch, features: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Text tokens with the geometry encoder's tokens appended, its CLS token always among them, and their mask."""
    text = model.get_text_features(input_ids=batch.input_ids, attention_mask=batch.attention_mask).pooler_output
    geometry = model.geometry_encoder(
        box_embeddings=batch.exemplar_boxes,
        box_mask=batch.exemplar_labels != PADDING_LABEL,
        box_labels=batch.exemplar_labels.clamp(min=0),
        img_feats=[features],
        img_pos_embeds=[positions],
    )
    tokens = torch.cat([text, geometry.last_hidden_state], 1)
    return tokens, torch.cat([batch.attention_mask.bool(), geometry.attention_mask], 1)


def _decode(model: Any, encoded: Any, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Boxes (L, N, Q, 4) and logits (L, N, Q) of every decoder layer, and the decoder's own output."""
    decoder = model.detr_decoder
    decoded = decoder(
        vision_features=encoded.last_hidden_state,
        text_features=text,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=text_mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    offsets = decoder.box_head(decoded.intermediate_hidden_states)
    boxes = box_cxcywh_to_xyxy((inverse_sigmoid(decoded.reference_boxes) + offsets).sigmoid())
    logits = model.dot_product_scoring(
        decoder_hidden_states=decoded.intermediate_hidden_states, text_features=text, text_mask=text_mask
    )
    return boxes, logits.squeeze(-1), decoded
