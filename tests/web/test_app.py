"""What needs a staged model: limits of the answer, a model that is loading, busy or broken."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.app import create_app
from service.core.prompts import Prompt, PromptSet
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.segmenter import Segmenter
from service.engine.state import Phase
from service.settings import Settings
from service.web import health
from tests.scripted import ScriptedEngine
from tests.staged import picture, running, segmenter_in, segmenter_of, unstarted_segmenter

PIXEL = picture()
Client = Callable[..., FlaskClient]


@pytest.fixture
def client() -> Client:
    def client(segmenter: Segmenter, **environment: str) -> FlaskClient:
        return create_app(Settings.from_environment(environment), segmenter, None).test_client()

    return client


def post(client: FlaskClient, image: bytes = PIXEL, **fields: str) -> Any:
    return client.post("/segment", data={"image": (io.BytesIO(image), "x.png"), "prompts": "cat"} | fields)


def ask_for(client: Client, engine: ScriptedEngine, prompts: int, limit: int = 1000, **fields: str) -> Any:
    """What a segmenter of the scripted engine answers for so many prompts on one pixel."""
    asked = {"image": (io.BytesIO(PIXEL), "x.png"), "prompts": [str(n) for n in range(prompts)], **fields}
    with segmenter_of(engine) as segmenter:
        return client(segmenter, MAX_TOTAL_INSTANCES=str(limit)).post("/segment", data=asked)


def test_as_many_instances_as_allowed(client: Client) -> None:
    answer = ask_for(client, ScriptedEngine(instances=20), prompts=5, limit=100)
    assert sum(len(result["scores"]) for result in answer.get_json()["results"]) == 100


@pytest.mark.parametrize("format", ["json", "png"])
def test_too_many_instances_are_never_cut(client: Client, format: str) -> None:
    answer = ask_for(client, ScriptedEngine(instances=20), prompts=5, limit=99, format=format)
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")
    assert "100 instances were found; an answer holds at most 99 (MAX_TOTAL_INSTANCES)" in answer.get_json()["detail"]
    assert "gs://" in answer.get_json()["detail"]


def test_no_more_prompts_are_grounded_than_it_takes_to_find_too_many(client: Client) -> None:
    engine = ScriptedEngine(instances=200)
    assert ask_for(client, engine, prompts=64).status_code == 413
    assert engine.inferences == 8  # two forwards of four prompts


def test_what_nms_drops_does_not_count(client: Client) -> None:
    answer = ask_for(client, ScriptedEngine(instances=20), prompts=3, limit=20, nms_iou="0.5")
    assert sum(len(result["scores"]) for result in answer.get_json()["results"]) == 20


@pytest.mark.parametrize("options", [{}, {"nms_iou": "0.5"}])
def test_no_mask_is_made_for_an_answer_that_is_refused(client: Client, options: dict[str, str]) -> None:
    """Of these masks none can be made."""

    def ask(limit: int) -> Any:
        engine = ScriptedEngine(instances=20, mask=np.full((2, 2), None))
        return ask_for(client, engine, prompts=1, limit=limit, **options)

    assert ask(19).status_code == 413
    assert ask(20).status_code == 500


BUCKETS = {"INPUT_BUCKETS": "photos-in", "OUTPUT_BUCKET": "photos-out"}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "make it smaller, or set READ_BUCKETS and name it by image_uri (gs://bucket/object)"),
        ({"READ_BUCKETS": "photos"}, "instead of sending the image, name it by image_uri (gs://bucket/object)"),
        (BUCKETS, "(gs://bucket/object) or upload it to an input bucket (gs://) with a sidecar"),
    ],
)
def test_what_to_do_with_a_large_body_is_what_the_service_can_do(
    client: Client, environment: dict[str, str], said: str
) -> None:
    answer = post(client(unstarted_segmenter(), MAX_BODY_BYTES="1024", **environment), bytes(2000))
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")
    assert answer.get_json()["detail"].endswith(said)


def test_a_large_answer_is_never_cut(client: Client) -> None:
    with segmenter_of(ScriptedEngine(instances=100)) as segmenter:
        answer = post(client(segmenter, MAX_RESPONSE_BYTES="2000"))
    assert answer.status_code == 413
    assert "MAX_RESPONSE_BYTES" in answer.get_json()["detail"]


def test_a_large_picture_is_never_cut(client: Client) -> None:
    """A mask of noise cannot be made smaller."""
    noise = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
    with segmenter_of(ScriptedEngine(instances=1, mask=noise)) as segmenter:
        answer = post(client(segmenter, MAX_RESPONSE_BYTES="1024"), picture(200), format="png")
        assert answer.status_code == 413
        assert "MAX_RESPONSE_BYTES" in answer.get_json()["detail"]
        assert post(client(segmenter), picture(200), format="png").status_code == 200


def test_a_full_queue(client: Client) -> None:
    model = ModelThread(lambda report: ScriptedEngine(), BatchPolicy(queue_size=1))
    with running(model) as segmenter, model.slot():
        answer = post(client(segmenter))
    assert (answer.status_code, answer.get_json()["code"], answer.get_json()["retryable"]) == (429, "queue_full", True)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_loading_model(client: Client) -> None:
    with segmenter_in("loading") as segmenter:
        answer = post(client(segmenter))
    assert (answer.status_code, answer.get_json()["code"]) == (503, "loading")
    assert int(answer.headers["Retry-After"]) > 0


def test_no_object_is_read_while_the_model_loads() -> None:
    """There is no bucket to read either, which would be another answer."""
    loading = create_app(Settings.from_environment({}), unstarted_segmenter(), None).test_client()
    answer = loading.post("/segment", json={"image_uri": "gs://photos/a.jpg", "prompts": ["cat"]})
    assert (answer.status_code, answer.get_json()["code"]) == (503, "loading")


def test_an_unexpected_error_shows_no_internals(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    def fail(prompts: int) -> None:
        raise RuntimeError("secret /etc/path")

    with segmenter_of(ScriptedEngine(fail)) as segmenter:
        answer = post(client(segmenter))
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert caplog.records[-1].exc_info is not None


@pytest.mark.parametrize("path", ["/health", "/healthz"])
@pytest.mark.parametrize(
    ("phase", "status"), [("starting", 200), ("loading", 200), ("ready", 200), ("failed", 503), ("closed", 503)]
)
def test_health_follows_the_model_thread(client: Client, path: str, phase: Phase, status: int) -> None:
    with segmenter_in(phase) as segmenter:
        assert client(segmenter).get(path).status_code == status


def test_health_fails_while_a_forward_does_not_return(eventually: Any) -> None:
    """The model is ready all the while, and answers nobody."""
    gate = threading.Event()

    def hang(prompts: int) -> None:
        assert gate.wait(60)

    with segmenter_of(ScriptedEngine(hang)) as segmenter, ThreadPoolExecutor(1) as threads:
        app = Flask("probes")
        app.register_blueprint(health.blueprint(segmenter, longest_forward_s=0.05))
        probes = app.test_client()
        assert probes.get("/health").status_code == 200
        first = threads.submit(segmenter.segment, picture(), PromptSet((Prompt("cat"),)))
        try:
            eventually(lambda: probes.get("/health").status_code == 503, 60)
            answer = probes.get("/health").get_json()
            assert (answer["phase"], answer["status"]) == ("ready", "unavailable")
            assert answer["reason"] == "a forward of the model has been running for longer than 0.05 s"
        finally:
            gate.set()
        first.result(60)
        eventually(lambda: probes.get("/health").status_code == 200, 60)
        assert segmenter.running_s == 0


@pytest.mark.parametrize(("phase", "status"), [("downloading", 503), ("warming", 503), ("ready", 200), ("failed", 503)])
def test_ready_only_when_the_model_answers(client: Client, phase: Phase, status: int) -> None:
    with segmenter_in(phase) as segmenter:
        answer = client(segmenter).get("/ready")
    assert answer.status_code == status
    assert answer.get_json()["phase"] == phase
    assert bool(answer.get_json()["reason"]) == (phase != "ready")


@pytest.mark.parametrize("request_of", [{"json": {"access_token": "SECRET"}}, {"query_string": {"image": "SECRET"}}])
def test_no_value_that_was_sent_under_a_wrong_name_or_place_is_shown(
    client: Client, caplog: pytest.LogCaptureFixture, request_of: dict[str, Any]
) -> None:
    caplog.set_level("DEBUG")
    answer = client(unstarted_segmenter()).post("/segment", **request_of)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_field")
    assert "SECRET" not in answer.text
    assert not [record for record in caplog.records if "SECRET" in str(vars(record))]


def test_events_without_input_buckets_are_not_acknowledged(client: Client) -> None:
    answer = client(unstarted_segmenter()).post("/events", data=b"{}")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "events_off")
