from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.exemplars import VISUAL_TEXT
from tools.train_tiny.prompts import Prompt, PromptMix, excluding_prompts, matching, sample_prompts
from tools.train_tiny.scenes import MAX_OBJECTS, Scene, _Ledger, draw_scene
from tools.train_tiny.sprites import Sheet, sprite_of
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.vocabulary import (
    COLOUR_NAMES,
    EMOJI_CONCEPTS,
    HELD_OUT_COMBINATIONS,
    SHAPE_CONCEPTS,
    SHAPES,
    TRAINED_COMBINATIONS,
    Concept,
    PromptKind,
    plural,
)
from tools.train_tiny.worlds import (
    SEEN_DRAWINGS,
    TRAINED,
    TRAINED_SHAPES,
    UNSEEN_COMBINATIONS,
    UNSEEN_DRAWINGS,
    World,
)

seeds = st.integers(0, 10**6)
sizes = st.sampled_from([(168, 168), (200, 600), (320, 240), (630, 210)])


def drawn(seed: int, size_hw: tuple[int, int] = (168, 168)) -> Scene:
    return draw_scene(generator(Stream.TRAINING, seed, 0), size_hw)


@pytest.mark.parametrize("sheet", Sheet)
@pytest.mark.parametrize("concept", [*EMOJI_CONCEPTS, *SHAPE_CONCEPTS[::8]], ids=lambda c: c.name)
def test_sprites_are_premultiplied_and_fill_their_square(concept: Concept, sheet: Sheet) -> None:
    for level in sprite_of(concept, sheet):
        assert level.dtype == np.float32
        assert level.min() >= 0
        assert (level[..., :3] <= level[..., 3:] + 1e-6).all()
        solid = level[..., 3] > 0.5
        assert max(np.ptp(np.flatnonzero(solid.any(axis))) for axis in (0, 1)) > 0.75 * len(level)


@given(seed=seeds, size_hw=sizes)
@settings(max_examples=20, deadline=None)
def test_truth_fits_the_image(seed: int, size_hw: tuple[int, int]) -> None:
    scene = drawn(seed, size_hw)
    assert scene.image.shape == (*size_hw, 3)
    assert scene.image.dtype == np.uint8
    assert len(scene.objects) <= MAX_OBJECTS
    covered = np.zeros(size_hw, np.int64)
    for item in scene.objects:
        covered += item.mask
        x0, y0, x1, y1 = item.box_xyxy
        inside = item.mask[y0:y1, x0:x1]
        assert inside.sum() == item.mask.sum() > 0
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
    assert covered.max(initial=0) <= 1


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_one_address_one_scene(seed: int) -> None:
    one, two = drawn(seed), drawn(seed)
    assert np.array_equal(one.image, two.image)
    assert [(a.concept, a.box_xyxy) for a in one.objects] == [(b.concept, b.box_xyxy) for b in two.objects]


def test_streams_do_not_share_scenes() -> None:
    images = [draw_scene(generator(stream, 0, 0)).image for stream in Stream]
    assert len({image.tobytes() for image in images}) == len(Stream)


def undecorated(text: str, phrases: set[str]) -> set[str]:
    """The phrases of which the text is the plain, plural or articled form."""
    forms = {form: phrase for phrase in phrases for form in (phrase, plural(phrase))}
    forms |= {f"{article} {phrase}": phrase for phrase in phrases for article in ("a", "an", "the")}
    return {forms[text]} if text in forms else set()


ALL_PHRASES = {name for concept in (*SHAPE_CONCEPTS, *EMOJI_CONCEPTS) for name in concept.names}


def check(prompt: Prompt, scene: Scene) -> None:
    match prompt.kind:
        case PromptKind.VISUAL:
            assert prompt.text == VISUAL_TEXT
            assert not set(prompt.excluded) & set(prompt.matches)
            concept = scene.objects[prompt.exemplars[0]].concept
            assert prompt.matches == tuple(i for i, o in enumerate(scene.objects) if o.concept == concept)
            assert set(prompt.exemplars) <= set(prompt.matches)
        case PromptKind.EXCLUDING:
            (phrase,) = undecorated(prompt.text, ALL_PHRASES)
            (index,) = prompt.excluded
            named = [i for i, o in enumerate(scene.objects) if phrase in o.concept.names]
            unwanted = scene.objects[index].concept
            assert index in named
            assert prompt.matches == tuple(i for i in named if scene.objects[i].concept != unwanted)
            assert prompt.matches, "a case that leaves nothing would teach to answer nothing"
        case PromptKind.UNKNOWN:
            assert prompt.matches == prompt.exemplars == prompt.excluded == ()
            assert prompt.text not in ALL_PHRASES
        case _:
            (phrase,) = undecorated(prompt.text, ALL_PHRASES)
            assert prompt.matches == tuple(i for i, o in enumerate(scene.objects) if phrase in o.concept.names)
            assert set(prompt.exemplars) <= set(prompt.matches)
            assert prompt.excluded == ()
            assert prompt.phrase == phrase


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_prompts_name_exactly_what_they_match(seed: int) -> None:
    rng = generator(Stream.TRAINING, seed, 1)
    scene = draw_scene(rng)
    for prompt in sample_prompts(rng, scene.objects, 8, PromptMix()):
        check(prompt, scene)


