from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.envelopes import Message, read_request
from service.core.events import (
    FolderPromptsArrived,
    Ignored,
    ImageArrived,
    JobRequest,
    Notification,
    Rules,
    SidecarArrived,
    classify,
    read_message,
)
from service.core.folders import FAN_OUT, image_job
from service.core.prompts import Limits, Prompt, PromptSet
from service.errors import BadEnvelope

EVENTS = Path(__file__).parent.parent / "data" / "events"
GENERATION = 1700000000000001
RULES = Rules(input_buckets=("photos-in",), input_prefix="", output_bucket="photos-out", output_prefix="")
IMAGE = Notification("OBJECT_FINALIZE", "photos-in", "in/kitchen.jpg", GENERATION, "image/jpeg", "1", None)


LIMITS = Limits(read_buckets=("photos-in",), write_buckets=("photos-out",))


def message(name: str) -> Message:
    """The message of a push that Google has sent."""
    found = read_request({}, (EVENTS / f"{name}.json").read_bytes())
    assert isinstance(found, Message)
    return found


FINALIZED = message("image_finalized")


def with_attributes(**attributes: str | None) -> Message:
    changed = dict(FINALIZED.attributes) | attributes
    return replace(FINALIZED, attributes={key: value for key, value in changed.items() if value is not None})


def read(found: Message) -> Notification:
    event = read_message(found, LIMITS)
    assert isinstance(event, Notification)
    return event


def test_a_finalized_image_is_read_whole() -> None:
    assert read(FINALIZED) == Notification(
        event_type="OBJECT_FINALIZE",
        bucket="photos-in",
        name="in/kitchen.jpg",
        generation=GENERATION,
        content_type="image/jpeg",
        message_id="11523004000000001",
        delivery_attempt=5,
    )


def test_a_notification_without_payload_has_no_content_type_and_keeps_its_odd_name() -> None:
    notification = read(message("image_without_payload"))
    assert notification.name == "in/Küche 2 #1.JPG"
    assert notification.content_type is None
    assert notification.delivery_attempt is None


def test_an_object_without_content_type_is_understood() -> None:
    assert read(replace(FINALIZED, data=b'{"name": "x"}')).content_type is None


def test_only_the_service_itself_marks_a_job_as_one_that_repeats_an_upload() -> None:
    data = image_job("photos-in", "in/kitchen.jpg", 7)
    job = JobRequest("photos-in", "in/kitchen.jpg", 7)
    assert read_message(Message(data, FAN_OUT), LIMITS) == replace(job, only_repeats_upload=True)
    assert read_message(Message(data, {"sam3-job": "mine"}), LIMITS) == job
    assert read_message(Message(data, {}), LIMITS) == job


def test_a_job_is_what_has_not_the_attributes_of_a_notification() -> None:
    job = JobRequest("photos-in", "in/kitchen.jpg", prompt_set=PromptSet((Prompt("mug"),)))
    assert read_message(message("job_message"), LIMITS) == job
    text = b'\xef\xbb\xbf{"image": "gs://photos-in/in/kitchen.jpg", "prompts": ["mug"]}'
    assert read_message(Message(text, {"eventType": "OBJECT_FINALIZE", "sender": "shop"}), LIMITS) == job


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
    assert classify(read(message(name)), RULES) == meaning


@pytest.mark.parametrize(
    ("unread", "reason"),
    [
        (with_attributes(eventType=""), "attributes.eventType"),
        (with_attributes(objectId=""), "attributes.objectId"),
        (with_attributes(objectGeneration=None), "attributes.objectGeneration: Field required"),
        (with_attributes(objectGeneration="new"), "attributes.objectGeneration"),
        (with_attributes(objectGeneration="-1"), "attributes.objectGeneration"),
        (with_attributes(objectGeneration="9" * 5000), "attributes.objectGeneration"),
        (replace(FINALIZED, data=b""), "message.data is not an object resource: Invalid JSON"),
        (replace(FINALIZED, data=b"[1]"), "message.data is not an object resource"),
        (replace(FINALIZED, data=b'{"contentType": 7}'), "resource: contentType"),
        # Without one of the three attributes it must be a job, which this is not.
        (with_attributes(eventType=None), "not a job: kind: 'kind' is not allowed"),
        (Message(b""), "no notification (attributes eventType, bucketId, objectId) and no job: not JSON"),
        (Message(b"", {"a": "b"}), "no notification"),
        (Message(b"\xff\xfe"), "not UTF-8 text"),
        (Message(b"[" * 100_000), "levels deep"),
        (Message(b"[]"), "not a job: it must be a JSON object"),
        (Message(b'{"image": NaN}'), "NaN is not JSON"),
        (Message(b'{"image": "gs://strangers/a.jpg"}'), "not a job: image: 'gs://strangers/a.jpg' is not allowed"),
    ],
)
def test_other_messages_are_refused_with_the_part_that_is_wrong(unread: Message, reason: str) -> None:
    with pytest.raises(BadEnvelope) as caught:
        read_message(unread, LIMITS)
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


@settings(max_examples=300, deadline=None)
@given(
    st.binary(),
    st.dictionaries(
        st.sampled_from(["eventType", "bucketId", "objectId", "objectGeneration", "payloadFormat"]), st.text()
    ),
)
def test_no_message_raises_anything_but_bad_envelope(data: bytes, attributes: dict[str, str]) -> None:
    try:
        event = read_message(Message(data, attributes), LIMITS)
    except BadEnvelope:
        return
    assert isinstance(event, Notification)
    assert isinstance(classify(event, RULES), ImageArrived | SidecarArrived | FolderPromptsArrived | Ignored)


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
