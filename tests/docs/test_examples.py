"""Every curl, Python and JavaScript example of the docs is run as it stands, against a real service.

Those with an image in a bucket are run by tests/cloud/test_examples.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.examples import EXAMPLES, RUNNERS, Example, prepare

HERE = [example for example in EXAMPLES if not example.in_a_bucket]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("examples"))


@pytest.mark.parametrize("example", HERE, ids=lambda example: example.where)
def test_an_example(service: Any, folder: Path, example: Example) -> None:
    example.run(service.url, folder)


def test_there_are_some_of_each_language() -> None:
    assert {example.language for example in EXAMPLES if example.where.startswith("docs/api.md")} == set(RUNNERS)


@pytest.mark.parametrize(
    "line",
    [
        "curl -F image=@photo.jpg -F prompts=cat -F prompts=dog -F return_masks=true ",
        "curl -F image=@photo.jpg -F prompts=cat -F prompts=dog -F return_contours=true ",
    ],
)
def test_the_lines_of_the_first_service_are_among_them(line: str) -> None:
    assert any(example.text.startswith(line) for example in HERE if example.where.startswith("docs/api.md"))
