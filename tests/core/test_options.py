from __future__ import annotations

import json

import pytest

from service.core.fields import parse_form
from service.core.jobs import job_key
from service.core.options import Options, canonical_options, option_from_text, parse_options
from service.core.prompts import Limits, Prompt, PromptSet
from service.errors import BadField

FIRST_KEY = "aae1daf23d3f178187e29ec678196e7accc2ee618a1e54f92f51b39d9d401035"
LATER: dict[str, object] = {"overlay": True, "mask_png": True, "nms_iou": 0.4, "simplify": 1.5, "contour_holes": True}


def key(options: Options) -> str:
    return job_key("photos", "in/a.jpg", 7, PromptSet((Prompt("mug"),), options), "facebook/sam3", "r1")


def test_job_keys_from_before_there_were_later_options_stay() -> None:
    """The key is that of the first version of the service, digit by digit."""
    assert key(Options()) == FIRST_KEY
    assert key(parse_options({"nms_iou": None, "simplify": 0, "contour_holes": False, "overlay": False})) == FIRST_KEY


@pytest.mark.parametrize("name", LATER)
def test_a_later_option_is_part_of_the_job_only_where_it_is_set(name: str) -> None:
    options = parse_options({name: LATER[name]})
    assert canonical_options(options) == canonical_options(Options()) | {name: LATER[name]}
    assert key(options) != key(Options())


def test_minus_zero_is_zero() -> None:
    assert json.dumps(canonical_options(Options(threshold=-0.0, nms_iou=-0.0, simplify=-0.0))) == json.dumps(
        {"threshold": 0.0, "mask_threshold": 0.5, "max_instances": 200, "nms_iou": 0.0}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nms_iou", 1),
        ("nms_iou", -0.1),
        ("nms_iou", True),
        ("nms_iou", "0.5"),
        ("simplify", -1),
        ("simplify", 1000.5),
        ("simplify", None),
        ("contour_holes", 1),
        ("contour_holes", "yes"),
        ("contour_holes", None),
    ],
)
def test_values_that_are_not_allowed(name: str, value: object) -> None:
    with pytest.raises(BadField, match=f"{name}: .* is not allowed; it must be ") as caught:
        parse_options({name: value})
    assert caught.value.field == name


@pytest.mark.parametrize("text", ["1", "nan", "1e999", "-1", "off", ""])
def test_texts_that_are_no_overlap(text: str) -> None:
    with pytest.raises(BadField, match=r"nms_iou: .* a number from 0 to below 1"):
        parse_form({"prompts": ["a"], "nms_iou": [text]}, Limits())


def test_texts_become_what_json_would_have_brought() -> None:
    names = {"nms_iou": " .5 ", "simplify": "2", "contour_holes": "On", "max_instances": "+7", "threshold": "-0"}
    values = {name: option_from_text(name, text) for name, text in names.items()}
    assert values == {"nms_iou": 0.5, "simplify": 2.0, "contour_holes": True, "max_instances": 7, "threshold": 0.0}
