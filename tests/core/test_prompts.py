from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.fields import parse_form as parse_fields
from service.core.options import Options, canonical_options
from service.core.outputs import Output
from service.core.prompts import (
    Limits,
    Prompt,
    PromptSet,
    canonical_prompts,
    check_one_image,
    parse_defaults,
    parse_image_metadata,
    parse_sidecar,
)
from service.errors import BadField, BadSidecar, ServiceError

DEFAULT_LIMITS = Limits()
STORED_ONLY = ["overlay", "mask_png"]
OPTION_NAMES = [name for name in asdict(Options()) if name not in STORED_ONLY]


def parse_form(form: Mapping[str, Sequence[str]], limits: Limits = DEFAULT_LIMITS) -> PromptSet:
    return parse_fields(form, limits).prompt_set


def texts(prompt_set: PromptSet) -> list[str]:
    return [prompt.text for prompt in prompt_set.prompts]


@pytest.mark.parametrize(
    ("name", "images", "detail"),
    [
        ("in/_prompts.json", ("in/a.jpg",), "all images of the folder, whose results would replace each other"),
        ("_prompts.json", (), "name it in the sidecar of one image, as photo.jpg.prompts.json"),
        ("in/p.prompts.json", ("in/p.jpg", "in/p.png"), "speak for p.jpg, p.png, whose"),
        ("in/p.prompts.json", ("in/p", "in/p.jpg"), "sidecar of its own instead, as p.jpg.prompts.json"),
        ("p.prompts.json", ("p.a", "p.b", "p.c", "p.d"), "speak for p.a, p.b, p.c, …, whose"),
    ],
)
def test_an_output_is_for_one_image(name: str, images: tuple[str, ...], detail: str) -> None:
    output = Output("photos-out", "x.json")
    with pytest.raises(BadSidecar) as caught:
        check_one_image(name, output, images)
    assert caught.value.detail.startswith(f"{name}: output: 'gs://photos-out/x.json' is not allowed; ")
    assert detail in caught.value.detail
    check_one_image("in/p.prompts.json", output, ("in/p.jpg",))


def test_a_form_with_prompts_alone_has_the_default_options() -> None:
    expected = Options(threshold=0.5, mask_threshold=0.5, max_instances=200, return_masks=False, return_contours=False)
    assert parse_form({"prompts": ["mug cup"]}) == PromptSet((Prompt("mug cup"),), expected)


def test_a_form_sets_every_option() -> None:
    form = {
        "prompts": ["mug"],
        "threshold": ["0"],
        "mask_threshold": [" .25 "],
        "max_instances": ["1000"],
        "return_masks": ["YES"],
        "return_contours": ["on"],
    }
    assert parse_form(form).options == Options(0.0, 0.25, 1000, True, True)


def test_prompts_keep_their_order_their_commas_and_their_duplicates() -> None:
    form = {"prompts": ["red mug, blue plate", "mug", "mug", "  Löffel ☕ "]}
    assert texts(parse_form(form)) == ["red mug, blue plate", "mug", "mug", "Löffel ☕"]


def test_a_json_object_with_text_alone_is_a_prompt() -> None:
    assert texts(parse_form({"prompts": [' {"text": "red mug"}']})) == ["red mug"]
    assert texts(parse_sidecar("a.prompts.json", b'["x", {"text": "red mug"}]')) == ["x", "red mug"]


@pytest.mark.parametrize("prompt", ["[cat] on a mat", "[sic]", '["frog"', '{"text": "[\\"frog\\"]"}'])
def test_a_phrase_may_begin_like_a_list(prompt: str) -> None:
    assert texts(parse_form({"prompts": [prompt]})) == ['["frog"]' if prompt.startswith("{") else prompt]


@pytest.mark.parametrize("value", ["true", "1", "yes", "on", "TRUE", "On", " true\n"])
def test_words_for_true(value: str) -> None:
    assert parse_form({"prompts": ["a"], "return_masks": [value]}).options.return_masks is True


