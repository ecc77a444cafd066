"""The scenes of the contact sheet: the first of each sort, chosen by nobody."""

from __future__ import annotations

from dataclasses import replace

from tools.train_tiny.contact import Shown
from tools.train_tiny.evaluation import BY_TEXT, Pair, Plan, Segment, asked
from tools.train_tiny.prompts import PromptMix, sample_prompts
from tools.train_tiny.scenes import draw_scene
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.vocabulary import HELD_OUT_COMBINATIONS
from tools.train_tiny.worlds import UNSEEN_COMBINATIONS, UNSEEN_DRAWINGS

_SEED = 90
_ROW = 6
_SIZES = ((480, 640), (900, 300), (300, 900), (200, 200), (1200, 1600), (200, 560))
_BOXES = PromptMix(visual=1)
_NEGATIVE = PromptMix(visual=0, excluding=1)


def example_tiles(segment: Segment) -> list[Shown]:
    """Phrases on native scenes (two rows), other sizes, unseen combinations, unseen drawings, boxes, negative boxes."""
    native = Plan(seed=_SEED)
    rows = [
        *((replace(native, seed=_SEED + row), BY_TEXT) for row in range(2)),
        (replace(native, seed=_SEED + 3, world=UNSEEN_COMBINATIONS, asked=HELD_OUT_COMBINATIONS), BY_TEXT),
        (replace(native, seed=_SEED + 4, world=UNSEEN_DRAWINGS), BY_TEXT),
        (replace(native, seed=_SEED + 5), _BOXES),
        (replace(native, seed=_SEED + 6), _NEGATIVE),
    ]
    shown = [_shown(segment, plan, mix, index) for plan, mix in rows for index in range(_ROW)]
    sized = [_shown(segment, Plan(seed=_SEED + 2, size_hw=size), BY_TEXT, at) for at, size in enumerate(_SIZES)]
    return shown[: 2 * _ROW] + sized + shown[2 * _ROW :]


def _shown(segment: Segment, plan: Plan, mix: PromptMix, index: int) -> Shown:
    rng = generator(Stream.HELD_OUT, plan.seed, index)
    scene = draw_scene(rng, plan.size_hw, 3, plan.world)
    names = {concept.name for concept in plan.asked}
    prompts = sample_prompts(rng, scene.objects, 40, mix, plan.world)
    prompt = next((each for each in prompts if not names or each.phrase in names), prompts[0])
    (found,) = segment(scene.image, [asked(prompt, scene.objects)])
    return Shown(scene.image, Pair(prompt, scene.objects, found, plan.size_hw))
