"""Every error that `/segment` can answer, over HTTP: what the OpenAPI document, docs/api.md and the answer say is one.

The failures that the embedded model cannot be brought to are staged; test_segment.py and others provoke the rest.
"""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from werkzeug.serving import make_server

from service import errors
from service.app import create_app
from service.core.results import ModelInfo
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.images import ImageLimits
from service.engine.segmenter import Segmenter
from service.engine.state import State
from service.settings import Settings
from service.web import openapi
from tests.scripted import ScriptedEngine

KEYS = {"type", "title", "status", "detail", "code", "retryable"}
# What the contract says of each status: its codes, and whether the same request may succeed later.
CONTRACT = {
    400: ({"bad_field", "bad_request", "missing_image"}, False),
    401: ({"unauthorized"}, False),
    403: ({"forbidden"}, False),
    404: ({"not_found"}, False),
    405: ({"method_not_allowed"}, False),
    408: ({"request_timeout"}, True),
    413: ({"too_large"}, False),
    415: ({"not_an_image", "unsupported_media_type"}, False),
    422: ({"unreadable_image"}, False),
    429: ({"queue_full"}, True),
    500: ({"internal", "not_finite"}, False),
    503: (
        {"loading", "ending", "deadline_exceeded", "out_of_memory", "engine_broken", "cloud_unavailable"},
        True,
    ),
}
IN_FRONT = {(401, "unauthorized"), (405, "method_not_allowed")}  # answered before /segment has seen anything
PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def rows() -> set[tuple[int, str, bool]]:
    """(status, code, whether to retry) of the table in the docs."""
    found = set()
    for statuses, codes, when in re.findall(r"^\| ([\d, ]+) \| ((?:`\w+`(?:, )?)+) \| (.*) \|$", PAGE, re.MULTILINE):
        names = re.findall(r"`(\w+)`", codes)
        numbers = [int(status) for status in statuses.split(", ")]
        pairs = zip(numbers if len(numbers) > 1 else numbers * len(names), names, strict=True)
        found |= {(status, name, "retry" in when) for status, name in pairs}
    return found


def test_the_table_of_the_docs_is_the_contract() -> None:
    assert rows() == {(status, code, retry) for status, (codes, retry) in CONTRACT.items() for code in codes}


def test_so_is_the_openapi_document() -> None:
    described = {(failure.status, failure.code) for failure in openapi.SEGMENT_FAILURES}
    assert described | IN_FRONT == {(status, code) for status, (codes, _) in CONTRACT.items() for code in codes}


class Staged:
    """Fails as it is told to."""

    state = State("ready")
    info = ModelInfo("staged", "1", "cpu", "float32")
    error: Exception = RuntimeError()

    def segment(self, data: bytes, prompt_set: Any, terms: Any = None) -> Any:
        raise self.error


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Any], str]]:
    """Serve the app around a segmenter; returns its address."""
    servers = []

    def serve(segmenter: Any) -> str:
        app = create_app(Settings.from_environment({}), segmenter, None)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def staged() -> Staged:
    return Staged()


@pytest.fixture(scope="module")
def url(serve: Callable[[Any], str], staged: Staged) -> str:
    return serve(staged)


def post(url: str, image: bytes = b"x") -> requests.Response:
    return requests.post(f"{url}/segment", files={"image": image}, data={"prompts": "cat"}, timeout=60)


def made(failure: type[errors.ServiceError]) -> errors.ServiceError:
    if failure is errors.BadField:
        return errors.BadField("threshold", 2, "it must be less")
    return errors.Ending() if failure is errors.Ending else failure("words for people")


@pytest.mark.parametrize("failure", dict.fromkeys(openapi.SEGMENT_FAILURES), ids=lambda failure: failure.__name__)
def test_a_failure_is_a_whole_problem(staged: Staged, url: str, failure: type[errors.ServiceError]) -> None:
    staged.error = made(failure)
    answer = post(url)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == KEYS
    codes, retryable = CONTRACT[answer.status_code]
    assert problem["code"] in codes
    assert (problem["status"], problem["retryable"]) == (answer.status_code, retryable)
    assert problem["detail"] == staged.error.detail
    assert problem["title"]
    assert answer.headers["X-Request-Id"]
    assert ("Retry-After" in answer.headers) == retryable
    assert int(answer.headers.get("Retry-After", 1)) > 0


def test_a_defect_shows_nothing_of_itself(staged: Staged, url: str) -> None:
    staged.error = KeyError("/etc/secret")
    answer = post(url)
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (500, "internal", False)
    assert set(answer.json()) == KEYS
    assert "secret" not in answer.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("GET", "/segment", 405)])
def test_what_no_door_answers(url: str, method: str, path: str, status: int) -> None:
    problem = requests.request(method, url + path, timeout=60).json()
    assert set(problem) == KEYS
    assert ({problem["code"]}, problem["retryable"]) == CONTRACT[status]


def test_without_a_length_there_is_no_body_and_nobody_waits_for_one(url: str) -> None:
    """Where the server does not end the input itself, as werkzeug's own."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60) as connection:
        connection.sendall(b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n")
        assert b" 400 " in connection.recv(1000)


def test_a_full_queue_refuses_at_once_and_takes_more_when_there_is_room(serve: Callable[[Any], str]) -> None:
    gate = threading.Event()

    def wait_for_the_gate(prompts: int) -> None:
        assert gate.wait(60)

    engine = ScriptedEngine(wait_for_the_gate)
    model = ModelThread(lambda report: engine, BatchPolicy(queue_size=1))
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    try:
        model.start().result(60)
        url = serve(Segmenter(model, ImageLimits()))
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(post, url, picture.getvalue())
            assert engine.busy.wait(60)
            refused = post(url, picture.getvalue())
            gate.set()
            assert first.result(60).status_code == 200
        assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (429, "queue_full", True)
        assert int(refused.headers["Retry-After"]) > 0
        assert post(url, picture.getvalue()).status_code == 200
    finally:
        gate.set()
        model.close()
