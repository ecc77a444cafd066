"""What needs a staged model: limits of the answer, a model that is loading, busy or broken."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from service.app import create_app
from service.core.masks import Mask
from service.core.results import ImageInfo, Instance, ModelInfo, PromptResult, Segmentation
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.images import ImageLimits
from service.engine.segmenter import Segmenter
from service.engine.state import Phase, State
from service.errors import NotReady, QueueFull
from service.settings import Settings
from tests.scripted import ScriptedEngine


class StagedSegmenter:
    """Answers so many instances, or raises."""

    def __init__(
        self, instances: int = 0, error: Exception | None = None, phase: Phase = "ready", side: int = 10
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
    def client(segmenter: StagedSegmenter | Segmenter, **environment: str) -> FlaskClient:
        return create_app(Settings.from_environment(environment), segmenter, None).test_client()  # type: ignore[arg-type]

    return client


def post(client: FlaskClient, **fields: str) -> Any:
    return client.post("/segment", data={"image": (io.BytesIO(b"x"), "x.jpg"), "prompts": "cat"} | fields)


@contextmanager
def real_segmenter(engine: ScriptedEngine) -> Iterator[Segmenter]:
    model = ModelThread(lambda report: engine, BatchPolicy(prompt_batch=4))
    model.start().result(60)
    try:
        yield Segmenter(model, ImageLimits())
    finally:
        model.close()


def ask_for(client: Client, engine: ScriptedEngine, prompts: int, limit: int = 1000, **fields: str) -> Any:
    """What a segmenter of the scripted engine answers for so many prompts on one pixel."""
    pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")
    image = io.BytesIO(pixel.getvalue()), "x.png"
    asked = {"image": image, "prompts": [str(n) for n in range(prompts)], **fields}
    with real_segmenter(engine) as segmenter:
        return client(segmenter, MAX_TOTAL_INSTANCES=str(limit)).post("/segment", data=asked)


def test_as_many_instances_as_allowed(client: Client) -> None:
    answer = ask_for(client, ScriptedEngine(instances=20), prompts=5, limit=100)
    assert sum(len(result["scores"]) for result in answer.json["results"]) == 100


@pytest.mark.parametrize("format", ["json", "png"])
def test_too_many_instances_are_never_cut(client: Client, format: str) -> None:
    answer = ask_for(client, ScriptedEngine(instances=20), prompts=5, limit=99, format=format)
    assert (answer.status_code, answer.json["code"]) == (413, "too_large")
    assert "100 instances were found; an answer holds at most 99 (MAX_TOTAL_INSTANCES)" in answer.json["detail"]
    assert "gs://" in answer.json["detail"]


def test_no_more_prompts_are_grounded_than_it_takes_to_find_too_many(client: Client) -> None:
    engine = ScriptedEngine(instances=200)
    assert ask_for(client, engine, prompts=64).status_code == 413
    assert engine.inferences == 8  # two forwards of four prompts


def test_what_nms_drops_does_not_count(client: Client) -> None:
    answer = ask_for(client, ScriptedEngine(instances=20), prompts=3, limit=20, nms_iou="0.5")
    assert sum(len(result["scores"]) for result in answer.json["results"]) == 20


@pytest.mark.parametrize("options", [{}, {"nms_iou": "0.5"}])
def test_no_mask_is_made_for_an_answer_that_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    monkeypatch.setattr("service.engine.segmenter.crop_masks", lambda *_: pytest.fail("a mask is made"))
    assert ask_for(client, ScriptedEngine(instances=20), prompts=1, limit=19, **options).status_code == 413


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
    assert bool(answer.json["reason"]) == (phase != "ready")


@pytest.mark.parametrize("request_of", [{"json": {"access_token": "SECRET"}}, {"query_string": {"image": "SECRET"}}])
def test_no_value_that_was_sent_under_a_wrong_name_or_place_is_shown(
    client: Client, caplog: pytest.LogCaptureFixture, request_of: dict[str, Any]
) -> None:
    caplog.set_level("DEBUG")
    answer = client(StagedSegmenter()).post("/segment", **request_of)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_field")
    assert "SECRET" not in answer.text
    assert not [record for record in caplog.records if "SECRET" in str(vars(record))]


def test_events_without_input_buckets_are_not_acknowledged(client: Client) -> None:
    answer = client(StagedSegmenter()).post("/events", data=b"{}")
    assert (answer.status_code, answer.json["code"]) == (503, "events_off")
