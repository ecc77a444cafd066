from __future__ import annotations

import pytest

from tools.localcloud.pubsub.errors import InvalidArgumentError
from tools.localcloud.pubsub.filters import compile_filter

ATTRIBUTES = {"type": "FINALIZE", "object": "in/küche.jpg", "x y": "1", "empty": ""}


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("", True),
        ("attributes:type", True),
        ("attributes:missing", False),
        ('attributes:"x y"', True),
        ('attributes.type = "FINALIZE"', True),
        ('attributes.type="DELETE"', False),
        ('attributes.type != "DELETE"', True),
        ('attributes.missing != "DELETE"', True),
        ('attributes."x y" = "1"', True),
        ('attributes.object = "in/k\\u00fcche.jpg"', True),
        ('hasPrefix(attributes.object, "in/")', True),
        ('hasPrefix(attributes.object, "out/")', False),
        ('hasPrefix(attributes.missing, "")', False),
        ('hasPrefix(attributes.empty, "")', True),
        ("NOT attributes:missing", True),
        ("-attributes:type", False),
        ("NOT NOT attributes:type", True),
        ("attributes:type AND attributes:missing", False),
        ("attributes:missing OR attributes:type", True),
        ("attributes:missing OR (attributes:type AND attributes:object)", True),
        ("NOT (attributes:type AND attributes:missing)", True),
    ],
)
def test_filters(expression: str, matches: bool) -> None:
    assert compile_filter(expression)(ATTRIBUTES) is matches


@pytest.mark.parametrize(
    "expression",
    [
        "attributes",
        "attributes.type",
        "attributes.type = FINALIZE",
        'attributes.type ~ "x"',
        'type = "FINALIZE"',
        "attributes:type AND",
        "(attributes:type",
        "attributes:type)",
        "attributes:a AND attributes:b OR attributes:c",
        'attributes.type = "unclosed',
        'attributes.type = "\\xZZ"',
        'attributes.type = "' + "x" * 256 + '"',
    ],
)
def test_bad_filters(expression: str) -> None:
    with pytest.raises(InvalidArgumentError):
        compile_filter(expression)
