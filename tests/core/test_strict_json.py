from __future__ import annotations

import math

import pytest

from service.core import strict_json


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1, column 1"),
        ('{"a": 1,}', "line 1"),
        ("[1, NaN]", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ("[" * 65 + "]" * 65, "64 levels"),
        ("[" * 200_000, "64 levels"),
        ('{"a":' * 200_000, "64 levels"),
        ("9" * 5000, "4000 digits"),
        (r'["\ud800"]', "surrogate"),
        (r'{"\udc00": 1}', "surrogate"),
    ],
)
def test_what_json_loads_lets_pass_or_dies_of_is_a_value_error_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        strict_json.loads(text)


def test_ordinary_json_is_read_as_it_stands() -> None:
    text = r'{"a": [1, -2.5, 1e3, true, null, "\ud83d\ude00"]}'
    assert strict_json.loads(text) == {"a": [1, -2.5, 1000.0, True, None, "😀"]}


def test_canonical_text_does_not_depend_on_the_order_of_keys() -> None:
    assert strict_json.canonical({"b": "ü", "a": 0.5}) == strict_json.canonical({"a": 0.5, "b": "ü"})
    assert strict_json.canonical({"b": "ü", "a": [1, 2]}) == r'{"a":[1,2],"b":"\u00fc"}'


def test_canonical_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="JSON"):
        strict_json.canonical(math.nan)
