"""What needs a staged model: limits of the answer, a model that is loading, busy or broken."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.core.masks import Mask
from service.core.results import ImageInfo, Instance, ModelInfo, PromptResult, Segmentation
from service.engine.batcher import ModelThread, State
from service.engine.images import ImageLimits
from service.engine.segmenter import Segmenter
from service.errors import NotReady, QueueFull
from service.settings import Settings


class StagedSegmenter:
    """Answers so many instances, or raises."""

    def __init__(
        self, instances: int = 0, error: Exception | None = None, phase: str = "ready", side: int = 10
    ) -> None:
        self.info = ModelInfo("staged", "1", "cpu", "float32")
        self.state = State(phase, "no such folder" if phase == "failed" else "")
        self._instances = instances
        self._error = error
        self._side = side

    def segment(self, data: bytes, prompt_set: Any, terms: Any = None) -> Segmentation:
        if self._error:
            raise self._error
        pixels = np.random.default_rng(0).integers(0, 2, (self._side, self._side), np.uint8)
        mask = Mask.of(pixels, 0, 0, (self._side, self._side))
        result = PromptResult("cat", (Instance(0.9, (0.0, 0.0, 1.0, 1.0), mask),) * self._instances)
        return Segmentation(ImageInfo(self._side, self._side), self.info, (result,))


Client = Callable[..., FlaskClient]


@pytest.fixture
def client() -> Client:
    def client(segmenter: StagedSegmenter, **environment: str) -> FlaskClient:
        return create_app(Settings.from_environment(environment), segmenter, None).test_client()  # type: ignore[arg-type]

    return client


def post(client: FlaskClient, **fields: str) -> Any:
    return client.post("/segment", data={"image": (io.BytesIO(b"x"), "x.jpg"), "prompts": "cat"} | fields)


def test_as_many_instances_as_allowed(client: Client) -> None:
    assert post(client(StagedSegmenter(1000))).status_code == 200


def test_too_many_instances_are_never_cut(client: Client) -> None:
    answer = post(client(StagedSegmenter(1001)))
    assert answer.status_code == 413
    assert "MAX_TOTAL_INSTANCES" in answer.json["detail"]
    assert "gs://" in answer.json["detail"]


def test_a_large_answer_is_never_cut(client: Client) -> None:
    answer = post(client(StagedSegmenter(500), MAX_RESPONSE_BYTES="2000"))
    assert answer.status_code == 413
    assert "MAX_RESPONSE_BYTES" in answer.json["detail"]


def test_a_large_picture_is_never_cut(client: Client) -> None:
    """A mask of noise cannot be made smaller."""
    answer = post(client(StagedSegmenter(1, side=100), MAX_RESPONSE_BYTES="1024"), format="png")
    assert answer.status_code == 413
    assert "MAX_RESPONSE_BYTES" in answer.json["detail"]
    assert post(client(StagedSegmenter(1, side=100)), format="png").status_code == 200


def test_too_many_instances_are_in_no_picture(client: Client) -> None:
    assert post(client(StagedSegmenter(1001)), format="png").status_code == 413


def test_a_full_queue(client: Client) -> None:
    answer = post(client(StagedSegmenter(error=QueueFull("the queue is full"))))
    assert (answer.status_code, answer.json["code"], answer.json["retryable"]) == (429, "queue_full", True)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_loading_model(client: Client) -> None:
    answer = post(client(StagedSegmenter(error=NotReady("loading"), phase="loading")))
    assert (answer.status_code, answer.json["code"]) == (503, "loading")
    assert int(answer.headers["Retry-After"]) > 0


def test_no_object_is_read_while_the_model_loads() -> None:
    """There is no bucket to read either, which would be another answer."""
    segmenter = Segmenter(ModelThread(lambda report: pytest.fail("not started")), ImageLimits())
    loading = create_app(Settings.from_environment({}), segmenter, None).test_client()
    answer = loading.post("/segment", json={"image_uri": "gs://photos/a.jpg", "prompts": ["cat"]})
    assert (answer.status_code, answer.json["code"]) == (503, "loading")


def test_an_unexpected_error_shows_no_internals(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    answer = post(client(StagedSegmenter(error=RuntimeError("secret /etc/path"))))
    assert (answer.status_code, answer.json["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert caplog.records[-1].exc_info is not None


@pytest.mark.parametrize("path", ["/health", "/healthz"])
@pytest.mark.parametrize(
    ("phase", "status"), [("starting", 200), ("loading", 200), ("ready", 200), ("failed", 503), ("closed", 503)]
)
def test_health_follows_the_model_thread(client: Client, path: str, phase: str, status: int) -> None:
    assert client(StagedSegmenter(phase=phase)).get(path).status_code == status


@pytest.mark.parametrize(("phase", "status"), [("downloading", 503), ("warming", 503), ("ready", 200), ("failed", 503)])
def test_ready_only_when_the_model_answers(client: Client, phase: str, status: int) -> None:
    answer = client(StagedSegmenter(phase=phase)).get("/ready")
    assert answer.status_code == status
    assert answer.json["phase"] == phase
    assert bool(answer.json["reason"]) == (phase == "failed")


def test_events_without_input_buckets_are_not_acknowledged(client: Client) -> None:
    answer = client(StagedSegmenter()).post("/events", data=b"{}")
    assert (answer.status_code, answer.json["code"]) == (503, "events_off")
