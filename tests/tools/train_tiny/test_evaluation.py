from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.core.prompts import Prompt
from tools.train_tiny.evaluation import (
    AGAIN,
    BY_EXAMPLE,
    NO_OBJECT,
    Found,
    Pair,
    Plan,
    Segment,
    answered,
    exclusions,
    stacked,
)
from tools.train_tiny.examples import ROW, example_pairs
from tools.train_tiny.figures import Figures, Masks, mask_iou, score_pair
from tools.train_tiny.prompts import Prompt as Sample
from tools.train_tiny.prompts import matching
from tools.train_tiny.report import (
    ALL,
    Tally,
    calibration_table,
    concept_table,
    confusion_table,
    exclusion_table,
    figures_table,
    mistake_table,
    tally,
)
from tools.train_tiny.scenes import Scene, SceneObject, draw_scene
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.vocabulary import (
    EMOJI_CONCEPTS,
    HELD_OUT_COMBINATIONS,
    UNKNOWN_HELD_OUT,
    UNKNOWN_TRAINING,
    PromptKind,
    plural,
)
from tools.train_tiny.worlds import UNSEEN_COMBINATIONS


def block(x0: int, x1: int) -> NDArray[np.bool_]:
    mask = np.zeros((10, 40), np.bool_)
    mask[:, x0:x1] = True
    return mask


NOTHING: Masks = np.zeros((0, 10, 40), np.bool_)


def test_the_best_scored_find_claims_its_object() -> None:
    truth = np.stack([block(0, 10), block(20, 30)])
    found = np.stack([block(0, 8), block(0, 10), block(25, 35)])
    figures = score_pair(found, truth)
    assert (figures.found, figures.instances, figures.matched) == (3, 2, 1)
    assert (figures.precision, figures.recall) == (1 / 3, 1 / 2)
    np.testing.assert_allclose((figures.mask_iou, figures.box_iou), 0.8)


def test_a_match_is_not_given_up_for_a_larger_total() -> None:
    """The second find overlaps the first object a little, and the first find the second: together more than 0.55."""
    truth = np.stack([block(0, 20), block(20, 36)])
    found = np.stack([block(6, 26), block(0, 7)])
    assert mask_iou(found, truth)[0, 0] > 0.5
    assert mask_iou(found, truth)[[0, 1], [1, 0]].sum() > mask_iou(found, truth)[0, 0]
    assert score_pair(found, truth).matched == 1


def test_half_is_not_enough() -> None:
    assert score_pair(block(0, 5)[None], block(0, 10)[None]).matched == 0


def test_absent_prompts_count_once_however_much_is_found() -> None:
    assert score_pair(np.stack([block(0, 5), block(9, 12)]), NOTHING).false_answers == 1
    quiet = score_pair(NOTHING, NOTHING)
    assert (quiet.absent, quiet.false_answers, quiet.presence) == (1, 0, 1)


def test_an_empty_mask_matches_nothing() -> None:
    assert score_pair(block(0, 0)[None], block(0, 10)[None]).matched == 0


def plain(text: str, names: frozenset[str]) -> bool:
    words = text.split(" ", 1)
    rest = words[1] if words[0] in ("a", "an", "the") else text
    return any(rest in (name, plural(name)) for name in names)


def shown_by(box_label: int, prompt: Prompt, scene: Scene) -> set[object]:
    boxes = [box.box_xyxy for box in prompt.boxes if box.label == box_label]
    return {each.concept for each in scene.objects if each.box_xyxy in boxes}


def is_meant(prompt: Prompt, item: SceneObject, scene: Scene) -> bool:
    if item.concept in shown_by(0, prompt, scene):
        return False
    examples = shown_by(1, prompt, scene)
    return item.concept in examples if examples else plain(prompt.text, item.concept.names)


def drawn(*objects: SceneObject) -> Scene:
    return Scene(np.zeros((10, 40, 3), np.uint8), list(objects))


def certain(masks: Masks) -> Found:
    return Found(masks, np.full(len(masks), 0.95, np.float32))


