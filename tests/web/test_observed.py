"""What a request leaves behind: its id in the answer, one line in the log."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.core.context import current
from service.core.observe import Observer
from service.settings import Settings
from service.telemetry.logs import JsonFormatter
from tests.scripted import ScriptedEngine
from tests.staged import picture, segmenter_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PIXEL = picture()


class Chatty(Observer):
    """Logs in the middle of a request, on its thread."""

    def found(self, instances: int) -> None:
        logging.getLogger("chatty").info("deep inside")


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def client(engine: ScriptedEngine) -> Iterator[FlaskClient]:
    with segmenter_of(engine, observer=Chatty()) as segmenter:
        yield create_app(Settings.from_environment({}), segmenter, None).test_client()


class Lines(logging.StreamHandler[io.StringIO]):
    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.setFormatter(JsonFormatter("my-project"))

    def text(self) -> str:
        return self.stream.getvalue()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def of(self, message: str) -> dict[str, Any]:
        [line] = [line for line in self.all() if line["message"] == message]
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("DEBUG")
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


def post(client: FlaskClient, headers: dict[str, str] | None = None, image: bytes = PIXEL) -> Any:
    data = {"image": (io.BytesIO(image), "x.png"), "prompts": "cat"}
    return client.post("/segment?token=in-the-query", data=data, headers=headers)


@pytest.mark.parametrize("given", ["order-7", "a" * 128, "3f2c:x/y=z+._@"])
def test_a_sane_request_id_is_kept(client: FlaskClient, given: str) -> None:
    assert post(client, {"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "two words", "ü", '"quoted"', "<b>"])
def test_any_other_is_replaced(client: FlaskClient, given: str) -> None:
    ids = {post(client, {"X-Request-Id": given}).headers["X-Request-Id"] for _ in range(2)}
    assert len(ids) == 2
    assert given not in ids


@pytest.mark.parametrize("path", ["/nope", "/segment", "/health", "/metrics"])
def test_every_answer_has_one(client: FlaskClient, path: str) -> None:
    assert client.get(path, headers={"X-Request-Id": "7"}).headers["X-Request-Id"] == "7"


def test_one_line_tells_of_a_request(client: FlaskClient, lines: Lines) -> None:
    answer = post(client, {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "order-7"})
    line = lines.of("POST /segment")
    assert line["severity"] == "INFO"
    assert line["status"] == 200
    assert line["ms"] >= 0
    assert line["request_bytes"] > 0
    assert line["response_bytes"] == len(answer.data)
    assert line["logging.googleapis.com/trace"] == f"projects/my-project/traces/{TRACE}"
    assert line["logging.googleapis.com/spanId"] == SPAN
    assert line["logging.googleapis.com/trace_sampled"] is True
    assert line["logging.googleapis.com/labels"] == {"request_id": "order-7"}


def test_a_line_says_when_to_the_millisecond(client: FlaskClient, lines: Lines) -> None:
    """In the form of RFC 3339, which Cloud Logging orders lines by."""
    before = datetime.now(UTC)
    post(client)
    time = lines.of("POST /segment")["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", time)
    assert timedelta(milliseconds=-1) <= datetime.fromisoformat(time) - before <= timedelta(minutes=1)


def test_lines_from_deep_inside_belong_to_it_too(client: FlaskClient, lines: Lines) -> None:
    post(client, {"X-Cloud-Trace-Context": f"{TRACE}/1;o=0", "X-Request-Id": "a"})
    post(client, {"X-Request-Id": "b"})
    first, second = (line for line in lines.all() if line["message"] == "deep inside")
    assert first["logging.googleapis.com/trace"].endswith(TRACE)
    assert first["logging.googleapis.com/labels"] == {"request_id": "a"}
    assert "logging.googleapis.com/trace" not in second
    assert second["logging.googleapis.com/labels"] == {"request_id": "b"}
    assert current() is None


@pytest.mark.parametrize("error", [None, RuntimeError("a defect")])
def test_neither_secrets_nor_images_are_in_it(
    client: FlaskClient, engine: ScriptedEngine, lines: Lines, error: Exception | None
) -> None:
    def fail(prompts: int) -> None:
        if error:
            raise error

    engine.before = fail
    headers = {"Authorization": "Bearer secret-token", "Cookie": "secret-cookie", "X-Request-Id": "secret id"}
    answer = post(client, headers, image=PIXEL + b"secret-pixels")
    assert answer.status_code == (500 if error else 200)
    assert lines.of("POST /segment")["status"] == answer.status_code
    assert "secret" not in lines.text()
    assert "in-the-query" not in lines.text()
    assert ("a defect" in lines.text()) == (error is not None)


def test_probes_are_quiet(client: FlaskClient, lines: Lines) -> None:
    for path in ("/health", "/ready", "/metrics"):
        assert client.get(path).status_code == 200
        assert lines.of(f"GET {path}")["severity"] == "DEBUG"


def test_a_path_cannot_make_a_line_of_its_own(client: FlaskClient, lines: Lines) -> None:
    client.get("/%0A%7B%22severity%22%3A%22ALERT%22%7D" + "x" * 1000)
    assert {line["severity"] for line in lines.all()} <= {"INFO", "DEBUG"}
    assert max(len(line["message"]) for line in lines.all()) < 300
