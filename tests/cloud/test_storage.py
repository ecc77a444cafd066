"""The adapters against the local cloud, and against a server that answers what the emulator never does."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from service.core.budget import unlimited
from service.errors import CloudUnavailable, DeadlineExceeded, NotFound, ObjectRefused, PreconditionFailed
from service.gcp.storage import ObjectInfo, ObjectStore
from tools.localcloud import clients
from tools.localcloud.faults import Proxies, Script

OUT = "sam3-output"


@pytest.fixture
def store(bench: Any) -> ObjectStore:
    return ObjectStore(bench.clients.storage)


@pytest.fixture
def store_on() -> Iterator[Callable[..., ObjectStore]]:
    """A store on the server at this address."""
    with contextlib.ExitStack() as stack:

        def store_on(url: str, left_s: Callable[[], float] = unlimited) -> ObjectStore:
            return stack.enter_context(contextlib.closing(ObjectStore(clients.storage_client(url, "p"), left_s)))

        yield store_on


@pytest.fixture
def refusing(refusing_url: Callable[[int], str], store_on: Callable[..., ObjectStore]) -> Callable[[int], ObjectStore]:
    """A store whose server answers every request with this status."""
    return lambda status: store_on(refusing_url(status))


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


ODD_NAMES = ["odd/a b.json", "odd/#[x]*?.json", "odd/ü\n😀.json", "odd/100%25&c=d;e+f.json", "odd/Content-Type: x"]


def test_many_objects_are_looked_at_in_one_call(store: ObjectStore) -> None:
    for name in ODD_NAMES:
        store.write_json(OUT, name, b"{}", if_generation=0, metadata={"k": "Content-Type: application/http\nü"})
    names = [name for odd in ODD_NAMES for name in (f"{odd}.missing", odd)]
    assert store.stat_all(OUT, names) == {name: store.stat(OUT, name) for name in ODD_NAMES}
    assert store.stat_all(OUT, []) == {}


def test_more_than_a_hundred_objects_are_looked_at(store: ObjectStore) -> None:
    names = [f"hundred/{number}.json" for number in range(0, 230, 10)]
    for name in names:
        store.write_json(OUT, name, b"{}", if_generation=0, metadata={})
    assert list(store.stat_all(OUT, [f"hundred/{number}.json" for number in range(230)])) == names


def test_a_range_has_its_beginning_and_neither_its_end_nor_more_than_its_limit(store: ObjectStore) -> None:
    names = [f"range/{letter}" for letter in "abcdef"]
    for name in names:
        store.write_json(OUT, name, b"{}", if_generation=0, metadata={})

    def names_in(start: str, limit: int, end: str | None = None) -> list[str]:
        return [info.name for info in store.list_range(OUT, "range/", start=start, end=end, limit=limit)]

    assert names_in("", 10) == names
    assert names_in("range/b", 10, "range/e") == names[1:4]
    assert names_in("range/bb", 2) == names[2:4]
    assert names_in("range/g", 10) == []


def test_a_list_with_a_delimiter_leaves_out_what_lies_in_folders(store: ObjectStore) -> None:
    names = ["beside/a.01/1.json", "beside/a.01/2.json", "beside/a.jpg.json", "beside/a.png.json"]
    for name in names:
        store.write_json(OUT, name, b"{}", if_generation=0, metadata={"k": "v"})
    infos = [store.stat(OUT, name) for name in names]
    assert store.list(OUT, "beside/a.") == infos
    assert store.list(OUT, "beside/a.", delimiter="/") == infos[2:]


@pytest.fixture
def paged(serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> tuple[str, list[str]]:
    """The address of a server with a list of five pages, the second one without items, and what it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/o?" in self.path:  # else the client asks for the bucket, for its traces
                asked.append(self.path)
            number = len(asked)
            page: dict[str, Any] = {"nextPageToken": f"t{number}"} if number < 5 else {}
            if number != 2:
                page["items"] = [{"name": f"{number}", "generation": "1"}]
            body = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return serve(Handler), asked


def test_a_list_goes_on_over_its_pages(paged: tuple[str, list[str]], store_on: Callable[..., ObjectStore]) -> None:
    url, asked = paged
    assert [info.name for info in store_on(url).list(OUT, "")] == ["1", "3", "4", "5"]
    assert ["pageToken" in path for path in asked] == [False, True, True, True, True]


def test_a_long_list_ends_with_the_time(paged: tuple[str, list[str]], store_on: Callable[..., ObjectStore]) -> None:
    url, asked = paged
    left_s = iter([60.0, 60.0, 0.0])
    with pytest.raises(DeadlineExceeded):
        store_on(url, lambda: next(left_s)).list(OUT, "")
    assert len(asked) == 2


