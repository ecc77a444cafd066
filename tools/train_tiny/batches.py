"""Scenes and prompts → tensors: what one training step sees and what it is held to.

Boxes are xyxy in [0, 1] of the image unless a name says otherwise; masks are coverages in [0, 1] at the model's mask
resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tools.train_tiny.architecture import MASK_CELLS_PER_TOKEN, Size
from tools.train_tiny.backgrounds import NATIVE_PX
from tools.train_tiny.prompts import Prompt, PromptMix, sample_prompts
from tools.train_tiny.scenes import MAX_OBJECTS, Scene, SceneObject, draw_scene
from tools.train_tiny.tokenizer import MAX_TOKENS
from tools.train_tiny.vocabulary import TOKEN_CLASSES, token_classes

MAX_EXEMPLARS = 3
PADDING_LABEL = -10
"""The label of a padded exemplar box (transformers, Sam3Model.forward)."""
_OTHER_SIZES = 0.45
_LONGEST_SHAPE = 3
"""Sides of up to 3 : 1."""
_BOX_UNIT = 4
"""Token box offsets are in quarters of the image, so that they are of order 1."""

Moved = TypeVar("Moved", bound="OnDevice")


class OnDevice:
    """A dataclass of tensors that moves as one."""

    def to(self: Moved, device: torch.device) -> Moved:
        """The same on `device`."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class TokenTargets(OnDevice):
    """What each token shows: class coverage (B, g, g, C), box corners from the token's centre, and their weight."""

    classes: Tensor
    boxes: Tensor
    weight: Tensor


@dataclass(frozen=True)
class VisionBatch(OnDevice):
    """Pixels (B, 3, S, S) in [-1, 1] and their token targets."""

    pixel_values: Tensor
    tokens: TokenTargets


@dataclass(frozen=True)
class Batch(OnDevice):
    """B images with P prompts each; N = B x P rows, prompt p of image b in row b x P + p.

    exemplar_boxes: (N, 3, 4) cxcywh, exemplar_labels: (N, 3), 1, 0 (negative) or padding. target_boxes: (N, T, 4), of
    which the first target_count (N,) count; target_objects: (N, T) says which of object_masks (B, T, m, m) each is.
    relevance: (N, m, m), where any target is. mask_rows: the rows whose masks are trained.
    """

    pixel_values: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    exemplar_boxes: Tensor
    exemplar_labels: Tensor
    target_boxes: Tensor
    target_count: Tensor
    target_objects: Tensor
    object_masks: Tensor
    relevance: Tensor
    mask_rows: Tensor
    tokens: TokenTargets


@dataclass(frozen=True)
class BatchPlan:
    """How much goes into a step: `mask_rows` prompts of the first `mask_images` images get mask losses."""

    images: int = 8
    prompts: int = 4
    mask_images: int = 4
    mask_rows: int = 8


def to_pixels(image: NDArray[np.uint8], side: int) -> Tensor:
    """(H, W, 3) uint8 → (3, S, S) in [-1, 1] by the very resize that the service's engine does."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    if pixels.shape[-2:] != (side, side):
        pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return pixels[0].float() / 127.5 - 1


def draw_training_scene(rng: np.random.Generator) -> Scene:
    """A scene at the model's own size, or, for nearly half of them, another size and longer sides."""
    if rng.random() >= _OTHER_SIZES:
        return draw_scene(rng)
    side = rng.uniform(0.9 * NATIVE_PX, 1.5 * NATIVE_PX)
    stretch = math.exp(rng.uniform(-0.5, 0.5) * math.log(_LONGEST_SHAPE))
    return draw_scene(rng, (round(side / stretch), round(side * stretch)))


def unit_box(item: SceneObject) -> NDArray[np.float32]:
    """The object's box in [0, 1] of its image."""
    height, width = item.mask.shape
    box = np.array(item.box_xyxy, np.float32) / np.array((width, height, width, height), np.float32)
    return np.asarray(box, np.float32)


def coverage(objects: Sequence[SceneObject], side: int) -> NDArray[np.float32]:
    """(objects, side, side): which share of each cell each object covers."""
    masks = [cv2.resize(item.mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) for item in objects]
    return np.stack(masks).astype(np.float32) if masks else np.zeros((0, side, side), np.float32)


