"""Every curl, Python and JavaScript example of the docs is run as it stands, against a real service.

Those with an image in a bucket are run by tests/cloud/test_examples.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.examples import EXAMPLES, ROOT, RUNNERS, Example, prepare

HERE = [example for example in EXAMPLES if not example.in_a_bucket]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("examples"))


@pytest.mark.parametrize("example", HERE, ids=lambda example: example.where)
def test_an_example(service: Any, folder: Path, example: Example) -> None:
    example.run(service.url, folder)


def test_there_are_some_of_each_language() -> None:
    assert {example.language for example in EXAMPLES if example.where.startswith("docs/api.md")} == set(RUNNERS)


def test_the_error_that_is_shown_is_the_one_that_comes(service: Any, folder: Path) -> None:
    shown = re.search(r'^{"type".*?}$', (ROOT / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shown
    image = {"image": (folder / "photo.jpg").read_bytes()}
    form = {"prompts": "cat", "threshold": "2"}
    assert requests.post(f"{service.url}/segment", files=image, data=form, timeout=60).json() == json.loads(shown[0])


@pytest.mark.parametrize(
    "line",
    [
        "curl -F image=@photo.jpg -F prompts=cat -F prompts=dog -F return_masks=true ",
        "curl -F image=@photo.jpg -F prompts=cat -F prompts=dog -F return_contours=true ",
    ],
)
def test_the_lines_of_the_first_service_are_among_them(line: str) -> None:
    assert any(example.text.startswith(line) for example in HERE if example.where.startswith("docs/api.md"))
