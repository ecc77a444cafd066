"""Held-out scenes, and how well something that segments does on them.

Scenes come from a stream of their own and unknown words from a list of their own, so nothing here was trained on; the
drawings (emoji, shapes) are those of training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from service.core.exemplars import ExemplarBox
from service.core.prompts import Prompt
from tools.train_tiny import prompts as samples
from tools.train_tiny.prompts import PromptMix, sample_prompts
from tools.train_tiny.scenes import SceneObject, draw_scene
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.vocabulary import UNKNOWN_HELD_OUT

Masks = NDArray[np.bool_]
Segment = Callable[[NDArray[np.uint8], Sequence[Prompt]], list[Masks]]
"""RGB (H, W, 3) uint8 and prompts → for each prompt the masks (N, H, W) of what was found."""

MATCH_IOU = 0.5
ALL = "all"
_BY_TEXT = PromptMix(visual=0, unknown_words=UNKNOWN_HELD_OUT)
_BY_EXAMPLE = PromptMix(visual=1, unknown_words=UNKNOWN_HELD_OUT)


@dataclass(frozen=True)
class Plan:
    """What is drawn: `scenes` of `size_hw` pixels with `prompts` phrases each, or exemplar boxes instead of phrases."""

    scenes: int = 200
    prompts: int = 5
    size_hw: tuple[int, int] = (168, 168)
    seed: int = 0
    by_example: bool = False


@dataclass
class Figures:
    """Counts and sums over image × prompt pairs; ratios are properties."""

    pairs: int = 0
    instances: int = 0
    found: int = 0
    matched: int = 0
    presence_right: int = 0
    absent: int = 0
    found_though_absent: int = 0
    mask_iou_sum: float = 0.0
    box_iou_sum: float = 0.0

    def add(self, other: Figures) -> None:
        """Count another pair, or other pairs."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def precision(self) -> float:
        """Share of what was found that matches a drawn object with IoU over 0.5."""
        return self.matched / max(1, self.found)

    @property
    def recall(self) -> float:
        """Share of the drawn objects that were found."""
        return self.matched / max(1, self.instances)

    @property
    def mask_iou(self) -> float:
        """Mean mask IoU of the matches."""
        return self.mask_iou_sum / max(1, self.matched)

    @property
    def box_iou(self) -> float:
        """Mean IoU of the matches' boxes, taken around the masks."""
        return self.box_iou_sum / max(1, self.matched)

    @property
    def presence(self) -> float:
        """Share of pairs where something was found exactly when something was there."""
        return self.presence_right / max(1, self.pairs)

    @property
    def false_finds(self) -> float:
        """Instances found per prompt whose concept is absent."""
        return self.found_though_absent / max(1, self.absent)


def evaluate(segment: Segment, plan: Plan) -> dict[str, Figures]:
    """Figures by kind of prompt, and over all."""
    table: dict[str, Figures] = {ALL: Figures()}
    for kind, figures in _pairs(segment, plan):
        table[ALL].add(figures)
        table.setdefault(kind, Figures()).add(figures)
    return table


def _pairs(segment: Segment, plan: Plan) -> Iterator[tuple[str, Figures]]:
    for index in range(plan.scenes):
        rng = generator(Stream.HELD_OUT, plan.seed, index)
        scene = draw_scene(rng, plan.size_hw)
        prompts = sample_prompts(rng, scene.objects, plan.prompts, _BY_EXAMPLE if plan.by_example else _BY_TEXT)
        answers = segment(scene.image, [_asked(prompt, scene.objects) for prompt in prompts])
        for prompt, found in zip(prompts, answers, strict=True):
            drawn = [scene.objects[match].mask for match in prompt.matches]
            truth = np.stack(drawn) if drawn else np.zeros((0, *plan.size_hw), np.bool_)
            yield prompt.kind.value, score_pair(found, truth)


def _asked(sample: samples.Prompt, objects: Sequence[SceneObject]) -> Prompt:
    """The sample as a caller of the service would put it."""
    return Prompt(sample.text, tuple(ExemplarBox(objects[index].box_xyxy) for index in sample.exemplars))


def score_pair(found: Masks, truth: Masks) -> Figures:
    """Match found masks (N, H, W) with drawn ones (T, H, W), best total IoU first; a match needs IoU over 0.5."""
    figures = Figures(pairs=1, instances=len(truth), found=len(found))
    figures.presence_right = int((len(found) > 0) == (len(truth) > 0))
    if not len(truth):
        figures.absent, figures.found_though_absent = 1, len(found)
    if len(found) and len(truth):
        table = mask_iou(found, truth)
        for row, column in zip(*linear_sum_assignment(-table), strict=True):
            if table[row, column] > MATCH_IOU:
                figures.matched += 1
                figures.mask_iou_sum += float(table[row, column])
                figures.box_iou_sum += _box_iou(_box(found[row]), _box(truth[column]))
    return figures


def mask_iou(a: Masks, b: Masks) -> NDArray[np.float32]:
    """IoU of every pair: (N, H, W) and (T, H, W) → (N, T)."""
    flat_a, flat_b = a.reshape(len(a), -1).astype(np.float32), b.reshape(len(b), -1).astype(np.float32)
    shared = flat_a @ flat_b.T
    union = flat_a.sum(1)[:, None] + flat_b.sum(1)[None] - shared
    return np.asarray(shared / np.maximum(union, 1), np.float32)


def _box(mask: Masks) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _box_iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a + area_b - width * height)


def markdown(table: dict[str, Figures]) -> str:
    """The table of the model card."""
    head = (
        "| prompts | pairs | instances | precision | recall | mask IoU | box IoU | presence right "
        "| finds per absent prompt |\n|---|---|---|---|---|---|---|---|---|"
    )
    rows = [
        f"| {kind} | {f.pairs} | {f.instances} | {_share(f.precision, f.found)} | {_share(f.recall, f.instances)} "
        f"| {_share(f.mask_iou, f.matched)} | {_share(f.box_iou, f.matched)} | {f.presence:.3f} "
        f"| {_share(f.false_finds, f.absent)} |"
        for kind, f in table.items()
    ]
    return "\n".join([head, *rows])


def _share(value: float, count: int) -> str:
    return f"{value:.3f}" if count else "–"
