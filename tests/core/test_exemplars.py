from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.exemplars import ExemplarBox, on_image
from service.core.fields import parse_form
from service.core.prompts import Limits, Prompt, canonical_prompts, parse_sidecar
from service.errors import BadField, BadSidecar


def parse(value: dict[str, Any], **limits: Any) -> Prompt:
    """The prompt object as the only one of a form."""
    [prompt] = parse_form({"prompts": [json.dumps(value)]}, Limits(**limits)).prompt_set.prompts
    return prompt


def test_boxes_go_with_a_text() -> None:
    value = {"text": " red mug ", "boxes": [[10, 20, 30.5, 40], [0, 0, 5, 5]], "box_labels": [1, 0]}
    expected = Prompt("red mug", (ExemplarBox((10.0, 20.0, 30.5, 40.0), 1), ExemplarBox((0.0, 0.0, 5.0, 5.0), 0)))
    assert parse(value) == expected
    assert parse_sidecar("a.prompts.json", json.dumps([value]).encode()).prompts == (expected,)
    assert parse_sidecar("a.prompts.txt", json.dumps(value).encode()).prompts == (expected,)


def test_boxes_are_positive_where_no_label_says_otherwise() -> None:
    assert [box.label for box in parse({"text": "a", "boxes": [[0, 0, 1, 1], [2, 2, 3, 3]]}).boxes] == [1, 1]


def test_boxes_alone_have_the_text_that_the_model_knows_for_it() -> None:
    boxes = [[0, 0, 9, 9], [1, 1, 2, 2]]
    assert parse({"boxes": boxes}) == parse({"text": "visual", "boxes": boxes, "box_labels": [1, 1]})
    assert parse({"boxes": boxes, "box_labels": [0, 1]}).text == "visual"


@pytest.mark.parametrize("value", [{"text": "mug", "boxes": []}, {"text": "mug", "boxes": [], "box_labels": []}])
def test_no_boxes_are_no_exemplars(value: dict[str, Any]) -> None:
    assert parse(value) == Prompt("mug")


def test_a_box_may_reach_beyond_any_image_and_lie_between_pixels() -> None:
    boxes = [[-1e9, -0.5, 1e9, 0.25], [3, 3, 3.000001, 4]]
    assert [list(box.box_xyxy) for box in parse({"text": "a", "boxes": boxes}).boxes] == boxes


BOX_RULE = (
    "it must be four numbers [x0, y0, x1, y1] in pixels of the upright image with x0 < x1 and y0 < y1, none over 1e9"
)


