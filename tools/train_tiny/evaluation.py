"""Held-out scenes, and what something that segments answers about them.

Scenes come from a stream of their own and unknown words from a list of their own. Which drawings are shared with
training depends on the plan's world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.core.exemplars import ExemplarBox
from service.core.prompts import Prompt
from tools.train_tiny import prompts as samples
from tools.train_tiny.backgrounds import NATIVE_PX
from tools.train_tiny.figures import MATCH_IOU, Figures, Masks, mask_iou, matches, score_pair
from tools.train_tiny.prompts import PromptMix, excluding_prompts, sample_prompts
from tools.train_tiny.scenes import Scene, SceneObject, draw_scene
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.vocabulary import UNKNOWN_HELD_OUT, Concept
from tools.train_tiny.worlds import TRAINED, World, pick

THRESHOLD = 0.5
"""The service's default: the score from which on a find counts."""
AGAIN = "an object that was found already"
NO_OBJECT = "no object, or half of one or less"
BY_TEXT = PromptMix(visual=0, excluding=0, pointed=0, letters=0, unknown_words=UNKNOWN_HELD_OUT)
"""Phrases alone, and no unknown word that training asks for."""
BY_EXAMPLE = PromptMix(visual=1, negatives=0)
"""Positive exemplar boxes instead of phrases."""
_TRIES = 40


@dataclass(frozen=True, eq=False)
class Found:
    """What was found for one prompt: masks (N, H, W) and their scores (N,), best first."""

    masks: Masks
    scores: NDArray[np.float32]

    def above(self, threshold: float) -> Masks:
        """The masks of the finds that score higher."""
        return self.masks[self.scores > threshold]


Segment = Callable[[NDArray[np.uint8], Sequence[Prompt]], list[Found]]
"""RGB (H, W, 3) uint8 and prompts → for each prompt what was found."""


@dataclass(frozen=True)
class Plan:
    """What is drawn, and what is asked: `scenes` of `size_hw` pixels, with up to `prompts` of the mix for each.

    `asked` narrows the prompts down to these concepts, in whatever the world draws beside them.
    """

    scenes: int = 200
    prompts: int = 5
    size_hw: tuple[int, int] = (NATIVE_PX, NATIVE_PX)
    seed: int = 0
    mix: PromptMix = BY_TEXT
    min_objects: int = 1
    world: World = TRAINED
    asked: tuple[Concept, ...] = ()


@dataclass(frozen=True, eq=False)
class Pair:
    """One image × prompt pair: the prompt, the scene it is about, and what was found."""

    prompt: samples.Prompt
    scene: Scene
    found: Found

    @property
    def truth(self) -> Masks:
        """The masks (T, H, W) of the objects that are meant."""
        return _masks(self.scene, [self.scene.objects[index] for index in self.prompt.matches])

    @property
    def figures(self) -> Figures:
        """Its counts at the default threshold."""
        return score_pair(self.found.above(THRESHOLD), self.truth)

    def mistaken(self) -> list[str]:
        """What each wrong find shows: the name of another object, `AGAIN` or `NO_OBJECT`."""
        found = self.found.above(THRESHOLD)
        right = {row for row, _, _ in matches(found, self.truth)}
        wrong = found[[row for row in range(len(found)) if row not in right]]
        drawn = _masks(self.scene, self.scene.objects)
        if not len(wrong) or not len(drawn):
            return [NO_OBJECT] * len(wrong)
        table = mask_iou(wrong, drawn)
        return [self._shown(best, row[best]) for row, best in zip(table, table.argmax(1).tolist(), strict=True)]

    def _shown(self, index: int, iou: float) -> str:
        if iou <= MATCH_IOU:
            return NO_OBJECT
        return AGAIN if index in self.prompt.matches else self.scene.objects[index].concept.name


