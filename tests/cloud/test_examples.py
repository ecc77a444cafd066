"""The examples of the docs that need a cloud: an image in the bucket `photos`, or results and their messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import drawing
from tests.examples import EXAMPLES, Example, examples_of, prepare

IN_A_BUCKET = [example for example in EXAMPLES if example.in_a_bucket]


@pytest.mark.parametrize("example", IN_A_BUCKET, ids=lambda example: example.where)
def test_an_example(reading: Any, tmp_path: Path, example: Example) -> None:
    example.run(reading.url, prepare(tmp_path))


def test_there_are_some() -> None:
    assert IN_A_BUCKET


def test_results_are_received(bench: Any, stage: Callable[..., Any], tmp_path: Path) -> None:
    subscription = f"projects/{bench.cloud.settings.project}/subscriptions/shown"
    topic = bench.cloud.environment()["RESULTS_TOPIC"]
    bench.clients.subscriber.create_subscription(request={"name": subscription, "topic": topic})
    worker = stage()
    for name, prompts, status in (("good.png", '["mug cup"]', "succeeded"), ("bad.png", "[", "failed")):
        event = bench.upload(f"shown/{name}", drawing(), "image/png", {"prompts": prompts})
        assert worker.handle(event) == [status]
    (example,) = (each for each in examples_of("docs/events.md") if each.language == "python")
    shown = example.run("", tmp_path, bench.cloud.environment() | {"SUBSCRIPTION": subscription})
    assert re.search(r"shown/good.png mug cup \[0.9\] \(1, 10, 10\)$", shown, re.MULTILINE)
    assert "shown/bad.png bad_sidecar" in shown