def oracle(plan: Plan, *, blind_to_boxes: bool = False) -> Segment:
    """Answers from the truth of the scenes that the plan draws."""
    scenes = {
        scene.image.tobytes(): scene
        for index in range(plan.scenes)
        for scene in [draw_scene(generator(Stream.HELD_OUT, plan.seed, index), plan.size_hw, world=plan.world)]
    }

    def segment(image: NDArray[np.uint8], prompts: Sequence[Prompt]) -> list[Found]:
        scene = scenes[image.tobytes()]
        asked = [Prompt(prompt.text) for prompt in prompts] if blind_to_boxes else prompts
        meant = [[item.mask for item in scene.objects if is_meant(prompt, item, scene)] for prompt in asked]
        return [certain(stacked(masks, plan.size_hw)) for masks in meant]

    return segment


def silent(image: NDArray[np.uint8], prompts: Sequence[Prompt]) -> list[Found]:
    return [certain(np.zeros((0, *image.shape[:2]), np.bool_)) for _ in prompts]


def test_the_truth_scores_full_marks() -> None:
    plan = Plan(scenes=12)
    total = tally(answered(oracle(plan), plan))
    whole = total.whole
    assert 55 < whole.pairs <= 60
    assert whole.pairs == sum(figures.pairs for kind, figures in total.kinds.items() if kind != ALL)
    assert (whole.precision, whole.recall, whole.mask_iou, whole.presence, whole.false_answers) == (1, 1, 1, 1, 0)
    assert whole.absent > total.known.absent > 0
    assert PromptKind.VISUAL.value not in total.kinds
    assert not total.mistakes
    assert total.calibration[-1] == [whole.matched, whole.matched]


def test_exemplars_instead_of_phrases() -> None:
    plan = Plan(scenes=12, mix=BY_EXAMPLE)
    total = tally(answered(oracle(plan), plan))
    assert total.whole == total.kinds["exemplar box"]
    assert (total.whole.precision, total.whole.recall, total.whole.mask_iou) == (1, 1, 1)


def test_only_the_concepts_of_the_plan_are_asked_for() -> None:
    plan = Plan(scenes=8, world=UNSEEN_COMBINATIONS, asked=HELD_OUT_COMBINATIONS)
    phrases = {pair.prompt.phrase for pair in answered(oracle(plan), plan)}
    assert phrases
    assert phrases <= {concept.name for concept in HELD_OUT_COMBINATIONS}


def test_a_scene_is_asked_about_several_of_the_plans_concepts_by_example_too() -> None:
    plan = Plan(scenes=30, world=UNSEEN_COMBINATIONS, asked=HELD_OUT_COMBINATIONS, mix=BY_EXAMPLE)
    pairs = list(answered(oracle(plan), plan))
    shown = {(id(pair.scene), pair.scene.objects[pair.prompt.exemplars[0]].concept.name) for pair in pairs}
    assert {name for _, name in shown} <= {concept.name for concept in HELD_OUT_COMBINATIONS}
    assert len(shown) > len({scene for scene, _ in shown})


def test_no_pair_is_counted_twice() -> None:
    plan = Plan(scenes=30, mix=BY_EXAMPLE)
    pairs = list(answered(oracle(plan), plan))
    assert len({(id(pair.scene), pair.prompt) for pair in pairs}) == len(pairs) > 100


def test_no_unknown_word_is_one_that_training_asks_for() -> None:
    plan = Plan(scenes=60)
    words = {
        pair.prompt.phrase.split()[-1] for pair in answered(silent, plan) if pair.prompt.kind == PromptKind.UNKNOWN
    }
    assert words
    assert words <= set(UNKNOWN_HELD_OUT)
    assert not set(UNKNOWN_HELD_OUT) & set(UNKNOWN_TRAINING)


def test_finding_nothing_scores_no_recall_and_no_false_answer() -> None:
    whole = tally(answered(silent, Plan(scenes=4))).whole
    assert (whole.recall, whole.false_answers, whole.found) == (0, 0, 0)
    assert whole.instances > 0


