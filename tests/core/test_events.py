from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.events import (
    FolderPromptsArrived,
    Ignored,
    ImageArrived,
    Notification,
    Rules,
    SidecarArrived,
    classify,
    parse_push,
)
from service.errors import BadEnvelope

EVENTS = Path(__file__).parent.parent / "data" / "events"
GENERATION = 1700000000000001
RULES = Rules(input_buckets=("photos-in",), input_prefix="", output_bucket="photos-out", output_prefix="")
IMAGE = Notification("OBJECT_FINALIZE", "photos-in", "in/kitchen.jpg", GENERATION, "image/jpeg", "1", None)


def event(name: str) -> bytes:
    return (EVENTS / f"{name}.json").read_bytes()


def changed(change: dict[str, Any]) -> bytes:
    """The finalized image with `message` fields replaced, or taken out where None."""
    push = json.loads(event("image_finalized"))
    message = push["message"] | change
    return json.dumps(push | {"message": {key: value for key, value in message.items() if value is not None}}).encode()


def with_attributes(**attributes: str | None) -> bytes:
    original = json.loads(event("image_finalized"))["message"]["attributes"] | attributes
    return changed({"attributes": {key: value for key, value in original.items() if value is not None}})


def test_a_finalized_image_is_read_whole() -> None:
    assert parse_push(event("image_finalized")) == Notification(
        event_type="OBJECT_FINALIZE",
        bucket="photos-in",
        name="in/kitchen.jpg",
        generation=GENERATION,
        content_type="image/jpeg",
        message_id="11523004000000001",
        delivery_attempt=5,
    )


def test_a_notification_without_payload_has_no_content_type_and_keeps_its_odd_name() -> None:
    notification = parse_push(event("image_without_payload"))
    assert notification.name == "in/Küche 2 #1.JPG"
    assert notification.content_type is None
    assert notification.delivery_attempt is None


def test_an_object_without_content_type_is_understood() -> None:
    assert parse_push(changed({"data": base64.b64encode(b'{"name": "x"}').decode()})).content_type is None


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("image_finalized", ImageArrived("photos-in", "in/kitchen.jpg", GENERATION)),
        ("image_overwritten", ImageArrived("photos-in", "in/kitchen.jpg", GENERATION)),
        ("image_without_payload", ImageArrived("photos-in", "in/Küche 2 #1.JPG", GENERATION)),
        ("sidecar_finalized", SidecarArrived("photos-in", "in/kitchen.prompts.json", GENERATION)),
        ("image_deleted", Ignored("event type OBJECT_DELETE, only OBJECT_FINALIZE starts work")),
        ("folder_finalized", Ignored("a folder")),
    ],
)
def test_what_googles_events_mean(name: str, meaning: object) -> None:
    assert classify(parse_push(event(name)), RULES) == meaning


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a Pub/Sub push: Invalid JSON"),
        (b"\xff\xfe", "not a Pub/Sub push: Invalid JSON"),
        (b"[" * 100_000, "recursion limit"),
        (b"[]", "not a Pub/Sub push"),
        (b"{}", "message: Field required"),
        (b'{"message": "hello"}', "not a Pub/Sub push: message"),
        (b'{"message": {}}', "not a Cloud Storage notification: attributes.eventType: Field required"),
        (b'{"message": {"attributes": {"eventType": 5}}}', "message.attributes.eventType"),
        (with_attributes(eventType=None), "attributes.eventType: Field required"),
        (with_attributes(bucketId=None), "attributes.bucketId: Field required"),
        (with_attributes(objectId=""), "attributes.objectId"),
        (with_attributes(objectGeneration=None), "attributes.objectGeneration: Field required"),
        (with_attributes(objectGeneration="new"), "attributes.objectGeneration"),
        (with_attributes(objectGeneration="-1"), "attributes.objectGeneration"),
        (with_attributes(objectGeneration="9" * 5000), "attributes.objectGeneration"),
        (changed({"data": "%%%"}), "message.data is not base64"),
        (changed({"data": "ü"}), "message.data is not base64"),
        (changed({"data": None}), "message.data is not an object resource: Invalid JSON"),
        (changed({"data": base64.b64encode(b"[1]").decode()}), "message.data is not an object resource"),
        (changed({"data": base64.b64encode(b'{"contentType": 7}').decode()}), "resource: contentType"),
        (event("job_message"), "not a Cloud Storage notification"),
    ],
)
def test_other_bodies_are_refused_with_the_part_that_is_wrong(body: bytes, reason: str) -> None:
    with pytest.raises(BadEnvelope) as caught:
        parse_push(body)
    assert reason in caught.value.detail
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event_type": "OBJECT_METADATA_UPDATE"}, "event type OBJECT_METADATA_UPDATE"),
        ({"event_type": "OBJECT_ARCHIVE"}, "event type OBJECT_ARCHIVE"),
        ({"bucket": "strangers"}, "bucket strangers is not in INPUT_BUCKETS (photos-in)"),
        ({"name": "in/2024/"}, "a folder"),
        ({"name": "gcloud/tmp/parallel_composite_uploads/x/y.jpg"}, "parallel composite upload"),
        ({"name": "/gsutil/tmp/parallel_composite_uploads/for_details_see/x"}, "parallel composite upload"),
        (
            {"name": "in/notes.txt", "content_type": "text/plain"},
            "neither an image nor prompts (content type text/plain)",
        ),
        ({"name": "in/x_prompts.json", "content_type": "application/json"}, "neither an image nor prompts"),
        ({"name": "in/_PROMPTS.json", "content_type": "application/json"}, "neither an image nor prompts"),
        ({"name": "in/kitchen.jpg.json", "content_type": "image/jpeg"}, "neither an image nor prompts"),
    ],
)
def test_what_is_ignored_and_why(change: dict[str, Any], reason: str) -> None:
    meaning = classify(replace(IMAGE, **change), RULES)
    assert isinstance(meaning, Ignored)
    assert reason in meaning.reason