def test_an_answer_that_leaves_it_open_whether_an_object_is_there_is_trouble(
    serve: Callable[[type[BaseHTTPRequestHandler]], str],
) -> None:
    """The batch is answered 200, its part 403."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            part = "--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n{}\r\n--b--\r\n"
            self.send_response(200)
            self.send_header("Content-Type", "multipart/mixed; boundary=b")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part.encode())

        def log_message(self, *_: object) -> None:
            pass

    store = ObjectStore(clients.storage_client(serve(Handler), "p"))
    with contextlib.closing(store), pytest.raises(CloudUnavailable, match="Forbidden 403"):
        store.stat_all(OUT, ["a"])


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


def test_a_delete_names_its_generation(bench: Any) -> None:
    """Through a proxy that keeps Cloud Storage's rule, which fake-gcs-server ignores: else the newer one were gone."""
    with Proxies(bench.cloud, Script()) as proxies:
        gcs = clients.storage_client(proxies.storage.url, bench.cloud.settings.project)
        with contextlib.closing(ObjectStore(gcs)) as store:
            first = store.write_json(OUT, "adapter/newer.json", b"1", if_generation=0, metadata={})
            second = store.write_json(OUT, "adapter/newer.json", b"2", if_generation=first, metadata={})
            assert not store.delete(OUT, "adapter/newer.json", first)
            assert store.read(OUT, "adapter/newer.json", second) == b"2"
            assert store.delete(OUT, "adapter/newer.json", second)
            assert store.delete(OUT, "adapter/newer.json", second)


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
        lambda: store.list_range(OUT, "a", start="a", limit=1),
        lambda: store.stat_all(OUT, ["a"]),
        lambda: store.delete(OUT, "a", 1),
        lambda: store.write_json(OUT, "a", b"{}", if_generation=0, metadata={}),
    ):
        # Not RetryError: asking again would not mend it, and take as long as the event has.
        with pytest.raises(CloudUnavailable, match=r"gs://.*: (InvalidOperation|Forbidden)"):
            call()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # see `serve`
@pytest.mark.parametrize(("status", "refused"), [(400, True), (403, True), (401, False)])
def test_a_refusal_to_read_may_be_of_that_object_alone(
    refusing: Callable[[int], ObjectStore], status: int, refused: bool
) -> None:
    """Of a key that we have not, or of its own ACL; where a list is refused, it is all of the bucket."""
    store = refusing(status)
    with pytest.raises(CloudUnavailable) as read:
        store.read(OUT, "a", 1)
    with pytest.raises(CloudUnavailable) as listed:
        store.list(OUT, "a")
    assert (isinstance(read.value, ObjectRefused), read.value.of_the_service) == (refused, not refused)
    assert listed.value.of_the_service


@pytest.mark.parametrize("status", [408, 429])
def test_too_many_reads_are_not_refused(
    refusing_url: Callable[[int], str], store_on: Callable[..., ObjectStore], status: int
) -> None:
    """They are tried again, as long as there is time."""
    store = store_on(refusing_url(status), lambda: 2.0)
    with pytest.raises(CloudUnavailable) as read:
        store.read(OUT, "a", 1)
    assert read.value.of_the_service


def test_a_missing_bucket_is_trouble(store: ObjectStore) -> None:
    with pytest.raises(CloudUnavailable, match="no such bucket"):
        store.list("no-such-bucket", "a")
    with pytest.raises(CloudUnavailable, match="no such bucket"):
        store.write_json("no-such-bucket", "a", b"{}", if_generation=0, metadata={})


def test_publishing_to_a_missing_topic_is_trouble(bench: Any) -> None:
    with pytest.raises(CloudUnavailable, match="NotFound"):
        bench.clients.publisher.publish(f"projects/{bench.cloud.settings.project}/topics/nope", b"x", {})


def test_many_messages_are_published_at_once(bench: Any) -> None:
    settings = bench.cloud.settings
    mailbox = type(bench.results)(bench.clients.subscriber, settings.jobs_subscription)
    topic = bench.cloud.environment()["JOBS_TOPIC"]
    bench.clients.publisher.publish_all(topic, [f'{{"number": {number}}}'.encode() for number in range(1200)])
    assert sorted(message.data["number"] for message in mailbox.all()) == list(range(1200))
    bench.clients.publisher.publish_all(topic, [])
    with pytest.raises(CloudUnavailable, match="NotFound"):
        bench.clients.publisher.publish_all("projects/local-project/topics/nope", [b"x", b"y"])


def test_a_message_over_the_size_limit_is_trouble(bench: Any) -> None:
    topic = f"projects/{bench.cloud.settings.project}/topics/{bench.cloud.settings.dead_letter_topic}"
    with pytest.raises(CloudUnavailable):
        bench.clients.publisher.publish(topic, b"x" * 11_000_000, {})


def put_packed(bench: Any, name: str, data: bytes) -> ObjectInfo:
    blob = bench.clients.storage.bucket("sam3-input").blob(name)
    blob.content_encoding = "gzip"
    blob.upload_from_string(data)
    return ObjectInfo(name, int(blob.generation), len(data))


def test_what_is_stored_packed_is_read_unpacked_up_to_the_limit(bench: Any, store: ObjectStore) -> None:
    two_parts = gzip.compress(b"a" * 1000) + gzip.compress(b"b" * 10_000_000)
    info = put_packed(bench, "packed/a", two_parts)
    assert len(store.read("sam3-input", info.name, info.generation)) == 10_001_000
    assert store.read("sam3-input", info.name, info.generation, at_most=1001) == b"a" * 1000 + b"bb"


@pytest.mark.parametrize("data", [b"not packed at all", gzip.compress(b"cut")[:-9], b""], ids=["not", "cut", "empty"])
def test_what_only_says_that_it_is_packed_is_read_as_it_is(bench: Any, store: ObjectStore, data: bytes) -> None:
    info = put_packed(bench, "packed/b", data)
    assert store.read("sam3-input", info.name, info.generation) == data
