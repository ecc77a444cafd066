from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.fields import NAMES, Fields, parse_form, parse_json
from service.core.options import Options
from service.core.prompts import Limits, Prompt, PromptSet
from service.errors import BadField, MissingImage, ServiceError

LIMITS = Limits()
IMAGE = base64.b64encode(b"\xff\xd8 picture").decode()
URI = "gs://photos/a.jpg"


def test_json_has_the_same_fields_as_a_form() -> None:
    document = {
        "image": IMAGE,
        "prompts": ["mug", {"text": "plate"}],
        "format": "png",
        "threshold": 0,
        "mask_threshold": 0.25,
        "max_instances": 7,
        "return_masks": True,
        "return_contours": True,
        "nms_iou": 0.5,
        "simplify": 1.5,
        "contour_holes": True,
    }
    options = Options(0, 0.25, 7, True, True, nms_iou=0.5, simplify=1.5, contour_holes=True)
    expected = Fields(PromptSet((Prompt("mug"), Prompt("plate")), options), "png", b"\xff\xd8 picture")
    assert parse_json(document, LIMITS) == expected
    form = {name: [str(value)] for name, value in document.items() if name not in ("image", "prompts")}
    in_form = parse_form(form | {"prompts": ["mug", '{"text": "plate"}']}, LIMITS)
    assert (in_form.prompt_set, in_form.format) == (expected.prompt_set, "png")


def test_an_image_may_be_named_instead() -> None:
    assert parse_json({"image_uri": URI, "prompts": ["a"]}, LIMITS).image_uri == URI
    assert parse_json({"image": None, "image_uri": URI, "prompts": ["a"]}, LIMITS).image is None
    assert parse_form({"image_uri": [f" {URI} "], "prompts": ["a"]}, LIMITS).image_uri == URI


@pytest.mark.parametrize("document", [{}, {"image": None}, {"image_uri": None, "image": None}])
def test_without_an_image(document: dict[str, Any]) -> None:
    with pytest.raises(MissingImage, match="give image \\(base64\\) or image_uri"):
        parse_json(document | {"prompts": ["a"]}, LIMITS)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"image_uri": URI}, f"image_uri: '{URI}' is not allowed; give it or image, not both"),
        ({"image": "no base64!"}, "it must be the image file in standard base64 with padding, without line breaks"),
        (
            {"image": f"data:image/jpeg;base64,{IMAGE}"},
            "standard base64 with padding, without line breaks and without a data",
        ),
        ({"image": IMAGE[:-1] + "\n"}, "without line breaks"),
        (
            {"image": "gs://photos/a.jpg"},
            "image: '17 characters' is not allowed; it must be the image file in standard",
        ),
        ({"image": "gs://photos/a.jpg"}, "prefix; an object of Cloud Storage is named by image_uri=gs://bucket/object"),
        ({"image": "http://photos/a.jpg"}, "image_uri=gs://bucket/object, other addresses are not read"),
        ({"image": "ü"}, "image: '1 characters' is not allowed"),
        ({"image": 7}, "image: 7 is not allowed; it must be the image file in standard base64 with"),
        ({"image": None, "image_uri": 7}, "image_uri: 7 is not allowed; it must be gs://bucket/object"),
        ({"format": "jpeg"}, "format: 'jpeg' is not allowed; it must be json, png or overlay"),
        ({"format": None}, "format: null is not allowed"),
        ({"prompts": "mug"}, "prompts: 'mug' is not allowed; it must be a list of phrases"),
        ({"prompts": []}, "prompts: '0 prompts' is not allowed; give 1 to 64"),
        ({"prompts": ["a", 7]}, "prompts[1]: 7 is not allowed; a prompt must be text"),
        ({"threshold": "0.5"}, "threshold: '0.5' is not allowed; it must be a number from 0 to below 1"),
        ({"threshold": True}, "threshold: true is not allowed"),
        ({"max_instances": 2.0}, "max_instances: 2.0 is not allowed"),
        ({"return_masks": "yes"}, "return_masks: 'yes' is not allowed; it must be true or false"),
        ({"overlay": True}, "overlay: 'overlay' is not allowed; there is no such field, known are image, image_uri"),
        ({"options": {}}, "options: 'options' is not allowed; there is no such field"),
    ],
)
def test_what_json_may_not_say(changes: dict[str, Any], detail: str) -> None:
    with pytest.raises(BadField) as caught:
        parse_json({"image": IMAGE, "prompts": ["a"]} | changes, LIMITS)
    assert detail in caught.value.detail
    assert len(caught.value.detail) < 400


@pytest.mark.parametrize("sent", ["2", "0.99999999999999999", "1e3", "1e999", "nan", "-1"])
def test_a_value_is_named_as_it_was_sent(sent: str) -> None:
    with pytest.raises(BadField) as caught:
        parse_form({"prompts": ["a"], "threshold": [sent]}, LIMITS)
    assert caught.value.detail == f"threshold: '{sent}' is not allowed; it must be a number from 0 to below 1"


def test_prompts_left_out_of_json_are_none() -> None:
    with pytest.raises(BadField, match="prompts: '0 prompts' is not allowed; give 1 to 64"):
        parse_json({"image": IMAGE}, LIMITS)


@pytest.mark.parametrize("image", ["SECRET-PIXELS", ["SECRET-PIXELS"], {"data": "SECRET-PIXELS"}])
def test_no_part_of_an_image_is_in_a_message(image: Any) -> None:
    with pytest.raises(BadField) as caught:
        parse_json({"image": image, "prompts": ["a"]}, LIMITS)
    assert "SECRET" not in caught.value.detail


@pytest.mark.parametrize("name", ["Image", "access_token"])
def test_of_an_unknown_field_only_the_name_is_in_a_message(name: str) -> None:
    """What a misspelt `image` holds, or a token, belongs in no answer and no log."""
    with pytest.raises(BadField) as caught:
        parse_json({name: "SECRET", "image": IMAGE, "prompts": ["a"]}, LIMITS)
    assert caught.value.detail.startswith(f"{name}: '{name}' is not allowed; there is no such field")
    assert "SECRET" not in caught.value.detail


def test_an_image_in_a_form_is_a_file() -> None:
    with pytest.raises(MissingImage, match="as a text field"):
        parse_form({"image": [IMAGE], "prompts": ["a"]}, LIMITS)
    with pytest.raises(MissingImage, match="as a text field; an object of Cloud Storage is named by image_uri=gs://"):
        parse_form({"image": [URI], "prompts": ["a"]}, LIMITS)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.text(max_size=3))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), VALUES, max_size=5))
def test_any_json_is_understood_or_refused_always_alike(document: dict[str, Any]) -> None:
    def outcome() -> object:
        try:
            return parse_json({"image": IMAGE, "prompts": ["a"]} | document, LIMITS)
        except ServiceError as error:
            assert error.status == 400
            return error.detail

    assert outcome() == outcome()
