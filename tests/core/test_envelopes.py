from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.envelopes import FINALIZED, MESSAGE_PUBLISHED, Message, read_request
from service.core.notifications import Ignored, Notification
from service.errors import BadEnvelope

EVENTS = Path(__file__).parent.parent / "data" / "events"
JOB = b'{"image": "gs://photos-in/in/kitchen.jpg", "prompts": ["mug"]}'
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BINARY = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "//x", "Content-Type": "application/json"}


def request(name: str) -> tuple[dict[str, str], bytes]:
    recorded = json.loads((EVENTS / f"{name}.json").read_text())
    return recorded["headers"], json.dumps(recorded["body"]).encode()


def push(**changes: Any) -> bytes:
    """A wrapped push of a job, with `message` fields replaced."""
    return json.dumps({"message": {"data": base64.b64encode(JOB).decode(), "messageId": "7"} | changes}).encode()


def structured(event_type: str = FINALIZED, **changes: Any) -> bytes:
    event = {"specversion": "1.0", "id": "7", "source": "//x", "type": event_type} | changes
    return json.dumps({key: value for key, value in event.items() if value != ""}).encode()


@pytest.mark.parametrize(
    ("name", "event_id"),
    [
        ("eventarc_finalized", "3103425958877813"),
        ("structured_finalized", "aaaaaa-1111-bbbb-2222-cccccccccccc"),
    ],
)
def test_a_finalized_object_as_a_cloud_event(name: str, event_id: str) -> None:
    assert read_request(*request(name)) == Notification(
        "OBJECT_FINALIZE", "photos-in", "in/kitchen.jpg", 1700000000000001, "image/jpeg", event_id, None
    )


@pytest.mark.parametrize(
    ("name", "subscription", "attributes", "attempt"),
    [
        (
            "eventarc_message_published",
            "projects/demo/subscriptions/eventarc-us-central1-sam3-jobs-sub-123",
            {"sender": "shop"},
            None,
        ),
        ("structured_message_published", "projects/demo/subscriptions/sam3-jobs", {}, 3),
    ],
)
def test_a_published_message_as_a_cloud_event(
    name: str, subscription: str, attributes: dict[str, str], attempt: int | None
) -> None:
    assert read_request(*request(name)) == Message(JOB, attributes, "11523004000000002", subscription, attempt)


def test_pushes_of_the_local_cloud() -> None:
    job, notification = read_request(*request("local_job")), read_request(*request("local_image_finalized"))
    assert isinstance(job, Message)
    assert (job.attributes, job.message_id, job.delivery_attempt) == ({"sender": "shop"}, "1795506275473670", 1)
    assert job.subscription == "projects/local-project/subscriptions/sam3-jobs-push"
    assert json.loads(job.data)["prompts"] == ["mug cup"]
    assert isinstance(notification, Message)
    assert notification.attributes["objectId"] == "in/kitchen.png"


def test_the_case_of_header_names_does_not_matter() -> None:
    headers, body = request("eventarc_finalized")
    for change in (str.upper, str.lower, str.title):
        assert read_request({change(name): value for name, value in headers.items()}, body) == read_request(
            headers, body
        )


def test_other_types_of_cloud_events_are_ignored_whatever_they_carry() -> None:
    assert isinstance(read_request(*request("eventarc_deleted")), Ignored)
    assert isinstance(read_request(STRUCTURED, structured("com.example.anything", data=[1, "x"])), Ignored)
    answer = read_request(BINARY | {"ce-type": "google.cloud.audit.log.v1.written"}, b"\xff no JSON")
    assert answer == Ignored(
        f"CloudEvent type google.cloud.audit.log.v1.written, only {FINALIZED} and {MESSAGE_PUBLISHED} start work"
    )


@pytest.mark.parametrize(
    ("data", "meaning"),
    [
        (base64.b64encode(b"\xfb\xff\xbf").decode(), b"\xfb\xff\xbf"),
        (base64.urlsafe_b64encode(b"\xfb\xff\xbf").decode(), b"\xfb\xff\xbf"),
        ("YQ==", b"a"),
        ("YQ", b"a"),
        ("", b""),
        (None, b""),
    ],
)
def test_base64_of_either_alphabet_padded_or_not(data: str | None, meaning: bytes) -> None:
    found = read_request({}, push(data=data))
    assert isinstance(found, Message)
    assert found.data == meaning


def test_a_message_with_attributes_only() -> None:
    body = json.dumps({"message": {"attributes": {"a": "b"}, "message_id": "8"}, "deliveryAttempt": 2}).encode()
    assert read_request({}, body) == Message(b"", {"a": "b"}, "8", "", 2)
    assert read_request({}, push(attributes=None)) == Message(JOB, {}, "7")