def test_low_scores_count_for_the_calibration_only() -> None:
    cat = SceneObject(EMOJI_CONCEPTS[0], block(0, 10), (0, 0, 10, 10))
    found = Found(np.stack([block(0, 10), block(20, 30)]), np.array([0.45, 0.15], np.float32))
    total = Tally()
    total.add(Pair(Sample("cat", PromptKind.EMOJI, (0,), phrase="cat"), drawn(cat), found))
    assert (total.whole.found, total.whole.instances) == (0, 1)
    assert (total.calibration[0], total.calibration[3]) == ([1, 0], [1, 1])


def test_a_low_scored_duplicate_takes_no_match_from_a_find() -> None:
    """Else the calibration would contradict the precision."""
    cat = SceneObject(EMOJI_CONCEPTS[0], block(0, 10), (0, 0, 10, 10))
    found = Found(np.stack([block(0, 8), block(0, 10)]), np.array([0.85, 0.15], np.float32))
    total = Tally()
    total.add(Pair(Sample("cat", PromptKind.EMOJI, (0,), phrase="cat"), drawn(cat), found))
    assert (total.calibration[0], total.calibration[7]) == ([1, 0], [1, 1])
    assert sum(right for _, right in total.calibration[4:]) == total.whole.matched == 1


def test_a_wrong_find_is_named_by_what_it_shows() -> None:
    cat = SceneObject(EMOJI_CONCEPTS[0], block(0, 10), (0, 0, 10, 10))
    dog = SceneObject(EMOJI_CONCEPTS[1], block(20, 30), (20, 0, 30, 10))
    found = certain(np.stack([block(0, 10), block(20, 30), block(1, 10), block(34, 38)]))
    pair = Pair(Sample("cat", PromptKind.EMOJI, (0,), phrase="cat"), drawn(cat, dog), found)
    assert pair.mistaken() == ["dog", AGAIN, NO_OBJECT]


def test_who_heeds_negative_boxes_scores_full_marks_and_who_does_not_scores_none() -> None:
    plan = Plan(scenes=10)
    heeding, blind = exclusions(oracle(plan), plan), exclusions(oracle(plan, blind_to_boxes=True), plan)
    assert heeding.cases == blind.cases > 2
    assert (heeding.removed_share, heeding.kept_share) == (1, 1)
    assert (blind.removed_share, blind.kept_share) == (0, 1)


def test_tables_have_a_row_for_each_and_as_many_cells_as_their_head() -> None:
    plan = Plan(scenes=6)
    total = tally(answered(oracle(plan), plan))
    total.mistakes |= {("cat", "fox"): 3, ("cat", AGAIN): 2}
    tables = {
        figures_table("prompts", total.kinds): len(total.kinds),
        concept_table(total.concepts): -(-len(total.concepts) // 3),
        confusion_table(total.mistakes): 1,
        mistake_table(total.mistakes): 3,
        calibration_table(total.calibration): 9,
        exclusion_table({"one": exclusions(oracle(plan), plan)}): 1,
    }
    for table, rows in tables.items():
        lines = table.splitlines()
        assert len(lines) == rows + 2
        assert len({line.count("|") for line in lines}) == 1, table


def test_figures_add_up() -> None:
    total = Figures()
    total.add(score_pair(block(0, 10)[None], block(0, 10)[None]))
    total.add(score_pair(NOTHING, block(0, 10)[None]))
    assert (total.pairs, total.precision, total.recall) == (2, 1, 0.5)


def test_the_contact_sheet_shows_every_sort_of_prompt() -> None:
    pairs = example_pairs(silent)
    assert len(pairs) == 7 * ROW
    kinds = {pair.prompt.kind for pair in pairs}
    assert kinds >= {PromptKind.VISUAL, PromptKind.EXCLUDING, PromptKind.EMOJI, PromptKind.SHAPE}
    assert {pair.scene.image.shape[:2] for pair in pairs} > {(224, 224), (900, 300), (300, 900), (200, 200)}
    assert {concept.name for concept in HELD_OUT_COMBINATIONS} & {pair.prompt.phrase for pair in pairs}


def test_matching_reads_whole_phrases() -> None:
    objects = draw_scene(generator(Stream.HELD_OUT, 0, 0)).objects
    assert matching("", objects) == ()