@pytest.mark.parametrize("value", ["false", "0", "no", "off", "False"])
def test_words_for_false(value: str) -> None:
    assert parse_form({"prompts": ["a"], "return_masks": [value]}).options.return_masks is False


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        ([], "prompts: '0 prompts' is not allowed; give 1 to 64"),
        (["a"] * 65, "prompts: '65 prompts' is not allowed; give 1 to 64"),
        (["a", ""], "prompts[1]: '' is not allowed; a prompt must not be empty"),
        ([" \t\n "], "must not be empty"),
        (["\u200b\u2060"], "must not be empty"),
        (["x" * 1001], "at most 1000 characters"),
        (["x" * 10_000], "(10002 characters) is not allowed; a prompt has at most 1000 characters"),
        (["a\0b"], "'a\\x00b' is not allowed; a prompt must be one line without control characters"),
        (["a\nb"], "one line"),
        (["a\x1b[31m"], "control characters"),
        (["a\ud800"], "control characters"),
        (["{red mug}"], "must be a JSON object: not JSON"),
        (['{"text": 5}'], "prompts[0].text: 5 is not allowed; a prompt must be text"),
        (['{"text": null}'], "prompts[0].text: null is not allowed; a prompt must be text"),
        (['{"text": " "}'], "must not be empty"),
        (["cat", ' ["frog", "dog"]'], 'prompts[1]: \' ["frog", "dog"]\' is not allowed; it is a JSON list: repeat the'),
        (["[]"], "prompts[0]: '[]' is not allowed; it is a JSON list"),
        (['{"a":' * 50_000], "64 levels"),
    ],
)
def test_bad_prompts_are_named_with_place_value_and_what_is_allowed(prompts: list[str], reason: str) -> None:
    with pytest.raises(BadField) as caught:
        parse_form({"prompts": prompts})
    assert reason in caught.value.detail
    assert caught.value.detail.startswith("prompts")
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    "value", ["nan", "NaN", "inf", "-inf", "1", "1.0", "-0.1", "", "0,5", "0x1", "1_0", "٠", "1e9999"]
)
def test_thresholds_out_of_range_or_no_plain_numbers_are_refused(value: str) -> None:
    with pytest.raises(BadField, match="a number from 0 to below 1") as caught:
        parse_form({"prompts": ["a"], "threshold": [value]})
    assert caught.value.field == "threshold"


@pytest.mark.parametrize("value", ["0", "1", "-0", "1e-9999", "nan"])
def test_mask_thresholds_are_strictly_between_0_and_1(value: str) -> None:
    with pytest.raises(BadField, match="above 0 and below 1"):
        parse_form({"prompts": ["a"], "mask_threshold": [value]})


@pytest.mark.parametrize("value", ["0", "1001", "-5", "1.0", "1e2", "", "9" * 5000])
def test_max_instances_is_a_whole_number_from_1_to_1000(value: str) -> None:
    with pytest.raises(BadField, match="a whole number from 1 to 1000"):
        parse_form({"prompts": ["a"], "max_instances": [value]})


@pytest.mark.parametrize("value", ["maybe", "", "2", "truefalse", "null", "ja", "t"])
def test_odd_booleans_are_refused(value: str) -> None:
    with pytest.raises(BadField, match="it must be true or false"):
        parse_form({"prompts": ["a"], "return_contours": [value]})


@pytest.mark.parametrize("name", OPTION_NAMES)
def test_an_option_given_twice_is_refused(name: str) -> None:
    with pytest.raises(BadField, match="give it once") as caught:
        parse_form({"prompts": ["a"], name: ["1", "1"]})
    assert caught.value.field == name


@pytest.mark.parametrize("name", ["treshold", "prompt", "overlay", "Image", "", "x" * 10_000, "a\nb", "\ud800"])
def test_an_unknown_field_is_refused_with_the_list_of_known_ones(name: str) -> None:
    with pytest.raises(
        BadField, match="known are image, image_uri, prompts, format, threshold, mask_threshold"
    ) as caught:
        parse_form({"prompts": ["a"], name: ["1"]})
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 400


def test_limits_are_the_callers() -> None:
    limits = Limits(max_prompts=1, max_prompt_chars=3)
    assert texts(parse_form({"prompts": [" abc "]}, limits)) == ["abc"]
    with pytest.raises(BadField, match="give 1 to 1"):
        parse_form({"prompts": ["a", "b"]}, limits)
    with pytest.raises(BadField, match="at most 3 characters"):
        parse_form({"prompts": ["abcd"]}, limits)


def test_a_json_sidecar_is_a_list_or_an_object() -> None:
    assert parse_sidecar("a.prompts.json", b'["mug", "plate"]') == PromptSet((Prompt("mug"), Prompt("plate")))
    document = {
        "prompts": ["mug"],
        "options": {"threshold": 0, "max_instances": 5},
        "metadata": {"order": [7, "ü"]},
    }
    assert parse_sidecar("a.prompts.json", json.dumps(document).encode()) == PromptSet(
        (Prompt("mug"),), Options(threshold=0.0, max_instances=5), {"order": [7, "ü"]}
    )


def test_a_text_sidecar_has_one_prompt_a_line_and_comments() -> None:
    data = "\ufeff# kitchen\r\nred mug, blue plate\r\n\r\n  spoon # 2 \rLöffel\n#end".encode()
    assert texts(parse_sidecar("a.prompts.txt", data)) == ["red mug, blue plate", "spoon # 2", "Löffel"]


