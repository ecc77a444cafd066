from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.core.prompts import Prompt
from tools.train_tiny.evaluation import Found, Pair, Plan, Segment, answered, exclusions, stacked
from tools.train_tiny.examples import example_tiles
from tools.train_tiny.figures import Figures, Masks, score_pair
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
    tally,
)
from tools.train_tiny.scenes import Scene, SceneObject, draw_scene
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.vocabulary import EMOJI_CONCEPTS, HELD_OUT_COMBINATIONS, PromptKind, plural
from tools.train_tiny.worlds import UNSEEN_COMBINATIONS


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
    assert whole.pairs == 60 == sum(figures.pairs for kind, figures in total.kinds.items() if kind != ALL)
    assert (whole.precision, whole.recall, whole.mask_iou, whole.presence, whole.false_answers) == (1, 1, 1, 1, 0)
    assert whole.absent > total.absent_known.absent > 0
    assert PromptKind.VISUAL.value not in total.kinds
    assert not total.confusions
    assert total.calibration[-1] == [whole.matched, whole.matched]


def test_exemplars_instead_of_phrases() -> None:
    plan = Plan(scenes=12, by_example=True)
    total = tally(answered(oracle(plan), plan))
    assert total.whole == total.kinds["exemplar box"]
    assert (total.whole.precision, total.whole.recall, total.whole.mask_iou) == (1, 1, 1)


def test_only_the_concepts_of_the_plan_are_asked_for() -> None:
    plan = Plan(scenes=8, world=UNSEEN_COMBINATIONS, asked=HELD_OUT_COMBINATIONS)
    phrases = {pair.prompt.phrase for pair in answered(oracle(plan), plan)}
    assert phrases
    assert phrases <= {concept.name for concept in HELD_OUT_COMBINATIONS}


def test_finding_nothing_scores_no_recall_and_no_false_answer() -> None:
    whole = tally(answered(silent, Plan(scenes=4))).whole
    assert (whole.recall, whole.false_answers, whole.found) == (0, 0, 0)
    assert whole.instances > 0


def test_low_scores_count_for_the_calibration_only() -> None:
    cat = SceneObject(EMOJI_CONCEPTS[0], block(0, 10), (0, 0, 10, 10))
    found = Found(np.stack([block(0, 10), block(20, 30)]), np.array([0.45, 0.15], np.float32))
    total = Tally()
    total.add(Pair(Sample("cat", PromptKind.EMOJI, (0,), phrase="cat"), [cat], found, (10, 40)))
    assert (total.whole.found, total.whole.instances) == (0, 1)
    assert (total.calibration[0], total.calibration[3]) == ([1, 0], [1, 1])


def test_a_wrong_find_is_named_by_what_it_shows() -> None:
    cat = SceneObject(EMOJI_CONCEPTS[0], block(0, 10), (0, 0, 10, 10))
    dog = SceneObject(EMOJI_CONCEPTS[1], block(20, 30), (20, 0, 30, 10))
    found = certain(np.stack([block(0, 10), block(20, 30), block(34, 38)]))
    pair = Pair(Sample("cat", PromptKind.EMOJI, (0,), phrase="cat"), [cat, dog], found, (10, 40))
    assert pair.mistaken() == ["dog", "nothing"]


def test_who_heeds_negative_boxes_scores_full_marks_and_who_does_not_scores_none() -> None:
    plan = Plan(scenes=10)
    heeding, blind = exclusions(oracle(plan), plan), exclusions(oracle(plan, blind_to_boxes=True), plan)
    assert heeding.cases == blind.cases > 2
    assert (heeding.removed_share, heeding.kept_share) == (1, 1)
    assert (blind.removed_share, blind.kept_share) == (0, 1)


def test_tables_have_a_row_for_each_and_as_many_cells_as_their_head() -> None:
    plan = Plan(scenes=6)
    total = tally(answered(oracle(plan), plan))
    total.confusions[("cat", "fox")] = 3
    tables = {
        figures_table("prompts", total.kinds): len(total.kinds),
        concept_table(total.concepts): -(-len(total.concepts) // 3),
        confusion_table(total.confusions): 1,
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
    tiles = example_tiles(silent)
    assert len(tiles) % 6 == 0
    assert {tile.pair.prompt.kind for tile in tiles} >= {PromptKind.VISUAL, PromptKind.EXCLUDING, PromptKind.EMOJI}


def test_matching_reads_whole_phrases() -> None:
    objects = draw_scene(generator(Stream.HELD_OUT, 0, 0)).objects
    assert matching("", objects) == ()
