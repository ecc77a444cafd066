"""What the tiny model is held to: DETR's set loss on every decoder layer, masks, and dense losses on single tokens.

Set loss: Carion et al. 2020, https://arxiv.org/abs/2005.12872; focal and dice terms as in Mask2Former.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tools.train_tiny.architecture import AuxiliaryHeads
from tools.train_tiny.batches import Batch, TokenTargets
from tools.train_tiny.forward import Output

Losses = dict[str, Tensor]


class Matches(NamedTuple):
    """Matched pairs, as parallel index vectors: decoder layer, prompt, query, target slot."""

    layer: Tensor
    prompt: Tensor
    query: Tensor
    target: Tensor


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of broadcastable xyxy boxes (Rezatofighi et al. 2019)."""
    area_a = (a[..., 2:] - a[..., :2]).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).prod(-1)
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = area_a + area_b - shared
    return shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


@torch.no_grad()
def match(output: Output, batch: Batch) -> Matches:
    """The cheapest one-to-one assignment of queries to targets, for each layer and prompt."""
    predicted, wanted = output.boxes[:, :, :, None], batch.target_boxes[None, :, None]
    distance = (predicted - wanted).abs().sum(-1)
    cost = 5 * distance - 2 * giou(predicted, wanted) - 2 * output.logits.sigmoid()[..., None]
    table = cost.float().cpu().numpy()
    rows = [np.zeros((4, 0), np.int64)]
    for prompt, count in enumerate(batch.target_count.tolist()):
        for layer in range(len(table) if count else 0):
            query, target = linear_sum_assignment(table[layer, prompt, :, :count])
            rows.append(np.stack([np.full_like(query, layer), np.full_like(query, prompt), query, target]))
    return Matches(*torch.from_numpy(np.concatenate(rows, 1)).to(cost.device))


def dense_losses(features: Tensor, targets: TokenTargets, heads: AuxiliaryHeads) -> Losses:
    """Supervision of single vision tokens (B, C, g, g), without any text: what covers each, and where its box is."""
    tokens = features.permute(0, 2, 3, 1)
    classes = F.binary_cross_entropy_with_logits(heads.token_class(tokens), targets.classes, reduction="none")
    distance = (heads.token_box(tokens) - targets.boxes).abs().sum(-1) * targets.weight
    return {
        "token_class": 30 * (classes * (1 + 6 * targets.classes)).mean(),
        "token_box": 4 * distance.sum() / targets.weight.sum().clamp(min=1),
    }


def all_losses(output: Output, batch: Batch, heads: AuxiliaryHeads) -> Losses:
    """Every term of one step, already weighted."""
    pairs = match(output, batch)
    losses = _detection(output, batch, pairs) | _masks(output, batch, pairs)
    losses |= dense_losses(output.features, batch.tokens, heads)
    side = output.features.shape[-1]
    relevant = F.adaptive_avg_pool2d(batch.relevance[:, None], side).flatten(1)
    losses["fused"] = 4 * F.binary_cross_entropy_with_logits(heads.relevance(output.fused)[..., 0], relevant)
    return losses | _scale(output)


def _detection(output: Output, batch: Batch, pairs: Matches) -> Losses:
    layers, prompts, _ = output.logits.shape
    share = 2 / layers / max(1, int(batch.target_count.sum()))
    found = output.boxes[pairs.layer, pairs.prompt, pairs.query]
    wanted = batch.target_boxes[pairs.prompt, pairs.target]
    truth = torch.zeros_like(output.logits)
    truth[pairs.layer, pairs.prompt, pairs.query] = 1
    present = (batch.target_count > 0).float()
    return {
        "l1": 5 * share * (found - wanted).abs().sum(),
        "giou": 2 * share * (1 - giou(found, wanted)).sum(),
        # The presence token answers for absent concepts; queries are scored only where there is something to find.
        "class": 3 * share * (_focal(output.logits, truth) * present[None, :, None]).sum(),
        "presence": 2 * F.binary_cross_entropy_with_logits(output.presence, present.expand(layers, prompts)),
    }


def _focal(logits: Tensor, truth: Tensor) -> Tensor:
    probability = logits.sigmoid()
    missed = torch.where(truth > 0, 1 - probability, probability)
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * missed**2


def _masks(output: Output, batch: Batch, pairs: Matches) -> Losses:
    """Last layer only, and only the prompts whose masks were made."""
    rows = batch.mask_rows
    slot_of = torch.full((len(batch.input_ids),), -1, dtype=torch.long, device=rows.device)
    slot_of[rows] = torch.arange(len(rows), device=rows.device)
    chosen = (pairs.layer == len(output.boxes) - 1) & (slot_of[pairs.prompt] >= 0)
    losses = {"relevance": 2 * F.binary_cross_entropy_with_logits(output.relevance, batch.relevance[rows])}
    if not chosen.any():
        return losses
    prompt, query, target = pairs.prompt[chosen], pairs.query[chosen], pairs.target[chosen]
    prompts_per_image = len(batch.input_ids) // len(batch.pixel_values)
    predicted = output.masks[slot_of[prompt], query].flatten(1)
    truth = batch.object_masks[prompt // prompts_per_image, batch.target_objects[prompt, target]].flatten(1)
    inside = predicted.sigmoid()
    dice = 1 - (2 * (inside * truth).sum(1) + 1) / (inside.sum(1) + truth.sum(1) + 1)
    pixels = F.binary_cross_entropy_with_logits(predicted, truth)
    return losses | {"dice": 5 * dice.mean(), "mask": 20 * pixels}


def _scale(output: Output) -> Losses:
    """Keep the features near unit variance: the transformer adds position codes of order 1 to them."""
    return {"scale": 0.5 * (torch.log(output.features.std()) ** 2 + torch.log(output.fused.std()) ** 2)}
