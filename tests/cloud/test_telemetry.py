"""What events leave in metrics and logs, pushed and pulled, and pushes with tokens from end to end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.serving import make_server

from service.app import create_app
from service.core.context import Trace
from service.core.envelopes import Message
from service.gcp.push_tokens import PushTokens
from service.pull import Door
from service.settings import Settings
from service.telemetry.listening import listen
from service.worker import Worker
from tools.localcloud.settings import LocalCloudSettings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def own_bench(open_bench: Callable[..., Any]) -> Iterator[Any]:
    bench = open_bench(LocalCloudSettings())
    yield bench
    bench.cloud.push_to("")


def sample(url: str, name: str, **labels: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=30).text
    found = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return next((each.value for each in found if (each.name, each.labels) == (name, labels)), 0.0)


def lines(service: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.output().splitlines()]


def upload(bench: Any, name: str, image: bytes) -> None:
    bench.upload(f"{name}.prompts.json", '["red square"]', "application/json")
    bench.upload(name, image, "image/png")


def labels_of(line: dict[str, Any]) -> dict[str, str]:
    return dict(line["logging.googleapis.com/labels"])


EVENT_STAGES = ["fetch", "decode", "queue", "encode_image", "ground", "postprocess", "write", "announce"]


def test_pushed_events(
    own_bench: Any,
    collector: Any,
    start_service: Callable[..., Any],
    draw: Callable[..., bytes],
    eventually: Callable[..., None],
) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    service = start_service(own_bench.cloud.environment() | endpoint).wait_until_ready()
    own_bench.cloud.push_to(f"{service.url}/events")
    upload(own_bench, "told.png", draw())
    eventually(lambda: sample(service.url, "sam3_events_total", outcome="succeeded") == 1, 60, service.output)
    upload(own_bench, "text.png", b"text")
    eventually(lambda: sample(service.url, "sam3_events_total", outcome="failed") == 1, 60, service.output)
    own_bench.wait_until_quiet(60)
    assert sample(service.url, "sam3_stage_seconds_count", stage="fetch") >= 2
    assert sample(service.url, "sam3_stage_seconds_count", stage="write") >= 2
    told = sum(sample(service.url, "sam3_events_total", outcome=each) for each in ("succeeded", "failed", "replayed"))
    assert sample(service.url, "sam3_stage_seconds_count", stage="announce") == told >= 2
    assert sample(service.url, "sam3_requests_total", door="events", code="204") >= 4

    [outcome] = [line for line in lines(service) if line["message"] == "succeeded"]
    labels = labels_of(outcome)
    assert outcome["subject"] == "gs://sam3-input/told.png"
    assert labels["message_id"]
    if not own_bench.official:  # which does not tell
        assert labels["delivery_attempt"] == "1"
    assert labels["subscription"] == own_bench.cloud.settings.uploads_subscription.split("/")[-1]
    requests_of_it = [
        line for line in lines(service) if line["message"] == "POST /events" and labels_of(line) == labels
    ]
    assert [line["status"] for line in requests_of_it] == [204]
    assert set(requests_of_it[0]["stages_ms"]) >= {"fetch", "decode", "ground", "write", "announce"}
    project = own_bench.cloud.settings.project
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    requests.post(f"{service.url}/events", b"", headers=headers, timeout=30)
    assert lines(service)[-1]["logging.googleapis.com/trace"] == f"projects/{project}/traces/{TRACE}"
    own_bench.cloud.push_to("")
    service.__exit__()  # what is left of the spans is exported at the end
    check_spans(collector.spans, outcome["logging.googleapis.com/spanId"])


def check_spans(spans: list[Any], span_id: str) -> None:
    """The stages of the event whose span has this id, one after the other."""
    [event] = [span for span in spans if span.span_id.hex() == span_id]
    assert event.name == "POST /events"
    assert {a.key: a.value.string_value for a in event.attributes}["sam3.outcome"] == "succeeded"
    stages = [span for span in spans if span.parent_span_id == event.span_id]
    by_start = sorted(stages, key=lambda span: span.start_time_unix_nano)
    names = [span.name for span in by_start]
    assert [name for name in names if name != "fetch"] == EVENT_STAGES[1:]
    assert names[0] == "fetch"
    assert {span.trace_id for span in stages} == {event.trace_id}


def test_an_event_that_comes_again_is_counted_by_its_error(
    own_bench: Any, start_service: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    service = start_service(own_bench.cloud.environment() | {"JOBS_TOPIC": ""}).wait_until_ready()
    own_bench.cloud.push_to(f"{service.url}/events")
    own_bench.upload("_prompts.json", '["red square"]', "application/json")
    eventually(lambda: sample(service.url, "sam3_events_total", outcome="events_off") >= 1, 60, service.output)
    assert sample(service.url, "sam3_requests_total", door="events", code="503") >= 1


def test_pulled_events(
    own_bench: Any, start_service: Callable[..., Any], draw: Callable[..., bytes], eventually: Callable[..., None]
) -> None:
    settings = own_bench.cloud.settings
    command = ("-m", "service.pull", "--subscription", settings.uploads_subscription, "--health-port", "{port}")
    service = start_service(own_bench.cloud.environment(), command).wait_until_ready()
    upload(own_bench, "pulled.png", draw())
    eventually(lambda: own_bench.output("pulled.png.json") is not None, 60, service.output)
    eventually(lambda: sample(service.url, "sam3_events_total", outcome="succeeded") == 1, 60, service.output)

    def acknowledged() -> list[dict[str, Any]]:
        return [line for line in lines(service) if line["message"] == "acknowledged" and "write" in line["stages_ms"]]

    eventually(acknowledged, 60, service.output)
    [line] = acknowledged()
    [outcome] = [line for line in lines(service) if line["message"] == "succeeded"]
    assert labels_of(line) == labels_of(outcome)
    assert labels_of(line)["message_id"]
    assert labels_of(line)["delivery_attempt"] == "1"
    assert line["ms"] >= line["stages_ms"]["write"]


def test_a_pulled_message_brings_its_trace(own_bench: Any, stage: Callable[..., Any]) -> None:
    spans = []

    def span(name: str, parent: Trace | None) -> Any:
        spans.append((name, parent))
        return nullcontext(parent)

    door = Door(stage(own_bench).worker, span)
    needless = {"eventType": "OBJECT_DELETE", "bucketId": "sam3-input", "objectId": "x.png", "objectGeneration": "1"}
    for attributes in ({"googclient_traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, {}):
        assert door.deliver(Message(b"", needless | attributes))
    assert spans == [("pull", Trace(TRACE, "00f067aa0ba902b7", True)), ("pull", None)]


def test_pushes_with_tokens(own_bench: Any, stage: Callable[..., Any], eventually: Callable[..., None]) -> None:
    """The emulator signs as Google does; the wrong account and no token at all are delivered again for ever."""
    own_bench.skip_official("signs no tokens")
    staged = stage(own_bench)
    telemetry = listen(None, ExitStack())
    settings = Settings.from_environment(own_bench.cloud.environment())
    worker = Worker(
        settings,
        staged.store,
        staged.publisher,
        staged.segmenter,
        lambda: datetime.now(UTC),
        observer=telemetry.observer,
    )
    with closing(PushTokens("sam3", "pusher@p.iam", own_bench.cloud.certs_url)) as tokens:
        app = create_app(settings, staged.segmenter, worker, telemetry=telemetry, check_push=tokens.check)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            own_bench.cloud.push_to(f"{url}/events")
            own_bench.upload("token.png.prompts.json", '["cat"]', "application/json")
            own_bench.upload("token.png", b"image", "image/png")
            eventually(lambda: sample(url, "sam3_requests_total", door="events", code="401") >= 1, 60)
            own_bench.cloud.push_to(f"{url}/events", "somebody@p.iam", "sam3")
            eventually(lambda: sample(url, "sam3_requests_total", door="events", code="403") >= 1, 60)
            assert staged.segmenter.calls == 0
            own_bench.cloud.push_to(f"{url}/events", "pusher@p.iam", "sam3")
            eventually(lambda: own_bench.output("token.png.json") is not None, 60)
        finally:
            own_bench.cloud.push_to("")
            server.shutdown()
            thread.join()
            server.server_close()