def test_objects_outside_the_input_prefix_are_ignored() -> None:
    rules = replace(RULES, input_prefix="uploads/")
    assert classify(IMAGE, rules) == Ignored("outside the input prefix 'uploads/'")
    assert isinstance(classify(replace(IMAGE, name="uploads/a.jpg"), rules), ImageArrived)


def test_outputs_in_an_input_bucket_are_ignored() -> None:
    rules = Rules(("photos-in",), "", "photos-in", "results/")
    assert classify(replace(IMAGE, name="results/a.jpg"), rules) == Ignored("under the output prefix 'results/'")
    assert isinstance(classify(replace(IMAGE, name="results.jpg"), rules), ImageArrived)


def test_the_output_prefix_means_nothing_in_another_bucket() -> None:
    rules = Rules(("photos-in",), "", "photos-out", "in/")
    assert isinstance(classify(IMAGE, rules), ImageArrived)


def test_outputs_of_any_input_bucket_are_recognised_in_a_shared_one() -> None:
    rules = Rules(("photos-in", "other-in"), "", "photos-in", "results/{bucket}/")
    assert isinstance(classify(replace(IMAGE, name="results/other-in/a.jpg"), rules), Ignored)
    assert isinstance(classify(replace(IMAGE, name="results/photos-in/a.jpg"), rules), Ignored)
    assert isinstance(classify(replace(IMAGE, name="results/elsewhere/a.jpg"), rules), ImageArrived)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["message", "attributes", "data", "messageId", "eventType"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_anything_but_bad_envelope(body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        parse_push(body)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["eventType", "bucketId", "objectId", "objectGeneration", "payloadFormat"]), st.text()
    )
)
def test_no_attributes_raise_anything_but_bad_envelope(attributes: dict[str, str]) -> None:
    try:
        notification = parse_push(with_attributes(**attributes))
    except BadEnvelope:
        return
    assert isinstance(classify(notification, RULES), ImageArrived | SidecarArrived | FolderPromptsArrived | Ignored)


@pytest.mark.parametrize(
    "name", ["_prompts.json", "in/_prompts.txt", "in/Küche #1 [*]/_prompts.json", "//_prompts.txt"]
)
def test_folder_prompts_are_neither_images_nor_sidecars(name: str) -> None:
    arrived = replace(IMAGE, name=name, content_type="image/jpeg")
    assert classify(arrived, RULES) == FolderPromptsArrived("photos-in", name, IMAGE.generation)


def test_folder_prompts_out_of_scope_are_ignored() -> None:
    arrived = replace(IMAGE, name="results/_prompts.json")
    assert isinstance(classify(arrived, Rules(("photos-in",), "", "photos-in", "results/")), Ignored)
    assert isinstance(classify(arrived, replace(RULES, input_prefix="in/")), Ignored)