def test_a_structured_event_may_carry_its_data_in_base64() -> None:
    headers, body = request("structured_finalized")
    event = json.loads(body)
    data = json.dumps(event.pop("data")).encode()
    encoded = event | {"data_base64": base64.b64encode(data).decode()}
    assert read_request(headers, json.dumps(encoded).encode()) == read_request(headers, body)


def test_ten_megabytes_in_a_message_are_unwrapped() -> None:
    data = b"x" * 10_000_000
    assert read_request({}, push(data=base64.b64encode(data).decode())) == Message(data, {}, "7")


RESOURCE = {"bucket": "photos-in", "name": "a.jpg", "generation": "7"}


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, b"", "not a Pub/Sub push: not JSON"),
        ({}, b"\xff\xfe", "not a Pub/Sub push: not JSON"),
        ({}, b"[" * 100_000, "recursion limit"),
        ({}, b"[]", "not a Pub/Sub push"),
        ({}, b"{}", "not a Pub/Sub push: message: Field required"),
        ({}, b'{"message": "hello"}', "not a Pub/Sub push: message"),
        ({}, b'{"message": {}, "deliveryAttempt": "often"}', "deliveryAttempt"),
        ({}, b'{"message": {}, "subscription": 7}', "subscription"),
        ({}, push(attributes={"eventType": 5}), "message.attributes.eventType"),
        ({}, push(attributes={"a": None}), "message.attributes.a"),
        ({}, push(attributes=["a"]), "message.attributes"),
        ({}, push(data="%%%"), "message.data: Value error, not base64"),
        ({}, push(data="ü"), "message.data: Value error, not base64"),
        ({}, push(data="YWJjZ"), "message.data: Value error, not base64"),
        ({}, push(data={"image": "x"}), "message.data: Value error, it must be base64 text"),
        ({}, push(messageId=7), "message.messageId"),
        ({"Content-Type": "application/cloudevents-batch+json"}, b"[]", "a batch of CloudEvents is not taken"),
        ({"Content-Type": "application/cloudevents+xml"}, b"<x/>", "send it as application/cloudevents+json"),
        (STRUCTURED, b"[]", "not a CloudEvent: it must be a JSON object"),
        (STRUCTURED, b"{", "not a CloudEvent: not JSON"),
        (STRUCTURED, structured(specversion="0.3"), "specversion: Value error, only 1.0 is understood"),
        (STRUCTURED, structured(specversion=""), "specversion: Field required"),
        (STRUCTURED, structured(id=""), "id: Field required"),
        (STRUCTURED, structured(type=7), "not a CloudEvent: type"),
        (STRUCTURED, structured(), "data is not an object resource"),
        (STRUCTURED, structured(data="text"), "data is not an object resource"),
        (STRUCTURED, structured(data=RESOURCE | {"generation": "new"}), "object resource: generation"),
        (STRUCTURED, structured(data=RESOURCE | {"generation": 0}), "object resource: generation"),
        (STRUCTURED, structured(data=RESOURCE | {"bucket": 5}), "object resource: bucket"),
        (STRUCTURED, structured(data={"bucket": "b", "generation": 1}), "object resource: name: Field required"),
        (STRUCTURED, structured(data_base64="%"), "data_base64: not base64"),
        (STRUCTURED, structured(data_base64="YQ=="), "data: not JSON"),
        (STRUCTURED, structured(MESSAGE_PUBLISHED, data={"subscription": "s"}), "message: Field required"),
        (BINARY | {"ce-type": FINALIZED}, b"{", "data: not JSON"),
        (BINARY | {"ce-type": MESSAGE_PUBLISHED}, b'{"message": 1}', "message"),
        (BINARY, push(), "not a CloudEvent: type: Field required"),
        ({"CE-TYPE": FINALIZED}, b"{}", "not a CloudEvent: specversion: Field required"),
    ],
)
def test_other_requests_are_refused_with_the_part_that_is_wrong(
    headers: dict[str, str], body: bytes, reason: str
) -> None:
    with pytest.raises(BadEnvelope) as caught:
        read_request(headers, body)
    assert reason in caught.value.detail
    assert len(caught.value.detail) < 300
    assert "\n" not in caught.value.detail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["message", "attributes", "data", "messageId", "type", "id"]), inner)
    ),
    max_leaves=8,
)
HEADERS = st.sampled_from([{}, STRUCTURED, BINARY, BINARY | {"ce-type": FINALIZED}])


@settings(max_examples=300, deadline=None)
@given(HEADERS, st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_request_raises_anything_but_bad_envelope(headers: dict[str, str], body: bytes) -> None:
    try:
        found = read_request(headers, body)
    except BadEnvelope:
        return
    assert isinstance(found, Message | Ignored)
