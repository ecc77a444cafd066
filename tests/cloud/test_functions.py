"""The functions-framework targets as their users run them: real processes, over HTTP, in a local cloud."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import service.main

SOURCE = service.main.__file__
HEAD = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "//x", "Content-Type": "application/json"}
FINALIZED = HEAD | {"ce-type": "google.cloud.storage.object.v1.finalized"}
PUBLISHED = HEAD | {"ce-type": "google.cloud.pubsub.topic.v1.messagePublished"}


def arguments(target: str) -> list[str]:
    options = {"--target": target, "--source": SOURCE, "--port": "{port}", "--host": "127.0.0.1"}
    return ["-m", "functions_framework", *(part for option in options.items() for part in option)]


@pytest.fixture(scope="module")
def start(bench: Any, start_service: Callable[..., Any]) -> Callable[..., Any]:
    def start(target: str, **changes: str) -> Any:
        return start_service(bench.cloud.environment() | changes, arguments(target))

    return start


@pytest.fixture(scope="module")
def on_event(start: Callable[..., Any], eventually: Callable[..., None]) -> Any:
    """A function that answers; until its model does, it asks for another delivery."""
    process = start("on_event")
    eventually(lambda: answers(process), 200, process.output)
    return process


def answers(process: Any) -> bool:
    """Whether an event about nothing at all is acknowledged rather than to be delivered again."""
    process.check()
    try:
        answer = post(process, FINALIZED, {"bucket": "sam3-input", "name": "no/such.png", "generation": "1"})
    except requests.ConnectionError:
        return False
    if answer.status_code == 503:
        assert answer.json()["code"] == "loading"
        assert answer.json()["retryable"] is True
        assert answer.headers["Retry-After"]
        return False
    assert answer.status_code == 200, answer.text
    return True


def post(process: Any, headers: dict[str, str], body: Any) -> requests.Response:
    return requests.post(process.url, json.dumps(body), headers=headers, timeout=100)


def published(data: bytes = b"", **message: Any) -> dict[str, Any]:
    encoded = {"data": base64.b64encode(data).decode()} if data else {}
    return {"message": encoded | {"messageId": "7"} | message, "subscription": "projects/p/subscriptions/s"}


def test_an_upload_by_eventarc(bench: Any, on_event: Any, draw: Callable[..., bytes]) -> None:
    bench.upload("function/a.prompts.json", '["red square"]')
    image = bench.upload("function/a.png", draw(), "image/png")
    data = {"bucket": image.bucket, "name": image.name, "generation": str(image.generation), "contentType": "image/png"}
    assert post(on_event, FINALIZED, data).status_code == 200
    document = bench.output("function/a.png.json")
    assert document["results"][0]["label"] == "red square"
    assert document["input"]["generation"] == image.generation
    structured = {"specversion": "1.0", "id": "8", "source": "//x", "type": FINALIZED["ce-type"], "data": data}
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    assert post(on_event, headers, structured).status_code == 200
    assert [m.attributes["replayed"] for m in bench.results.about("function/a.png")] == ["false", "true"]


def test_jobs_and_notifications_in_messages(bench: Any, on_event: Any, draw: Callable[..., bytes]) -> None:
    """Also one with attributes alone, and one that Pub/Sub pushes itself, which the framework makes an event of."""
    image = bench.upload("function/b.png", draw(), "image/png")
    job = {"image": f"gs://{image.bucket}/{image.name}", "prompts": ["blue circle"], "id": "o-1"}
    assert post(on_event, PUBLISHED, published(json.dumps(job).encode())).status_code == 200
    push = published(json.dumps(job | {"id": "o-2"}).encode())
    assert post(on_event, {"Content-Type": "application/json"}, push).status_code == 200
    assert [m.data["id"] for m in bench.results.about(image.name)] == ["o-1", "o-2"]
    bench.upload("function/b.prompts.json", '["red square"]')
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": image.bucket,
        "objectId": image.name,
        "objectGeneration": str(image.generation),
        "payloadFormat": "NONE",
    }
    assert post(on_event, PUBLISHED, published(attributes=attributes)).status_code == 200
    assert bench.output("function/b.png.json")["results"][0]["label"] == "red square"


def test_what_cannot_be_read_is_kept_whole(bench: Any, on_event: Any) -> None:
    assert post(on_event, PUBLISHED, published(b'{"image": 7}', attributes={"sender": "shop"})).status_code == 200
    letter = bench.dead_letters.all()[-1]
    assert letter.data == {"image": 7}
    assert (letter.attributes["sender"], letter.attributes["subscription"]) == ("shop", "projects/p/subscriptions/s")
    assert letter.attributes["reason"].startswith("not a job: image: 7 is not allowed")
    assert post(on_event, HEAD | {"ce-type": "com.example.other"}, {}).status_code == 200


def test_an_event_that_cannot_be_handled_now_is_not_acknowledged(
    start: Callable[..., Any], refusing_url: Callable[[int], str], eventually: Callable[..., None]
) -> None:
    process = start("on_event", STORAGE_EMULATOR_HOST=refusing_url(403))
    seen: list[requests.Response] = []

    def refused() -> bool:
        process.check()
        try:
            seen.append(post(process, FINALIZED, {"bucket": "sam3-input", "name": "a.png", "generation": "1"}))
        except requests.ConnectionError:
            return False
        assert seen[-1].status_code == 503, seen[-1].text
        return bool(seen[-1].json()["code"] == "cloud_unavailable")

    eventually(refused, 200, process.output)
    assert seen[-1].headers["Content-Type"] == "application/problem+json"


def test_a_forged_token_beside_the_one_that_was_checked_is_not_enough(
    start: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    """The framework hands the event on without the request's headers: the one that Cloud Run has checked comes too."""
    process = start("on_event", PUSH_SERVICE_ACCOUNT="pusher@p.iam.gserviceaccount.com")
    claims = {"email": "pusher@p.iam.gserviceaccount.com", "email_verified": True}
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    headers = FINALIZED | {
        "X-Serverless-Authorization": "Bearer e30.e30.e30",
        "Authorization": f"Bearer e30.{forged}.e30",
    }
    seen: list[int] = []

    def answered() -> bool:
        process.check()
        try:
            seen.append(post(process, headers, {"bucket": "b", "name": "no/such.png", "generation": "1"}).status_code)
        except requests.ConnectionError:
            return False
        return True

    eventually(answered, 200, process.output)
    assert seen == [403]


