"""`image_uri` of /segment: the service's own process, the embedded model, and a real storage server."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest
import requests

from service.errors import CloudUnavailable, Forbidden, NotFound, TooLarge
from service.gcp.storage import ObjectStore
from service.web.bucket_images import BucketImages
from tools.localcloud import clients

BUCKET = "sam3-input"


def ask(service: Any, uri: str) -> requests.Response:
    return requests.post(f"{service.url}/segment", json={"image_uri": uri, "prompts": ["red square"]}, timeout=100)


def refused(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


def test_an_image_is_read_from_its_bucket(bench: Any, reading: Any, draw: Callable[..., bytes]) -> None:
    image = bench.upload("uri/a b#.png", draw(120, 90), "image/png")
    uri = f"gs://{BUCKET}/{image.name}"
    answer = ask(reading, uri)
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"]["width"] == 120
    form = {"image_uri": (None, uri), "prompts": (None, "red square")}
    in_form = requests.post(f"{reading.url}/segment", files=form, timeout=100).json()
    assert in_form["results"] == answer.json()["results"]
    pictured = requests.post(
        f"{reading.url}/segment", json={"image_uri": uri, "prompts": ["red square"], "format": "overlay"}, timeout=100
    )
    assert pictured.headers["Content-Type"] == "image/webp"


def test_a_generation_may_be_pinned(bench: Any, reading: Any, draw: Callable[..., bytes]) -> None:
    image = bench.upload("uri/pinned.png", draw(), "image/png")
    uri = f"gs://{BUCKET}/{image.name}"
    assert ask(reading, f"{uri}#{image.generation}").status_code == 200
    assert refused(ask(reading, f"{uri}#{image.generation + 1}")) == (404, "not_found")
    assert refused(ask(reading, f"{uri}#0")) == (400, "bad_field")


def test_what_may_not_be_read_or_is_not_there(bench: Any, reading: Any) -> None:
    assert refused(ask(reading, f"gs://{BUCKET}/uri/none.png")) == (404, "not_found")
    assert refused(ask(reading, "gs://sam3-output/a.png")) == (403, "forbidden")
    assert "READ_BUCKETS" in ask(reading, "gs://sam3-output/a.png").json()["detail"]
    assert refused(ask(reading, "https://example.com/a.png")) == (400, "bad_field")


def test_what_is_too_large_or_no_image(bench: Any, reading: Any) -> None:
    bench.upload("uri/large.png", b"x" * 500_001)
    answer = ask(reading, f"gs://{BUCKET}/uri/large.png")
    assert refused(answer) == (413, "too_large")
    assert "MAX_OBJECT_BYTES" in answer.json()["detail"]
    blob = bench.clients.storage.bucket(BUCKET).blob("uri/packed.png")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b"x" * 500_001), content_type="image/png")
    assert "unpacked" in ask(reading, f"gs://{BUCKET}/uri/packed.png").json()["detail"]
    bench.upload("uri/text.png", "text")
    assert refused(ask(reading, f"gs://{BUCKET}/uri/text.png")) == (415, "not_an_image")


@pytest.fixture
def images(bench: Any) -> Callable[..., BucketImages]:
    def images(store: Any = None, max_bytes: int = 1000) -> BucketImages:
        return BucketImages(store or ObjectStore(bench.clients.storage), (BUCKET,), max_bytes)

    return images


class Replaced:
    """A store whose object is replaced between look and read, so many times."""

    def __init__(self, store: ObjectStore, times: int, replace: Callable[[], object]) -> None:
        self._store = store
        self._times = times
        self._replace = replace

    def stat(self, bucket: str, name: str, generation: int | None = None) -> Any:
        return self._store.stat(bucket, name, generation)

    def read(self, bucket: str, name: str, generation: int, at_most: int | None = None) -> bytes:
        if self._times:
            self._times -= 1
            self._replace()
        return self._store.read(bucket, name, generation, at_most)


def test_an_object_that_is_replaced_meanwhile_is_read_anew(bench: Any, images: Callable[..., BucketImages]) -> None:
    bench.upload("uri/changing", "old")
    store = ObjectStore(bench.clients.storage)
    uri = f"gs://{BUCKET}/uri/changing"
    once = Replaced(store, 1, lambda: bench.upload("uri/changing", "new"))
    assert images(once).read(uri) == b"new"
    with pytest.raises(CloudUnavailable, match="kept changing"):
        images(Replaced(store, 9, lambda: bench.upload("uri/changing", "newer"))).read(uri)
    pinned = store.stat(BUCKET, "uri/changing")
    assert pinned is not None
    with pytest.raises(NotFound):
        once = Replaced(store, 1, lambda: bench.upload("uri/changing", "newest"))
        images(once).read(f"{uri}#{pinned.generation}")


def test_limits_of_what_is_read(bench: Any, images: Callable[..., BucketImages]) -> None:
    bench.upload("uri/five", "12345")
    assert images(max_bytes=5).read(f"gs://{BUCKET}/uri/five") == b"12345"
    with pytest.raises(TooLarge, match="has 5 bytes; at most 4"):
        images(max_bytes=4).read(f"gs://{BUCKET}/uri/five")
    with pytest.raises(Forbidden, match="must be one of sam3-input"):
        images().read("gs://another/uri/five")


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_broken_grant_is_our_fault(
    refusing_url: Callable[[int], str], images: Callable[..., BucketImages], status: int
) -> None:
    client = clients.storage_client(refusing_url(status), "p")
    try:
        with pytest.raises(CloudUnavailable):
            images(ObjectStore(client, lambda: 2.0)).read(f"gs://{BUCKET}/a.png")
    finally:
        client.close()
