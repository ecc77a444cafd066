"""Cloud Storage and its notifications."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed

NAMES = [
    "plain.jpg",
    "folder/with space.jpg",
    "hash#tag.jpg",
    "what?.jpg",
    "100%.jpg",
    "%2F not a slash.jpg",
    "plus+and&.jpg",
    "küche.jpg",
    "café 🍳.jpg",
]


@pytest.fixture
def pushed(cloud: Any, sink: Any) -> Iterator[Any]:
    """A sink that receives the cloud's events."""
    cloud.push_to(sink.url)
    yield sink
    cloud.push_to("")


def events(sink: Any) -> dict[str, dict[str, str]]:
    """Attributes of the notifications so far, by object."""
    found = [push.envelope["message"]["attributes"] for push in sink.pushes]
    return {attributes["objectId"]: attributes for attributes in found}


@pytest.mark.parametrize("name", NAMES)
def test_an_upload_is_announced(cloud: Any, pushed: Any, name: str) -> None:
    blob = cloud.storage.bucket("in-a").blob(name)
    blob.metadata = {"prompts": '["cup"]'}
    blob.upload_from_string(b"x", content_type="image/jpeg")
    [push] = pushed.wait_for(1)
    attributes = push.envelope["message"]["attributes"]
    assert attributes.pop("eventTime")
    assert attributes == {
        "bucketId": "in-a",
        "objectId": name,
        "objectGeneration": str(blob.generation),
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
    }
    payload = json.loads(base64.b64decode(push.envelope["message"]["data"]))
    assert (payload["bucket"], payload["name"], payload["metadata"]) == ("in-a", name, {"prompts": '["cup"]'})
    assert push.envelope["deliveryAttempt"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_name_survives_the_round_trip(cloud: Any, name: str) -> None:
    bucket = cloud.storage.bucket("out")
    bucket.blob(name).upload_from_string(name.encode())
    assert bucket.blob(name).download_as_bytes() == name.encode()
    assert name in [blob.name for blob in bucket.list_blobs()]


def test_every_input_bucket_and_no_other_is_announced(cloud: Any, pushed: Any) -> None:
    for bucket in ("out", "in-a", "in-b"):
        cloud.storage.bucket(bucket).blob(f"from {bucket}").upload_from_string(b"x")
    pushed.wait_for(2)
    cloud.wait_until_quiet(30)
    assert {found["bucketId"] for found in events(pushed).values()} == {"in-a", "in-b"}


def test_each_generation_is_announced(cloud: Any, pushed: Any) -> None:
    generations = []
    for content in (b"1", b"2"):
        blob = cloud.storage.bucket("in-a").blob("overwritten")
        blob.upload_from_string(content)
        generations.append(str(blob.generation))
        pushed.wait_for(len(generations))
    announced = [push.envelope["message"]["attributes"]["objectGeneration"] for push in pushed.pushes]
    assert announced == generations


def test_a_resumable_upload_is_announced(cloud: Any, pushed: Any) -> None:
    blob = cloud.storage.bucket("in-a").blob("large", chunk_size=256 * 1024)
    blob.upload_from_string(bytes(600_000))
    pushed.wait_for(1)
    assert events(pushed)["large"]["objectGeneration"] == str(blob.generation)


def test_changed_metadata_and_deletions_are_not_announced(cloud: Any, pushed: Any) -> None:
    blob = cloud.storage.bucket("in-a").blob("patched")
    blob.upload_from_string(b"x")
    blob.metadata = {"a": "1"}
    blob.patch()
    blob.delete()
    cloud.storage.bucket("in-a").blob("last").upload_from_string(b"x")
    pushed.wait_for(2)
    assert set(events(pushed)) == {"patched", "last"}


def test_only_the_first_write_with_generation_0_wins(cloud: Any) -> None:
    bucket = cloud.storage.bucket("out")

    def write(number: int) -> bool:
        try:
            bucket.blob("raced").upload_from_string(b"%d" % number, if_generation_match=0)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(16))) == 1


def test_a_write_needs_the_generation_it_names(cloud: Any) -> None:
    blob = cloud.storage.bucket("out").blob("guarded")
    blob.upload_from_string(b"1")
    blob.upload_from_string(b"2", if_generation_match=blob.generation)
    with pytest.raises(PreconditionFailed):
        cloud.storage.bucket("out").blob("guarded").upload_from_string(b"3", if_generation_match=1)
    assert blob.download_as_bytes() == b"2"


def test_a_read_can_pin_a_generation(cloud: Any) -> None:
    bucket = cloud.storage.bucket("out")
    blob = bucket.blob("pinned")
    blob.upload_from_string(b"1")
    first = blob.generation
    blob.upload_from_string(b"2")
    assert bucket.get_blob("pinned", generation=blob.generation).size == 1
    with pytest.raises(NotFound):
        bucket.blob("pinned", generation=first).download_as_bytes()
