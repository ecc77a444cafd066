"""The adapters against the local cloud, and against a server that answers what the emulator never does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.errors import CloudUnavailable, NotFound, PreconditionFailed
from service.gcp.storage import ObjectStore
from tools.localcloud import clients

OUT = "sam3-output"


@pytest.fixture
def store(bench: Any) -> ObjectStore:
    return ObjectStore(bench.clients.storage)


@pytest.fixture
def refusing(refusing_url: Callable[[int], str]) -> Iterator[Callable[[int], ObjectStore]]:
    """A store whose server answers every request with this status."""
    with contextlib.ExitStack() as stack:

        def refusing(status: int) -> ObjectStore:
            store = ObjectStore(clients.storage_client(refusing_url(status), "p"))
            return stack.enter_context(contextlib.closing(store))

        yield refusing


def test_stat_and_list_agree(store: ObjectStore) -> None:
    generation = store.write_json(OUT, "adapter/a b#.json", b"{}", if_generation=0, metadata={"k": "ü"})
    info = store.stat(OUT, "adapter/a b#.json")
    assert info is not None
    assert (info.generation, info.size, info.content_type) == (generation, 2, "application/json")
    assert info.metadata == {"k": "ü"}
    assert info.crc32c
    assert store.list(OUT, "adapter/a b") == [info]
    assert store.list(OUT, "adapter/none") == []
    assert store.stat(OUT, "adapter/none") is None


def test_reads_are_pinned(store: ObjectStore) -> None:
    first = store.write_json(OUT, "adapter/pin.json", b"1", if_generation=0, metadata={})
    assert store.read(OUT, "adapter/pin.json", first) == b"1"
    second = store.write_json(OUT, "adapter/pin.json", b"2", if_generation=first, metadata={})
    assert store.read(OUT, "adapter/pin.json", second) == b"2"
    with pytest.raises(NotFound):
        store.read(OUT, "adapter/pin.json", first)


def test_writes_replace_only_what_was_expected(store: ObjectStore) -> None:
    first = store.write_json(OUT, "adapter/cas.json", b"1", if_generation=0, metadata={})
    for expected in (0, first + 1):
        with pytest.raises(PreconditionFailed):
            store.write_json(OUT, "adapter/cas.json", b"2", if_generation=expected, metadata={})
    assert store.read(OUT, "adapter/cas.json", first) == b"1"


def test_delete(store: ObjectStore) -> None:
    generation = store.write_json(OUT, "adapter/gone.json", b"1", if_generation=0, metadata={})
    assert store.delete(OUT, "adapter/gone.json", generation)
    assert store.stat(OUT, "adapter/gone.json") is None
    assert store.delete(OUT, "adapter/gone.json", generation)


def test_a_newer_generation_is_not_deleted(refusing: Callable[[int], ObjectStore]) -> None:
    assert not refusing(412).delete(OUT, "a", 1)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # see `serve`
@pytest.mark.parametrize("status", [401, 403])
def test_a_broken_grant_is_trouble_and_no_fault_of_the_input(
    refusing: Callable[[int], ObjectStore], status: int
) -> None:
    store = refusing(status)
    for call in (
        lambda: store.stat(OUT, "a"),
        lambda: store.read(OUT, "a", 1),
        lambda: store.list(OUT, "a"),
        lambda: store.delete(OUT, "a", 1),
        lambda: store.write_json(OUT, "a", b"{}", if_generation=0, metadata={}),
    ):
        with pytest.raises(CloudUnavailable, match="gs://"):
            call()


def test_a_missing_bucket_is_trouble(store: ObjectStore) -> None:
    with pytest.raises(CloudUnavailable, match="no such bucket"):
        store.list("no-such-bucket", "a")
    with pytest.raises(CloudUnavailable, match="no such bucket"):
        store.write_json("no-such-bucket", "a", b"{}", if_generation=0, metadata={})


def test_publishing_to_a_missing_topic_is_trouble(bench: Any) -> None:
    with pytest.raises(CloudUnavailable, match="NotFound"):
        bench.clients.publisher.publish(f"projects/{bench.cloud.settings.project}/topics/nope", b"x", {})


def test_a_message_over_the_size_limit_is_trouble(bench: Any) -> None:
    topic = f"projects/{bench.cloud.settings.project}/topics/{bench.cloud.settings.dead_letter_topic}"
    with pytest.raises(CloudUnavailable):
        bench.clients.publisher.publish(topic, b"x" * 11_000_000, {})