def test_a_byte_order_mark_is_tolerated_in_json() -> None:
    assert texts(parse_sidecar("a.prompts.json", '\ufeff["mug"]'.encode())) == ["mug"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"mug\nplate\n", "line 1, column 1"),
        (b'["mug",\n "plate"', "line 2"),
        (b'"mug"', "must be a JSON list of prompts or a JSON object"),
        (b"null", "must be a JSON list"),
        (b"[]", "give 1 to 64"),
        (b"{}", "give 1 to 64"),
        (b'{"prompts": "mug"}', "prompts: 'mug' is not allowed; it must be a list"),
        (b'{"prompts": ["a", 7]}', "prompts[1]: 7 is not allowed; a prompt must be text"),
        (b'{"prompts": ["a", ["b"]]}', "prompts[1]"),
        (b'{"prompts": ["a", null]}', "prompts[1]"),
        (b'{"prompts": ["a"], "output": "gs://bkt/o.json"}', "output: 'gs://bkt/o.json' is not allowed; its bucket"),
        (b'{"prompts": ["a"], "option": {}}', "option: 'option' is not allowed"),
        (b'{"prompts": ["a"], "options": []}', "options: [] is not allowed; it must be an object"),
        (b'{"prompts": ["a"], "options": {"treshold": 1}}', "no such option, known are threshold"),
        (b'{"prompts": ["a"], "options": {"threshold": "0.5"}}', "threshold: '0.5' is not allowed"),
        (b'{"prompts": ["a"], "options": {"threshold": true}}', "threshold: true is not allowed"),
        (b'{"prompts": ["a"], "options": {"threshold": null}}', "threshold: null is not allowed"),
        (b'{"prompts": ["a"], "options": {"threshold": NaN}}', "NaN"),
        (b'{"prompts": ["a"], "options": {"max_instances": 2.0}}', "max_instances: 2.0 is not allowed"),
        (b'{"prompts": ["a"], "options": {"max_instances": true}}', "max_instances: true is not allowed"),
        (b'{"prompts": ["a"], "options": {"return_masks": 1}}', "return_masks: 1 is not allowed"),
        (b'{"prompts": ["a"], "options": {"return_masks": "yes"}}', "return_masks: 'yes' is not allowed"),
        (b'{"prompts": ["a"], "options": {"threshold": 1' + b"0" * 3000 + b"}}", "threshold"),
        (b'{"prompts": ["a"], "prompts": ["b"]}', "'prompts' is there twice"),
        (b'{"prompts": ["a"], "metadata": ["x"]}', 'metadata: ["x"] is not allowed; it must be an object'),
        (b'{"prompts": ["a"], "metadata": {"x": "' + b"y" * 8192 + b'"}}', "at most 8192 bytes"),
        (b'{"prompts": ["a"], "metadata": {"x": ' + b"[" * 70 + b"]" * 70 + b"}}", "64 levels"),
        (b"[" * 100_000, "64 levels"),
        (b"[" * 600 + b"]" * 600, "64 levels"),
        (rb'["\ud800"]', "surrogate"),
        ('["Löffel"]'.encode("latin-1"), "not UTF-8 text (byte 3)"),
        ('["mug"]'.encode("utf-16"), "not UTF-8 text (byte 0)"),
        ('["mug"]'.encode("utf-16-le"), "not JSON"),
    ],
)
def test_a_bad_json_sidecar_is_named_with_place_and_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadSidecar) as caught:
        parse_sidecar("in/a.prompts.json", data)
    assert caught.value.detail.startswith("in/a.prompts.json: ")
    assert reason in caught.value.detail
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "give 1 to 64"),
        (b"# only\n\n  # comments\n", "give 1 to 64"),
        (b"mug\n" * 65, "65 prompts"),
        (b"# c\nmug\n" + b"x" * 1001, "line 3: "),
        (b'# c\n["mug", "plate"]\n', 'line 2: \'["mug", "plate"]\' is not allowed; it is a JSON list'),
        (b"mug\nplate\0\n", "line 2: 'plate\\x00' is not allowed"),
        ("mug".encode("utf-16-le"), "line 1: "),
        ("mug".encode("utf-16"), "not UTF-8 text (byte 0)"),
        ("Löffel".encode("latin-1"), "not UTF-8 text (byte 1)"),
    ],
)
def test_a_bad_text_sidecar_is_named_with_line_and_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadSidecar) as caught:
        parse_sidecar("in/a.prompts.txt", data)
    assert caught.value.detail.startswith("in/a.prompts.txt: ")
    assert reason in caught.value.detail


def test_an_images_own_metadata_has_prompts_and_options() -> None:
    read = parse_image_metadata("in/a.jpg", '["cat", {"text": "dog"}]', '{"threshold": 0.25}')
    assert texts(read) == ["cat", "dog"]
    assert read.options == Options(threshold=0.25)
    assert parse_image_metadata("in/a.jpg", '["cat"]', None).options == Options()