def answered(segment: Segment, plan: Plan) -> Iterator[Pair]:
    """Draw the plan's scenes, ask about each, and give the pairs back one by one."""
    for index in range(plan.scenes):
        rng, scene = _drawn(plan, index)
        prompts = _prompts(rng, scene, plan)
        answers = segment(scene.image, [asked(prompt, scene.objects) for prompt in prompts]) if prompts else []
        for prompt, found in zip(prompts, answers, strict=True):
            yield Pair(prompt, scene, found)


def _drawn(plan: Plan, index: int) -> tuple[np.random.Generator, Scene]:
    """One of the plan's scenes, and the generator that what is asked about it comes from."""
    rng = generator(Stream.HELD_OUT, plan.seed, index)
    return rng, draw_scene(rng, plan.size_hw, plan.min_objects, plan.world)


def _prompts(rng: np.random.Generator, scene: Scene, plan: Plan) -> list[samples.Prompt]:
    if not plan.asked:
        return list(dict.fromkeys(sample_prompts(rng, scene.objects, plan.prompts, plan.mix, plan.world)))
    names = {concept.name for concept in plan.asked}
    drawn = sample_prompts(rng, scene.objects, _TRIES, plan.mix, plan.world)
    chosen = {(prompt.phrase, prompt.exemplars): prompt for prompt in drawn if _named(prompt, scene) in names}
    return list(chosen.values())[: plan.prompts]


def _named(prompt: samples.Prompt, scene: Scene) -> str:
    return scene.objects[prompt.exemplars[0]].concept.name if prompt.exemplars else prompt.phrase


def asked(sample: samples.Prompt, objects: Sequence[SceneObject]) -> Prompt:
    """The sample as a caller of the service would put it."""
    marked = [(index, 1) for index in sample.exemplars] + [(index, 0) for index in sample.excluded]
    return Prompt(sample.text, tuple(ExemplarBox(objects[index].box_xyxy, label) for index, label in marked))


def _masks(scene: Scene, objects: Sequence[SceneObject]) -> Masks:
    height, width = scene.image.shape[:2]
    return stacked([item.mask for item in objects], (height, width))


def stacked(masks: Sequence[NDArray[np.bool_]], size_hw: tuple[int, int]) -> Masks:
    """(N, H, W), also for no mask at all."""
    return np.stack(masks) if masks else np.zeros((0, *size_hw), np.bool_)


@dataclass
class Exclusions:
    """Staged cases: a phrase that names several looks, asked without and with a negative box on one of them."""

    cases: int = 0
    removed: int = 0
    kept_before: int = 0
    kept_after: int = 0

    @property
    def removed_share(self) -> float:
        """Of the cases in which the look was found without the box, those in which nothing of it is found with it."""
        return self.removed / max(1, self.cases)

    @property
    def kept_share(self) -> float:
        """Of the other objects that were found without the box, those that are still found with it."""
        return self.kept_after / max(1, self.kept_before)


def exclusions(segment: Segment, plan: Plan) -> Exclusions:
    """Stage one case in every scene of the plan that allows for one."""
    total = Exclusions()
    for index in range(plan.scenes):
        rng, scene = _drawn(plan, index)
        staged = excluding_prompts(scene.objects)
        if staged:
            _stage(segment, scene, pick(rng, staged), total)
    return total


def _stage(segment: Segment, scene: Scene, prompt: samples.Prompt, total: Exclusions) -> None:
    with_box = asked(prompt, scene.objects)
    before, after = segment(scene.image, [Prompt(with_box.text), with_box])
    unwanted = scene.objects[prompt.excluded[0]].concept
    gone = [item for item in scene.objects if item.concept == unwanted]
    drawn = _masks(scene, [*gone, *(scene.objects[index] for index in prompt.matches)])
    found_before, found_after = (
        {column for _, column, _ in matches(each.above(THRESHOLD), drawn)} for each in (before, after)
    )
    kept = {column for column in found_before if column >= len(gone)}
    total.kept_before += len(kept)
    total.kept_after += len(kept & found_after)
    if found_before - kept:
        total.cases += 1
        total.removed += int(all(column >= len(gone) for column in found_after))