def _token_targets(objects: Sequence[SceneObject], covered: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    side = covered.shape[-1]
    classes = np.zeros((side, side, len(TOKEN_CLASSES)), np.float32)
    if not len(objects):
        return classes, np.zeros((side, side, 4), np.float32), np.zeros((side, side), np.float32)
    for item, share in zip(objects, covered, strict=True):
        classes[..., list(token_classes(item.concept))] += share[..., None]
    boxes = np.stack([unit_box(item) for item in objects])[covered.argmax(0)]
    centre = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, y = np.meshgrid(centre, centre)
    weight = (covered.max(0) > 0.3).astype(np.float32)
    return np.clip(classes, 0, 1), _BOX_UNIT * (boxes - np.stack([x, y, x, y], -1)), weight


def _stack(rows: Sequence[tuple[NDArray[np.float32], ...]]) -> TokenTargets:
    classes, boxes, weight = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
    return TokenTargets(classes, boxes, weight)


def vision_batch(rng: np.random.Generator, images: int, size: Size) -> VisionBatch:
    """Images and token targets for the pre-training of the vision tower."""
    scenes = [draw_training_scene(rng) for _ in range(images)]
    pixels = torch.stack([to_pixels(scene.image, size.image_px) for scene in scenes])
    rows = [_token_targets(scene.objects, coverage(scene.objects, size.tokens_per_side)) for scene in scenes]
    return VisionBatch(pixels, _stack(rows))


def training_batch(rng: np.random.Generator, tokenizer: Any, plan: BatchPlan, size: Size, mix: PromptMix) -> Batch:
    """Images, prompts and their targets for one step."""
    scenes = [draw_training_scene(rng) for _ in range(plan.images)]
    prompts = [prompt for scene in scenes for prompt in sample_prompts(rng, scene.objects, plan.prompts, mix)]
    owners = [scene for scene in scenes for _ in range(plan.prompts)]
    masks = [coverage(scene.objects, size.mask_px) for scene in scenes]
    text = tokenizer(
        [prompt.text for prompt in prompts], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    exemplars = [_exemplars(rng, prompt, scene) for prompt, scene in zip(prompts, owners, strict=True)]
    targets = [_targets(prompt, scene) for prompt, scene in zip(prompts, owners, strict=True)]
    counts = np.array([len(prompt.matches) for prompt in prompts])
    relevance = [masks[row // plan.prompts][list(prompt.matches)].sum(0) for row, prompt in enumerate(prompts)]
    return Batch(
        pixel_values=torch.stack([to_pixels(scene.image, size.image_px) for scene in scenes]),
        input_ids=text["input_ids"],
        attention_mask=text["attention_mask"],
        exemplar_boxes=torch.from_numpy(np.stack([boxes for boxes, _ in exemplars])),
        exemplar_labels=torch.from_numpy(np.stack([labels for _, labels in exemplars])),
        target_boxes=torch.from_numpy(np.stack([boxes for boxes, _ in targets])),
        target_count=torch.from_numpy(counts),
        target_objects=torch.from_numpy(np.stack([objects for _, objects in targets])),
        object_masks=torch.from_numpy(np.stack([_padded(mask) for mask in masks])),
        relevance=torch.from_numpy(np.clip(np.stack(relevance), 0, 1)),
        mask_rows=torch.from_numpy(_mask_rows(rng, counts, plan)),
        tokens=_stack([_token_targets(s.objects, _pooled(m)) for s, m in zip(scenes, masks, strict=True)]),
    )


def _exemplars(rng: np.random.Generator, prompt: Prompt, scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A prompt's exemplar boxes as a person would draw them: nearly right."""
    boxes = np.zeros((MAX_EXEMPLARS, 4), np.float32)
    labels = np.full(MAX_EXEMPLARS, PADDING_LABEL, np.int64)
    marked = [*((index, 1) for index in prompt.exemplars), *((index, 0) for index in prompt.excluded)]
    for slot, (index, label) in enumerate(marked):
        x0, y0, x1, y1 = unit_box(scene.objects[index]) + rng.normal(0, 0.008, 4)
        boxes[slot] = ((x0 + x1) / 2, (y0 + y1) / 2, max(0.02, x1 - x0), max(0.02, y1 - y0))
        labels[slot] = label
    return boxes, labels


def _targets(prompt: Prompt, scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (MAX_OBJECTS, 1))
    objects = np.zeros(MAX_OBJECTS, np.int64)
    for slot, index in enumerate(prompt.matches):
        boxes[slot], objects[slot] = unit_box(scene.objects[index]), index
    return boxes, objects


def _padded(masks: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(masks, ((0, MAX_OBJECTS - len(masks)), (0, 0), (0, 0)))


def _pooled(masks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mask cells → vision tokens."""
    cells, side = MASK_CELLS_PER_TOKEN, masks.shape[-1] // MASK_CELLS_PER_TOKEN
    return np.asarray(masks.reshape(len(masks), side, cells, side, cells).mean((2, 4)), np.float32)


def _mask_rows(rng: np.random.Generator, counts: NDArray[np.int64], plan: BatchPlan) -> NDArray[np.int64]:
    """Prompts of the first images: those with targets, and if there is room those without, whose maps stay empty."""
    within = np.arange(len(counts)) < plan.mask_images * plan.prompts
    present = np.flatnonzero((counts > 0) & within)
    rng.shuffle(present)
    rows = np.concatenate([present[: plan.mask_rows], np.flatnonzero((counts == 0) & within)])
    return rows[: plan.mask_rows]