@pytest.mark.parametrize(
    "box",
    [
        [], [1, 2, 3], [1, 2, 3, 4, 5], None, True, 7, "1,2,3,4", {"x0": 1}, [[1, 2, 3, 4]],
        ["1", "2", "3", "4"], [1, 2, 3, None], [False, False, True, True], [0, 0, 1, True],
        [3, 0, 3, 4], [0, 4, 3, 4], [3, 0, 2, 4], [0, 4, 3, 1], [0, 0, -0.0, 4],
        [0, 0, 1e300, 4], [0, 0, 10**400, 4], [-(10**400), 0, 1, 4], [0, 0, 1000000001, 4],
    ],
)  # fmt: skip
def test_what_is_no_box_is_named_with_its_place(box: Any) -> None:
    with pytest.raises(BadField) as caught:
        parse({"text": "mug", "boxes": [[0, 0, 1, 1], box]})
    assert caught.value.field == "prompts[0].boxes[1]"
    assert caught.value.detail.endswith(BOX_RULE)
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    with pytest.raises(BadField, match="prompts\\[0\\]"):
        parse_form({"prompts": [f'{{"text": "a", "boxes": [[0, 0, 1, {number}]]}}']}, Limits())


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ({"text": "a", "boxes": None}, "prompts[0].boxes", "a list of boxes, at most 16"),
        ({"text": "a", "boxes": {"0": [0, 0, 1, 1]}}, "prompts[0].boxes", "a list of boxes, at most 16"),
        ({"text": "a", "boxes": "[[0, 0, 1, 1]]"}, "prompts[0].boxes", "a list of boxes, at most 16"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]] * 17}, "prompts[0].boxes", "a list of boxes, at most 16"),
        ({"text": "a", "boxes": [0, 0, 1, 1]}, "prompts[0].boxes[0]", "four numbers"),
        ({"text": "a", "box_labels": [1]}, "prompts[0].box_labels", "one label a box (0)"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": []}, "prompts[0].box_labels", "one label a box (1)"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": 1}, "prompts[0].box_labels", "it must be a list"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": None}, "prompts[0].box_labels", "it must be a list"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": [2]}, "prompts[0].box_labels[0]", "it must be 1"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": [-1]}, "prompts[0].box_labels[0]", "it must be 1"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": [1.0]}, "prompts[0].box_labels[0]", "it must be 1"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": [True]}, "prompts[0].box_labels[0]", "it must be 1"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": ["1"]}, "prompts[0].box_labels[0]", "it must be 1"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]], "box_labels": [[]]}, "prompts[0].box_labels[0]", "it must be 1"),
        ({"text": "a", "box": [0, 0, 1, 1]}, "prompts[0].box", "known are text, boxes, box_labels"),
        ({"text": "", "boxes": [[0, 0, 1, 1]]}, "prompts[0].text", "must not be empty"),
        ({"text": None, "boxes": [[0, 0, 1, 1]]}, "prompts[0].text", "must be text"),
        ({}, "prompts[0]", "a text, or a box with label 1"),
        ({"boxes": []}, "prompts[0]", "a text, or a box with label 1"),
        ({"boxes": [[0, 0, 1, 1]], "box_labels": [0]}, "prompts[0]", "a text, or a box with label 1"),
    ],
)
def test_bad_prompt_objects_are_named_with_place_and_reason(value: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(BadField) as caught:
        parse(value)
    assert caught.value.field == field
    assert reason in caught.value.detail
    assert len(caught.value.detail) < 300


def test_a_bad_box_of_a_sidecar_is_named_with_its_place() -> None:
    data = b'{"prompts": ["cat", {"text": "dog", "boxes": [[0, 0, 1, 1], [1, 1, 0, 2]]}]}'
    with pytest.raises(BadSidecar) as caught:
        parse_sidecar("in/a.prompts.json", data)
    assert caught.value.detail == f"in/a.prompts.json: prompts[1].boxes[1]: [1, 1, 0, 2] is not allowed; {BOX_RULE}"


def test_the_limit_is_the_callers() -> None:
    two = {"text": "a", "boxes": [[0, 0, 1, 1]] * 2}
    assert len(parse(two, max_boxes=2).boxes) == 2
    with pytest.raises(BadField, match=r"boxes, at most 1$"):
        parse(two, max_boxes=1)


def test_equal_exemplars_have_one_canonical_form() -> None:
    spellings = ["[[0, 1, 2, 3]]", "[[-0.0, 1.0, 2e0, 3.0]]", '[[0, 1, 2, 3]], "box_labels": [1]']
    forms = [
        parse_form({"prompts": [f'{{"text": "mug", "boxes": {boxes}}}']}, Limits()).prompt_set.prompts
        for boxes in spellings
    ]
    assert {json.dumps(canonical_prompts(form)) for form in forms} == {
        '[{"text": "mug", "boxes": [[0.0, 1.0, 2.0, 3.0]], "box_labels": [1]}]'
    }


def test_a_canonical_prompt_is_understood_as_itself() -> None:
    prompt = Prompt("mug", (ExemplarBox((0.5, 1.0, 2.0, 3.0)), ExemplarBox((4.0, 4.0, 5.0, 5.0), 0)))
    [document] = canonical_prompts([prompt])
    assert parse(document) == prompt


@pytest.mark.parametrize(
    ("box", "unit"),
    [
        ((50, 20, 100, 40), (0.25, 0.2, 0.5, 0.4)),
        ((0, 0, 200, 100), (0, 0, 1, 1)),
        ((-50, -1, 300, 1000), (0, 0, 1, 1)),
        ((199, 99, 200, 100), (0.995, 0.99, 1, 1)),
        ((-3, 10, 1, 11), (0, 0.1, 0.005, 0.11)),
    ],
)
def test_boxes_are_clipped_to_the_image(box: Any, unit: Any) -> None:
    assert on_image("prompts[0]", [ExemplarBox(box)], (100, 200)) == [pytest.approx(unit)]


@pytest.mark.parametrize(
    "box", [(-5, 0, 0, 9), (200, 0, 300, 9), (0, -5, 9, 0), (0, 100, 9, 101), (500, 500, 600, 600)]
)
def test_a_box_wholly_outside_is_refused_with_the_images_size(box: Any) -> None:
    with pytest.raises(BadField) as caught:
        on_image("prompts[2]", [ExemplarBox((0, 0, 1, 1)), ExemplarBox(box)], (100, 200))
    assert caught.value.field == "prompts[2].boxes[1]"
    assert caught.value.detail.endswith("it lies outside the image, which is 200 pixels wide and 100 high")


edge = st.floats(-1e9, 1e9)


@settings(max_examples=300, deadline=None)
@given(edge, edge, edge, edge, st.integers(1, 10_000), st.integers(1, 10_000))
def test_any_box_is_refused_or_ends_up_on_the_image(
    x0: float, y0: float, x1: float, y1: float, height: int, width: int
) -> None:
    try:
        boxes = parse({"boxes": [[x0, y0, x1, y1]]}).boxes
        [unit] = on_image("prompts[0]", boxes, (height, width))
    except BadField as error:
        assert error.field == "prompts[0].boxes[0]"
        return
    assert all(0 <= value <= 1 and math.isfinite(value) for value in unit)
    assert unit[0] <= unit[2]
    assert unit[1] <= unit[3]