def test_a_superclass_matches_all_of_its_drawings_and_a_colour_only_shapes() -> None:
    rng = generator(Stream.TRAINING, 5, 0)
    objects = [item for _ in range(30) for item in draw_scene(rng).objects]
    animals = {objects[index].concept.name for index in matching("animal", objects)}
    assert {"cat", "fish"} <= animals and not animals & {"apple", "car", "house"}
    assert {objects[index].concept.colour for index in matching("red shape", objects)} == {"red"}


def test_held_out_combinations_are_made_of_trained_colours_and_shapes() -> None:
    assert len(HELD_OUT_COMBINATIONS) >= 8
    assert sorted(str(c.colour) for c in HELD_OUT_COMBINATIONS) == sorted(COLOUR_NAMES)
    assert sorted(str(c.shape) for c in HELD_OUT_COMBINATIONS) == sorted(SHAPES)
    assert {c.colour for c in TRAINED_COMBINATIONS} == set(COLOUR_NAMES)
    assert {c.shape for c in TRAINED_COMBINATIONS} == set(SHAPES)
    assert not set(HELD_OUT_COMBINATIONS) & set(TRAINED_COMBINATIONS)


def test_training_neither_draws_nor_asks_for_held_out_combinations() -> None:
    held_out = {concept.name for concept in HELD_OUT_COMBINATIONS}
    drawn, asked = set(), set()
    for index in range(150):
        rng = generator(Stream.TRAINING, 1, index)
        scene = draw_scene(rng)
        drawn |= {item.concept.name for item in scene.objects}
        asked |= {prompt.phrase for prompt in sample_prompts(rng, scene.objects, 20, PromptMix())}
    assert not held_out & (drawn | asked)
    assert {"red heart", "black diamond", "red circle"} <= drawn
    assert {"red heart", "black diamond", "red circle"} <= asked


def test_held_out_drawings_are_of_known_concepts_and_not_in_training() -> None:
    assert not set(UNSEEN_DRAWINGS.emoji) & set(TRAINED.emoji)
    assert {drawing.concept for drawing in UNSEEN_DRAWINGS.emoji} < TRAINED.concepts
    assert len(UNSEEN_DRAWINGS.emoji) >= 20
    seen = {drawing.concept: drawing.sprite[0] for drawing in SEEN_DRAWINGS.emoji}
    for drawing in UNSEEN_DRAWINGS.emoji:
        assert np.abs(drawing.sprite[0] - seen[drawing.concept]).mean() > 0.02, drawing.concept.name


def test_a_control_differs_by_what_is_held_out_alone() -> None:
    def shares(world: World) -> dict[str | None, float]:
        counts = Counter(drawing.concept.shape for drawing in world.shapes)
        return {shape: count / len(world.shapes) for shape, count in counts.items()}

    assert shares(TRAINED_SHAPES) == shares(UNSEEN_COMBINATIONS) == dict.fromkeys(SHAPES, 1 / len(SHAPES))
    assert TRAINED_SHAPES.concepts == set(TRAINED_COMBINATIONS)
    assert UNSEEN_COMBINATIONS.concepts - TRAINED_SHAPES.concepts == set(HELD_OUT_COMBINATIONS)


@pytest.mark.parametrize("world", [UNSEEN_COMBINATIONS, UNSEEN_DRAWINGS], ids=["combinations", "drawings"])
def test_a_world_draws_nothing_but_its_own(world: World) -> None:
    objects = [item for i in range(20) for item in draw_scene(generator(Stream.HELD_OUT, 3, i), world=world).objects]
    assert {item.concept for item in objects} <= world.concepts


def test_no_object_is_hidden_for_the_most_part() -> None:
    """A find that nobody could make would teach to guess."""
    ledger = _Ledger((10, 10))
    ledger.add(EMOJI_CONCEPTS[0], ledger.owner, np.ones((10, 10), np.bool_))
    rng = np.random.default_rng(0)
    a_third, half = ledger.owner[:, :3].ravel(), ledger.owner[:, :5].ravel()
    assert {ledger.admits(rng, a_third) for _ in range(50)} == {True, False}
    assert {ledger.admits(rng, half) for _ in range(50)} == {False}
    ledger.add(EMOJI_CONCEPTS[1], ledger.owner[:, :3], np.ones((10, 3), np.bool_))
    beside = ledger.owner[:, 3:5].ravel()
    assert {ledger.admits(rng, beside) for _ in range(50)} == {False}, "what is hidden already counts"


def test_scenes_hold_one_to_twelve_objects() -> None:
    counts = {len(drawn(index).objects) for index in range(60)}
    assert min(counts) <= 1
    assert max(counts) == MAX_OBJECTS == 12


def test_wherever_a_negative_box_has_a_sense_one_is_drawn() -> None:
    mix = PromptMix(visual=0, excluding=1)
    staged = 0
    for index in range(60):
        objects = drawn(index).objects
        kinds = {prompt.kind for prompt in sample_prompts(generator(Stream.TRAINING, 2, index), objects, 6, mix)}
        assert (kinds == {PromptKind.EXCLUDING}) == bool(excluding_prompts(objects))
        staged += bool(excluding_prompts(objects))
    assert staged > 30
