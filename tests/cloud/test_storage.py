"""The adapters against the local cloud, and against a server that answers what the emulator never does."""

from __future__ import annotations

import contextlib
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
def refusing() -> Iterator[Callable[[int], ObjectStore]]:
    """A store whose server answers every request with this status."""
    with contextlib.ExitStack() as stack:

        def refusing(status: int) -> ObjectStore:
            class Handler(BaseHTTPRequestHandler):
                def _refuse(self) -> None:
                    self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

                do_GET = do_POST = do_DELETE = _refuse  # noqa: N815

                def log_message(self, *_: object) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            threading.Thread(target=server.serve_forever).start()
            stack.callback(server.shutdown)
            store = ObjectStore(clients.storage_client(f"http://127.0.0.1:{server.server_port}", "p"))
            return stack.enter_context(contextlib.closing(store))

        yield refusing
    # On a 401 google-auth raises over the open response, whose socket is closed only when it is collected: do so here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


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


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # see `refusing`
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
        bench.clients.publisher.publish("projects/local-project/topics/nope", b"x", {})


def test_a_message_over_the_size_limit_is_trouble(bench: Any) -> None:
    topic = f"projects/local-project/topics/{bench.cloud.settings.dead_letter_topic}"
    with pytest.raises(CloudUnavailable):
        bench.clients.publisher.publish(topic, b"x" * 11_000_000, {})
