"""The examples of the docs whose image lies in a bucket: `photos` has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.examples import EXAMPLES, Example, prepare

IN_A_BUCKET = [example for example in EXAMPLES if example.in_a_bucket]


@pytest.mark.parametrize("example", IN_A_BUCKET, ids=lambda example: example.where)
def test_an_example(reading: Any, tmp_path: Path, example: Example) -> None:
    example.run(reading.url, prepare(tmp_path))


def test_there_are_some() -> None:
    assert IN_A_BUCKET
