"""Requests made from the OpenAPI document, good and bad, to the whole service: the embedded model, a real cloud.

`make fuzz` sends FUZZ_CASES of each kind; without that a few, always the same.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from service.app import create_app
from service.engine.batcher import ModelThread
from service.engine.images import ImageLimits
from service.engine.loading import EngineConfig, load_engine
from service.engine.segmenter import Segmenter
from service.gcp.storage import ObjectStore
from service.settings import Settings
from service.web.bucket_images import BucketImages
from service.worker import Worker

CASES = int(os.environ.get("FUZZ_CASES", "0"))
FEW = 40
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
URI = "gs://sam3-input/fuzz/a.png"
URIS = [URI, f"{URI}#1", "gs://sam3-input/none.png", "gs://another-bucket/a.png"]


@pytest.fixture(scope="module")
def app(bench: Any, draw: Callable[..., bytes]) -> Iterator[Flask]:
    """Both doors, in this process. Events that cannot be read are refused, as there is no dead-letter topic."""
    found = Settings.from_environment(bench.cloud.environment() | {"DEAD_LETTER_TOPIC": ""})
    bench.upload("fuzz/a.png", draw(24, 20), "image/png")
    model = ModelThread(partial(load_engine, EngineConfig()))
    model.start().result(120)
    segmenter = Segmenter(model, ImageLimits(found.max_pixels))
    store = ObjectStore(bench.clients.storage)
    worker = Worker(found, store, bench.clients.publisher, segmenter, lambda: datetime.now(UTC))
    images = BucketImages(store, found.limits.read_buckets, found.max_object_bytes)
    yield create_app(found, segmenter, worker, images=images)
    model.close()


@pytest.fixture(scope="module")
def described(app: Flask) -> Any:
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


def fuzz(operation: Any, mode: GenerationMode, image: bytes) -> dict[int, int]:
    """Send the cases; how many had which status."""
    statuses: dict[int, int] = {}

    @settings(
        max_examples=CASES or FEW,
        deadline=None,
        database=None,
        derandomize=not CASES,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), st.integers(0, 7), st.sampled_from(URIS))
    def send(case: Any, die: int, uri: str) -> None:
        if die == 0:  # random bytes are no image, and random names no object
            with_real_image(case, image, uri)
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        # In a form all is text, also what should not have been.
        refused = mode is GenerationMode.NEGATIVE and case.media_type == "application/json"
        assert not (refused and answer.status_code == 200), case.body
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

    send()
    return statuses


def with_real_image(case: Any, image: bytes, uri: str) -> None:
    body = case.body
    if not isinstance(body, dict):
        return
    in_form = case.media_type == "multipart/form-data"
    real = {"image": image if in_form else base64.b64encode(image).decode(), "image_uri": uri}
    case.body = body | {name: value for name, value in real.items() if isinstance(body.get(name), str | bytes)}


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str, dict[int, int]], None]:
    """What `make fuzz` has sent, and how it was answered."""

    def tell(what: str, statuses: dict[int, int]) -> None:
        if CASES:
            with capsys.disabled():
                print(f"\n{what}: {sum(statuses.values())} requests, {dict(sorted(statuses.items()))}")  # noqa: T201

    return tell


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/segment", "/events"])
def test_bodies(described: Any, draw: Callable[..., bytes], tell: Any, path: str, mode: GenerationMode) -> None:
    statuses = fuzz(described[path]["POST"], mode, draw(24, 20))
    tell(f"POST {path}, {mode.value}", statuses)
    assert sum(statuses.values()) >= (CASES or FEW) / 2
    if path == "/segment" and mode is GenerationMode.POSITIVE:
        assert 200 in statuses
    if mode is GenerationMode.NEGATIVE:
        assert 400 in statuses


def test_everything_else(app: Flask, described: Any, tell: Any) -> None:
    served = {rule.rule for rule in app.url_map.iter_rules()}
    paths = [path for path, methods in described.raw_schema["paths"].items() if "get" in methods and path in served]
    assert {"/ready", "/health", "/docs", "/openapi.json"} <= set(paths)
    for path in paths:
        statuses = fuzz(described[path]["GET"], GenerationMode.POSITIVE, b"")
        tell(f"GET {path}", statuses)
        assert set(statuses) == {200}
