"""What /metrics of the real service says, and that docs/telemetry.md says the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.queue_slot import Terms
from service.telemetry.metrics import Metrics, metrics_table, render
from service.telemetry.model_metrics import ModelMetrics
from tests.scripted import ScriptedEngine

DOCS = Path(__file__).parent.parent.parent / "docs" / "telemetry.md"
EVENT = Terms(urgent=False)


class Samples:
    """The values of one scrape, by name and labels."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self._values.get((name, frozenset(labels.items())), 0.0)

    def values_of(self, label: str) -> set[str]:
        return {dict(labels)[label] for _, labels in self._values if label in dict(labels)}


@pytest.fixture
def scrape(service: Any) -> Callable[[], Samples]:
    def scrape() -> Samples:
        answer = requests.get(f"{service.url}/metrics", timeout=30)
        assert answer.ok
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return Samples(answer.text)

    return scrape


@pytest.fixture
def segment(service: Any, draw: Callable[..., bytes]) -> Callable[..., requests.Response]:
    def segment(*prompts: str, image: bytes = b"") -> requests.Response:
        parts: list[tuple[str, Any]] = [("image", ("a.png", image or draw()))]
        parts += [("prompts", (None, prompt)) for prompt in prompts]
        return requests.post(f"{service.url}/segment", files=parts, timeout=120)

    return segment


@pytest.fixture
def told(model: ModelThread) -> CollectorRegistry:
    """A registry that has heard of everything once, so that every metric has its labels."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.answered("segment", 200, 0.1)
    metrics.stage("decode", 0.0, 0.1)
    metrics.event("succeeded")
    metrics.forward("images", 1)
    metrics.texts(1, 1)
    metrics.found(1)
    model.start().result(30)
    registry.register(ModelMetrics(model, lambda: {"allocated": 7}))
    return registry


def test_the_table_in_the_docs_is_that_of_the_registry(told: CollectorRegistry) -> None:
    assert metrics_table(told) in DOCS.read_text()


def test_the_deployed_service_has_the_metrics_of_the_table(told: CollectorRegistry, scrape: Any) -> None:
    def names(families: Any) -> set[tuple[str, str]]:
        """But for the times at which series began."""
        ours = [family for family in families if family.name.startswith("sam3_")]
        return {(family.name, family.type) for family in ours if not family.name.endswith("_created")}

    assert names(scrape().families) == names(told.collect())


def test_a_request_is_counted(scrape: Callable[[], Samples], segment: Callable[..., requests.Response]) -> None:
    before = scrape()
    found = segment("red square", "a phrase of this test", "red square").json()["results"]
    assert segment("red square", image=b"text").status_code == 415
    after = scrape()

    def added(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    assert added("sam3_requests_total", door="segment", code="200") == 1
    assert added("sam3_requests_total", door="segment", code="415") == 1
    assert added("sam3_request_seconds_count", door="segment") == 2
    assert added("sam3_stage_seconds_count", stage="decode") == 2
    for stage in ("queue", "encode_image", "ground", "postprocess"):
        assert added("sam3_stage_seconds_count", stage=stage) == 1, stage
    assert added("sam3_batch_size_sum", items="images") == 1
    assert added("sam3_batch_size_sum", items="prompts") == 3
    assert added("sam3_text_cache_lookups_total", result="miss") in (1, 2)  # one may be known from another test
    assert sum(added("sam3_text_cache_lookups_total", result=result) for result in ("hit", "miss")) == 2
    assert added("sam3_instances_total") == sum(len(result["scores"]) for result in found) > 0


def test_a_phrase_is_encoded_once(scrape: Callable[[], Samples], segment: Callable[..., requests.Response]) -> None:
    segment("a square")
    before = scrape()
    segment("a square")
    after = scrape()
    changes = {r: after("sam3_text_cache_lookups_total", result=r) for r in ("hit", "miss")}
    assert changes["hit"] - before("sam3_text_cache_lookups_total", result="hit") == 1
    assert changes["miss"] == before("sam3_text_cache_lookups_total", result="miss")


def test_what_the_model_and_the_process_are(service: Any, scrape: Callable[[], Samples]) -> None:
    samples = scrape()
    ready = requests.get(f"{service.url}/ready", timeout=30).json()
    assert samples("sam3_model_ready") == 1
    for phase, ms in ready["phases_ms"].items():
        assert samples("sam3_model_phase_seconds", phase=phase) == ms / 1000
    assert samples.values_of("device") == {"cpu"}
    assert (samples("sam3_queue_depth", kind="people"), samples("sam3_queue_depth", kind="events")) == (0, 0)
    assert samples("process_resident_memory_bytes") > 1e8
    assert "sam3_gpu_memory_bytes" in {family.name for family in samples.families}


def test_callers_make_no_new_series(service: Any, scrape: Callable[[], Samples]) -> None:
    before = scrape().values_of("door")
    for path in ("/nope", "/segment/x", "/events/../x?y=z", "/%00"):
        for method in ("GET", "POST", "BREW"):
            requests.request(method, f"{service.url}{path}", timeout=30)
    samples = scrape()
    assert samples.values_of("door") <= before | {"none", "segment", "events", "health", "metrics"}
    assert all(code.isdigit() for code in samples.values_of("code"))


@pytest.fixture
def model() -> Iterator[ModelThread]:
    model = ModelThread(lambda report: ScriptedEngine(), BatchPolicy(queue_size=4))
    yield model
    model.close()


def gauges(model: ModelThread) -> Samples:
    registry = CollectorRegistry()
    registry.register(ModelMetrics(model, lambda: {"allocated": 7}))
    return Samples(render(registry)[0].decode())


def test_places_in_the_queue_are_told_apart(model: ModelThread) -> None:
    model.start().result(30)
    with model.slot(), model.slot(EVENT), model.slot(EVENT):
        samples = gauges(model)
        assert (samples("sam3_queue_depth", kind="people"), samples("sam3_queue_depth", kind="events")) == (1, 2)
    samples = gauges(model)
    assert (samples("sam3_queue_depth", kind="people"), samples("sam3_queue_depth", kind="events")) == (0, 0)


def test_the_gpu_is_asked_when_the_model_is_there(model: ModelThread) -> None:
    samples = gauges(model)
    assert (samples("sam3_model_ready"), samples("sam3_gpu_memory_bytes", kind="allocated")) == (0, 0)
    assert samples.values_of("device") == set()
    model.start().result(30)
    samples = gauges(model)
    assert (samples("sam3_model_ready"), samples("sam3_gpu_memory_bytes", kind="allocated")) == (1, 7)


def test_two_services_in_one_process_count_for_themselves() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    Metrics(first).found(3)
    Metrics(second).found(4)
    assert "sam3_instances_total 3.0" in render(first)[0].decode()
    assert "sam3_instances_total 4.0" in render(second)[0].decode()


def test_every_label_is_explained(told: CollectorRegistry) -> None:
    """In the documentation of its metric."""
    for family in told.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(re.findall(r"`(\w+)`", family.documentation)), family.name
