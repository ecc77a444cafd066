from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.core.prompts import Prompt
from tools.train_tiny.evaluation import ALL, Masks, Plan, Segment, evaluate, markdown, score_pair
from tools.train_tiny.prompts import matching
from tools.train_tiny.scenes import Scene, SceneObject, draw_scene
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.vocabulary import plural


def block(x0: int, x1: int) -> NDArray[np.bool_]:
    mask = np.zeros((10, 40), np.bool_)
    mask[:, x0:x1] = True
    return mask


NOTHING: Masks = np.zeros((0, 10, 40), np.bool_)


def test_a_pair_is_matched_one_to_one() -> None:
    truth = np.stack([block(0, 10), block(20, 30)])
    found = np.stack([block(0, 8), block(0, 10), block(25, 35)])
    figures = score_pair(found, truth)
    assert (figures.found, figures.instances, figures.matched) == (3, 2, 1)
    assert (figures.precision, figures.recall, figures.mask_iou, figures.box_iou) == (1 / 3, 1 / 2, 1, 1)


def test_half_is_not_enough() -> None:
    assert score_pair(block(0, 5)[None], block(0, 10)[None]).matched == 0


def test_absent_prompts_count_what_was_found() -> None:
    assert score_pair(np.stack([block(0, 5), block(9, 12)]), NOTHING).false_finds == 2
    quiet = score_pair(NOTHING, NOTHING)
    assert (quiet.absent, quiet.false_finds, quiet.presence) == (1, 0, 1)


def plain(text: str, names: frozenset[str]) -> bool:
    words = text.split(" ", 1)
    rest = words[1] if words[0] in ("a", "an", "the") else text
    return any(rest in (name, plural(name)) for name in names)


def is_meant(prompt: Prompt, item: SceneObject, scene: Scene) -> bool:
    if not prompt.boxes:
        return plain(prompt.text, item.concept.names)
    shown = {each.concept for each in scene.objects if each.box_xyxy == prompt.boxes[0].box_xyxy}
    return item.concept in shown


def oracle(plan: Plan) -> Segment:
    """Answers from the truth of the scenes that the plan draws."""
    index = iter(range(plan.scenes))

    def segment(image: NDArray[np.uint8], prompts: Sequence[Prompt]) -> list[Masks]:
        scene = draw_scene(generator(Stream.HELD_OUT, plan.seed, next(index)), plan.size_hw)
        assert np.array_equal(scene.image, image)
        empty = np.zeros((0, *plan.size_hw), np.bool_)
        matches = [[item.mask for item in scene.objects if is_meant(prompt, item, scene)] for prompt in prompts]
        return [np.stack(masks) if masks else empty for masks in matches]

    return segment


def test_the_truth_scores_full_marks() -> None:
    plan = Plan(scenes=12)
    table = evaluate(oracle(plan), plan)
    whole = table[ALL]
    assert whole.pairs == 60 == sum(figures.pairs for kind, figures in table.items() if kind != ALL)
    assert (whole.precision, whole.recall, whole.mask_iou, whole.presence, whole.false_finds) == (1, 1, 1, 1, 0)
    assert whole.absent > 0
    assert "exemplar box" not in table
    assert len(markdown(table).splitlines()) == 2 + len(table)


def test_exemplars_instead_of_phrases() -> None:
    plan = Plan(scenes=12, by_example=True)
    table = evaluate(oracle(plan), plan)
    assert table[ALL] == table["exemplar box"]
    assert (table[ALL].precision, table[ALL].recall, table[ALL].mask_iou) == (1, 1, 1)


def test_finding_nothing_scores_no_recall_and_no_false_finds() -> None:
    plan = Plan(scenes=4)
    nothing = np.zeros((0, *plan.size_hw), np.bool_)
    whole = evaluate(lambda image, prompts: [nothing for _ in prompts], plan)[ALL]
    assert (whole.recall, whole.false_finds, whole.found) == (0, 0, 0)
    assert whole.instances > 0


def test_matching_reads_whole_phrases() -> None:
    objects = draw_scene(generator(Stream.HELD_OUT, 0, 0)).objects
    assert matching("", objects) == ()
