"""`sam3 soak --quick` loses nothing, and its checks see what would be a loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import NotFound

from tools.localcloud.cloud import LocalCloud
from tools.localcloud.faults import Script
from tools.process import ServiceProcess
from tools.soak.checks import Message, Rest, violations
from tools.soak.plan import Plan
from tools.soak.run import under_fire
from tools.soak.traffic import Traffic

ROOT = Path(__file__).parents[2]
POISON = (b"poison",)


def test_a_small_soak_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from tools.cli import main; sys.exit(main())", "soak", "--quick"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "soak.json")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "soak.json").read_text())
    assert document["violations"] == []
    figures = document["figures"]
    assert figures["documents"] == figures["images"] == 60
    for what in ("calls lost", "deliveries made twice on purpose", "replays", "kill -9", "SIGTERM"):
        assert figures[what] > 0, what
    assert figures["burst while loading: deliveries refused"] > 0


def test_an_upload_that_fails_ends_the_soak(tmp_path: Path) -> None:
    """Neither do others wait for it for ever, nor is it taken for a loss of the service."""
    plan = Plan(images=20, kills=1, terms=0)
    with LocalCloud() as cloud:
        cloud.storage.bucket(cloud.settings.input_buckets[0]).delete()
        service = ServiceProcess({}, tmp_path / "log")  # never started: nothing is written before which it is killed
        with pytest.raises(NotFound):
            under_fire(plan, service, Traffic(plan, cloud), Script())


@pytest.fixture
def good() -> Rest:
    """What a small plan leaves behind where all goes well."""
    inputs: dict[str, int] = {}
    outputs: dict[str, Any] = {}
    for image in planned():
        inputs[image.name] = inputs[image.prompts_name] = image.number + 1
        document = {
            "job_id": image.name,
            "input": {"generation": image.number + 1},
            "request": {
                "prompts": [{"text": label} for label in image.labels(image.prompts_versions)],
                "source": {"generation": image.number + 1},
            },
        }
        if image.kind == "broken":
            outputs[f"{image.name}.error.json"] = document | {"error": {}}
        else:
            outputs[f"{image.name}.0123456789ab.json" if image.kind == "job" else f"{image.name}.json"] = document
    for image in planned():  # a folder has one object of prompts
        if image.kind == "folder":
            inputs[image.prompts_name] = 1
            outputs[f"{image.name}.json"]["request"]["source"] = {"generation": 1}
    announced = [Message(b"", {"job_id": document["job_id"]}) for document in outputs.values()]
    return Rest(inputs, outputs, announced, [Message(b"poison", {"reason": "not understood"})])


def planned() -> list[Any]:
    return [Plan().image(number) for number in range(20)]


def test_nothing_is_wrong_with_what_is_right(good: Rest) -> None:
    assert {image.kind for image in planned()} == {"before", "after", "together", "folder", "job", "broken"}
    assert violations(good, planned(), POISON) == []


def changed(good: Rest, name: str, **changes: Any) -> Rest:
    return replace(good, outputs={**good.outputs, name: {**good.outputs[name], **changes}})


def lacking(good: Rest, name: str) -> Rest:
    return replace(good, inputs={each: generation for each, generation in good.inputs.items() if each != name})


def test_each_loss_is_seen(good: Rest) -> None:
    result = "before/0.png.json"
    without = {name: document for name, document in good.outputs.items() if name != result}
    rotten = {
        "before/0.png: 0 results": replace(good, outputs=without),
        "before/0.png: 2 results": replace(good, outputs={**good.outputs, "before/0.png.error.json": {}}),
        f"{result}: half a document": replace(good, outputs={**good.outputs, result: {}}),
        f"{result}: not the kind": changed(good, result, error={}),
        f"{result}: of generation 7, live is 1": changed(good, result, input={"generation": 7}),
        f"{result}: of prompts ['old']": changed(
            good, result, request=good.outputs[result]["request"] | {"prompts": [{"text": "old"}]}
        ),
        f"{result}: of prompts {{'generation': 9}}": changed(
            good, result, request=good.outputs[result]["request"] | {"source": {"generation": 9}}
        ),
        f"{result}: of generation 1, live is None": lacking(good, "before/0.png"),
        f"{result}: of prompts {{'generation': 1}}, live are None": lacking(good, "before/0.png.prompts.json"),
        f"{result}: not announced": replace(good, announced=good.announced[1:]),
        "extra.json: nobody's": replace(good, outputs={**good.outputs, "extra.json": {}}),
        "the dead letter b'healthy'": replace(good, dead_letters=[*good.dead_letters, Message(b"healthy", {})]),
        "the dead letter b'poison' is missing": replace(good, dead_letters=[]),
        "the dead letter b'poiso' is healthy": replace(good, dead_letters=[Message(b"poiso", {"reason": "cut"})]),
    }
    for line, rest in rotten.items():
        found = violations(rest, planned(), POISON)
        assert any(each.startswith(line) for each in found), (line, found)
