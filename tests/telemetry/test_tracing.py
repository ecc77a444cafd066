"""Spans as a collector gets them: OTLP over HTTP, from the real process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

from service.telemetry import tracing
from tests.collector import Collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
STAGES = ["decode", "queue", "encode_image", "ground", "postprocess"]


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.int_value or each.value.string_value for each in span.attributes}


def test_a_request_is_a_span_and_its_stages_are_in_it(
    collector: Collector, start_service: Callable[..., Any], draw: Callable[..., bytes]
) -> None:
    service = start_service({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}).wait_until_ready()
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    files = {"image": draw()}
    answer = requests.post(
        f"{service.url}/segment", files=files, data={"prompts": "square"}, headers=headers, timeout=60
    )
    assert answer.ok, answer.text
    assert requests.get(f"{service.url}/nope/secret", timeout=60).status_code == 404
    unsampled = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    assert requests.post(f"{service.url}/segment", data=b"", headers=unsampled, timeout=60).status_code == 400
    service.__exit__()  # what is left is exported at the end

    by_name = {span.name: span for span in collector.spans}
    assert set(by_name) == {"POST /segment", "GET (no route)", *STAGES}
    assert len(collector.spans) == len(by_name)
    root = by_name["POST /segment"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, SPAN)
    assert attributes(root)["http.response.status_code"] == 200
    assert by_name["GET (no route)"].trace_id != root.trace_id
    before = root.start_time_unix_nano
    for stage in STAGES:
        span = by_name[stage]
        assert (span.trace_id, span.parent_span_id) == (root.trace_id, root.span_id)
        assert before <= span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano, stage
        before = span.start_time_unix_nano
    assert collector.service_names == {"sam3-service"}

    lines = [line for line in map(json.loads, service.output().splitlines()) if line["message"] == "POST /segment"]
    line, _ = lines  # the caller of the second does not sample: no span of it has come
    assert line["logging.googleapis.com/trace"] == TRACE
    assert line["logging.googleapis.com/spanId"] == root.span_id.hex()
    assert "Traceback" not in service.output()


@pytest.mark.parametrize(("name", "expected"), [("mine", "mine"), ("", "sam3-service")])
def test_the_service_may_have_another_name(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    traces = tracing.connect()
    with traces.span("request", None):
        pass
    traces.close()
    assert [span.name for span in collector.spans] == ["request"]
    assert collector.service_names == {expected}


BASE = """
import sys
from contextlib import ExitStack
import service.app
from service.telemetry.listening import listen, no_span
assert listen(None, ExitStack()).span is no_span
print(*(name for name in sys.modules if name.startswith("opentelemetry")))
"""

WITHOUT_EXTRA = """
import logging, sys
from contextlib import ExitStack
sys.modules["opentelemetry.exporter"] = None  # as if the extra were not installed
from service.telemetry.listening import listen, no_span
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
assert listen("http://127.0.0.1:1", ExitStack()).span is no_span
"""


def printed(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    return done.stdout


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    assert printed(BASE) == "\n"


def test_without_the_extra_there_is_a_warning_and_no_trace() -> None:
    [line] = printed(WITHOUT_EXTRA).splitlines()
    assert line.startswith("WARNING OTEL_EXPORTER_OTLP_ENDPOINT is set, but there are no traces without the extra")
