"""Services whose model is in a bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from service.engine.weights import EMBEDDED

BUCKET = "sam3-input"


@pytest.fixture
def environment(bench: Any, tmp_path: Path) -> dict[str, str]:
    names = ("STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT")
    cloud = {name: bench.cloud.environment()[name] for name in names}
    return cloud | {"SAM3_CACHE_DIR": str(tmp_path / "cache")}


def upload(bench: Any, prefix: str, leave_out: str = "") -> str:
    for path in EMBEDDED.iterdir():
        if path.name != leave_out:
            bench.clients.storage.bucket(BUCKET).blob(f"{prefix}/{path.name}").upload_from_filename(path)
    return f"gs://{BUCKET}/{prefix}"


def test_a_service_starts_from_a_bucket(
    bench: Any,
    environment: dict[str, str],
    start_service: Callable[..., Any],
    draw: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    uri = upload(bench, "models/good")
    service = start_service(environment | {"SAM3_MODEL": uri}).wait_until_ready()
    answer = requests.post(
        f"{service.url}/segment", files={"image": draw()}, data={"prompts": "red square"}, timeout=100
    )
    assert answer.status_code == 200, answer.text
    model = answer.json()["model"]
    assert model["id"] == uri
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [model["revision"]]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gs://no-such-bucket/model", "'gs://no-such-bucket/model/' does not exist"),
        (f"gs://{BUCKET}/models/none", f"'gs://{BUCKET}/models/none' holds no files of a model"),
        ("", "lacks tokenizer.json"),
    ],
    ids=["bucket", "prefix", "file"],
)
def test_a_model_that_cannot_be_fetched_is_one_line_and_the_end(
    bench: Any,
    environment: dict[str, str],
    start_service: Callable[..., Any],
    tmp_path: Path,
    uri: str,
    message: str,
) -> None:
    uri = uri or upload(bench, "models/half", leave_out="tokenizer.json")
    service = start_service(environment | {"SAM3_MODEL": uri})
    assert service.wait() != 0
    [line] = [line for line in service.output().splitlines() if json.loads(line)["severity"] == "CRITICAL"]
    assert message in json.loads(line)["message"]
    assert "Traceback" not in service.output()
    assert not [path for path in tmp_path.glob("cache/*") if path.is_dir()]
