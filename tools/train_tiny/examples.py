"""The scenes of the contact sheet: the first of each sort, chosen by nobody."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from tools.train_tiny.evaluation import Pair, Plan, Segment, answered
from tools.train_tiny.prompts import PromptMix
from tools.train_tiny.vocabulary import HELD_OUT_COMBINATIONS
from tools.train_tiny.worlds import UNSEEN_COMBINATIONS, UNSEEN_DRAWINGS

ROW = 6
_SIZES = ((480, 640), (900, 300), (300, 900), (200, 200), (1200, 1600), (200, 560))
_NATIVE = Plan(prompts=1, min_objects=3)
_ROWS = (
    [_NATIVE],
    [_NATIVE],
    [replace(_NATIVE, size_hw=size_hw) for size_hw in _SIZES],
    [replace(_NATIVE, world=UNSEEN_COMBINATIONS, asked=HELD_OUT_COMBINATIONS)],
    [replace(_NATIVE, world=UNSEEN_DRAWINGS)],
    [replace(_NATIVE, mix=PromptMix(visual=1))],
    [replace(_NATIVE, mix=PromptMix(visual=0, excluding=1))],
)
_FIRST_SEED = 90


def example_pairs(segment: Segment) -> list[Pair]:
    """Phrases on native scenes (two rows), other sizes, unseen combinations, unseen drawings, boxes, negative boxes."""
    plans = [(plan, ROW // len(row)) for row in _ROWS for plan in row]
    return [
        pair
        for seed, (plan, count) in enumerate(plans, _FIRST_SEED)
        for pair in islice(answered(segment, replace(plan, seed=seed)), count)
    ]