@pytest.mark.parametrize(
    ("prompts", "options", "reason"),
    [
        ("cat", None, "prompts: not JSON"),
        ('"cat"', None, "prompts: 'cat' is not allowed; it must be a list"),
        ('{"prompts": ["cat"]}', None, "it must be a list"),
        ("[]", None, "give 1 to 64"),
        ('["cat"]', "{", "options: not JSON"),
        ('["cat"]', "[]", "options: [] is not allowed; it must be an object"),
        ('["cat"]', '{"threshold": 2}', "threshold: 2 is not allowed"),
    ],
)
def test_bad_metadata_is_named_with_the_image_and_the_reason(prompts: str, options: str | None, reason: str) -> None:
    with pytest.raises(BadSidecar) as caught:
        parse_image_metadata("in/a.jpg", prompts, options)
    assert caught.value.detail.startswith("metadata of in/a.jpg: ")
    assert reason in caught.value.detail


def test_default_prompts_are_a_list_or_one_prompt() -> None:
    assert texts(parse_defaults('["cat", "dog"]')) == ["cat", "dog"]
    assert texts(parse_defaults("cat, or dog")) == ["cat, or dog"]
    assert texts(parse_defaults('{"text": "cat"}')) == ["cat"]


@pytest.mark.parametrize("value", ["[", "[]", "[5]", " ", '{"text": 5}', '{"text"'])
def test_bad_default_prompts_are_refused(value: str) -> None:
    with pytest.raises(ValueError):
        parse_defaults(value)


def test_what_an_answer_shows_is_not_part_of_the_canonical_options() -> None:
    assert canonical_options(Options(return_masks=True)) == canonical_options(Options(return_contours=True))
    assert canonical_options(Options(overlay=True, mask_png=False)) == canonical_options(Options()) | {"overlay": True}
    assert canonical_options(Options()) == {"threshold": 0.5, "mask_threshold": 0.5, "max_instances": 200}
    assert canonical_prompts([Prompt("mug"), Prompt("ü")]) == [{"text": "mug"}, {"text": "ü"}]


def test_equal_options_have_one_canonical_form() -> None:
    spellings = ["0", "-0", "0.0", "-0e5"]
    forms = [parse_form({"prompts": ["a"], "threshold": [spelling]}) for spelling in spellings]
    assert len({json.dumps(canonical_options(form.options)) for form in forms}) == 1


NAMES = st.sampled_from(["prompts", *OPTION_NAMES]) | st.text(max_size=5)
VALUES = st.sampled_from(["0.5", "1", "true", "mug", "nan", '{"text": "a"}', "{"]) | st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.just("options"), inner, max_size=3),
    max_leaves=10,
)


def outcome(parse: Any, *arguments: Any) -> Any:
    try:
        return parse(*arguments)
    except ServiceError as error:
        return type(error), error.detail


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, st.lists(VALUES, max_size=3), max_size=4))
def test_any_form_is_understood_or_refused_always_alike(form: dict[str, list[str]]) -> None:
    first = outcome(parse_form, form)
    assert isinstance(first, PromptSet) or first[0] is BadField
    assert outcome(parse_form, form) == first


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["a.prompts.json", "a.prompts.txt"]),
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_any_sidecar_is_understood_or_refused_always_alike(name: str, data: bytes) -> None:
    first = outcome(parse_sidecar, name, data)
    assert isinstance(first, PromptSet) or first[0] is BadSidecar
    assert outcome(parse_sidecar, name, data) == first


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="{#"), min_size=1), min_size=1))
def test_form_json_and_text_understand_the_same_phrases_alike(phrases: list[str]) -> None:
    limits = Limits(max_prompts=1000)
    form = parse_form({"prompts": phrases}, limits)
    assert texts(form) == phrases
    assert parse_sidecar("a.prompts.json", json.dumps(phrases).encode(), limits) == form
    assert parse_sidecar("a.prompts.txt", "\n".join(phrases).encode(), limits) == form


@pytest.mark.parametrize("name", STORED_ONLY)
def test_what_lies_beside_a_result_is_for_sidecars_only(name: str) -> None:
    asked = parse_sidecar("a.prompts.json", b'{"prompts": ["cat"], "options": {"%s": true}}' % name.encode())
    assert getattr(asked.options, name) is True
    with pytest.raises(BadSidecar, match=f"{name}: 1 is not allowed; it must be true or false"):
        parse_sidecar("a.prompts.json", b'{"prompts": ["cat"], "options": {"%s": 1}}' % name.encode())
    with pytest.raises(BadField, match="there is no such field"):
        parse_form({"prompts": ["cat"], name: ["true"]})