@pytest.fixture(scope="module")
def segment(start: Callable[..., Any]) -> Iterator[Any]:
    yield start("segment", INPUT_BUCKETS="").wait_until_ready()


def test_the_direct_door(segment: Any, draw: Callable[..., bytes]) -> None:
    for path in ("", "/segment"):
        answer = requests.post(segment.url + path, files={"image": draw()}, data={"prompts": "red square"}, timeout=100)
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["label"] == "red square"


def test_the_direct_door_refuses_in_the_same_words(segment: Any, draw: Callable[..., bytes]) -> None:
    answer = requests.post(segment.url, files={"image": draw()}, data={"threshold": "2"}, timeout=100)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["code"] == "bad_field"
    assert requests.get(segment.url, timeout=10).status_code == 405
    assert requests.post(f"{segment.url}/events", b"{}", timeout=10).status_code == 503
    large = requests.post(segment.url, b"x" * (33 << 20), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert large.status_code == 413
    assert "MAX_BODY_BYTES" in large.json()["detail"]


def test_a_bad_setting_is_one_line_and_the_end(start: Callable[..., Any]) -> None:
    process = start("on_event", QUEUE_SIZE="many")
    assert process.wait() == 3
    [line] = process.output().splitlines()
    assert line.startswith("QUEUE_SIZE: 'many' is not allowed")


def test_a_model_that_cannot_be_loaded_ends_the_function(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start("segment", SAM3_MODEL=str(tmp_path))
    assert process.wait() != 0
    assert "the model has failed" in process.output()
