"""The proxies, seen with Google's own clients."""

from __future__ import annotations

import contextlib
import queue
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed, ServiceUnavailable
from google.cloud.storage.retry import DEFAULT_RETRY

from tools.localcloud import clients
from tools.localcloud.faults import ANSWERED, ARRIVES, Call, Cut, Proxies, Script

TOPIC = "projects/local-project/topics/sam3-results"
ONCE = {"retry": None, "timeout": 20.0}


@dataclass(frozen=True)
class Through:
    """Clients that go through proxies under a script."""

    script: Script
    proxies: Proxies
    bucket: Any
    publisher: Any


@pytest.fixture
def open_through(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Through]]:
    # The storage client would ask for the bucket, on a thread of its own, whenever it likes.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    with contextlib.ExitStack() as stack:

        def open_through(**options: Any) -> Through:
            script = Script(**options)
            proxies = stack.enter_context(Proxies(cloud, script))
            gcs = stack.enter_context(
                contextlib.closing(clients.storage_client(proxies.storage.url, cloud.settings.project))
            )
            publisher = clients.publisher_client(proxies.pubsub.host)
            stack.callback(clients.close_publisher, publisher)
            return Through(script, proxies, gcs.bucket("out"), publisher)

        yield open_through


def fast_retry() -> Any:
    return DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05, multiplier=2)


@pytest.mark.parametrize("name", ["plain.jpg", "a/b c#?%2F&+ü.json", 'quote"d\\.png'])
def test_every_call_is_known_by_its_kind_and_subject(open_through: Any, name: str) -> None:
    through = open_through()
    blob = through.bucket.blob(f"kinds/{name}")
    blob.metadata = {"x": "y"}
    blob.upload_from_string(b"{data}", content_type="text/plain")
    blob.reload()
    assert through.bucket.blob(blob.name).download_as_bytes() == b"{data}"
    assert [found.name for found in through.bucket.list_blobs(prefix=blob.name)] == [blob.name]
    blob.delete(if_generation_match=blob.generation)
    with pytest.raises(NotFound):
        blob.reload()
    through.publisher.publish(TOPIC, b"data").result(20)
    subject = f"out/kinds/{name}"
    kinds = ("write", "stat", "read", "list", "delete", "stat")
    assert through.script.calls() == [*(Call(kind, subject) for kind in kinds), Call("publish", TOPIC)]


def test_calls_are_counted(open_through: Any) -> None:
    through = open_through()
    with through.script.counting() as counted:
        list(through.bucket.list_blobs(prefix="none"))
        through.publisher.publish(TOPIC, b"data").result(20)
    assert counted == Counter(list=1, publish=1)


def test_a_lost_call_is_answered_as_google_does(open_through: Any) -> None:
    through = open_through(rate=1.0)
    with pytest.raises(ServiceUnavailable) as caught:
        through.bucket.blob("lost/a").reload(**ONCE)
    assert caught.value.errors[0]["reason"] == "backendError"
    with pytest.raises(ServiceUnavailable, match="8a75"):
        through.publisher.publish(TOPIC, b"data", retry=None, timeout=20).result(20)
    assert through.script.lost == Counter(stat=1, publish=1)


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (503, ServiceUnavailable)])
def test_calls_of_a_kind_are_refused_until_they_may_pass(open_through: Any, status: int, error: Any) -> None:
    through = open_through()
    through.script.refuse("write", status)
    through.script.refuse("publish", status)
    blob = through.bucket.blob(f"refused/{status}")
    with pytest.raises(error):
        blob.upload_from_string(b"x", **ONCE)
    with pytest.raises(error):
        through.publisher.publish(TOPIC, b"data", retry=None, timeout=20).result(20)
    assert not blob.exists()
    through.script.let_pass()
    blob.upload_from_string(b"x", **ONCE)
    through.publisher.publish(TOPIC, b"data", retry=None, timeout=20).result(20)
    assert blob.exists()


def test_a_lost_answer_may_hide_a_done_work(open_through: Any, cloud: Any) -> None:
    through = open_through(rate=1.0, seed=3)
    done = 0
    for number in range(16):
        blob = through.bucket.blob(f"hidden/{number}")
        with pytest.raises(ServiceUnavailable):
            blob.upload_from_string(b"x", if_generation_match=0, **ONCE)
        done += cloud.storage.bucket("out").blob(blob.name).exists()
    assert 0 < done < 16


def test_the_clients_own_retries_get_through(open_through: Any) -> None:
    through = open_through(rate=0.3, seed=1)
    for number in range(20):
        blob = through.bucket.blob(f"retried/{number}")
        # Done although the answer was lost: the retry meets its own write.
        with contextlib.suppress(PreconditionFailed):
            blob.upload_from_string(b"x", if_generation_match=0, retry=fast_retry())
        blob.reload(retry=fast_retry())
    assert through.script.lost["write"] > 0
    assert through.script.lost["stat"] > 0


def test_the_same_seed_loses_the_same_calls(open_through: Any) -> None:
    def lost(seed: int) -> list[int]:
        through = open_through(rate=0.5, seed=seed)
        numbers = []
        for number in range(30):
            try:
                list(through.bucket.list_blobs(prefix="none", **ONCE))
            except ServiceUnavailable:
                numbers.append(number)
        return numbers

    assert lost(5) == lost(5) != lost(6)


def test_a_call_is_held_where_the_script_says(open_through: Any) -> None:
    through = open_through()
    arrived, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        assert go_on.wait(20)

    through.script.at("write", hold, moment=ARRIVES, subject="held", nth=2)
    through.bucket.blob("held/1").upload_from_string(b"x")
    second = threading.Thread(target=lambda: through.bucket.blob("held/2").upload_from_string(b"x"))
    second.start()
    assert arrived.wait(20)
    assert [blob.name for blob in through.bucket.list_blobs(prefix="held/")] == ["held/1"]
    go_on.set()
    second.join()
    assert [blob.name for blob in through.bucket.list_blobs(prefix="held/")] == ["held/1", "held/2"]


@pytest.mark.parametrize(("moment", "written"), [(ARRIVES, False), (ANSWERED, True)])
def test_a_call_is_cut_before_or_after_its_work(open_through: Any, moment: Any, written: bool) -> None:
    def cut() -> None:
        raise Cut

    through = open_through()
    through.script.at("write", cut, moment=moment)
    blob = through.bucket.blob(f"cut/{moment}")
    with pytest.raises(requests.ConnectionError):
        blob.upload_from_string(b"x", **ONCE)
    assert blob.exists() is written


def test_an_action_waits_for_an_answer_that_there_is(open_through: Any) -> None:
    through = open_through()
    answered = threading.Event()
    through.script.at("push", answered.set, moment=ANSWERED)
    through.proxies.push.point_to("http://127.0.0.1:9")  # nothing listens
    assert requests.post(f"{through.proxies.push.url}/events", json={}, timeout=20).status_code == 503
    assert not answered.is_set()


@pytest.mark.parametrize("wanted", [-1, 1])
def test_a_delete_of_another_generation_is_refused(open_through: Any, wanted: int) -> None:
    """By Cloud Storage; fake-gcs-server would delete it."""
    blob = open_through().bucket.blob("deleted/not")
    blob.upload_from_string(b"x")
    with pytest.raises(PreconditionFailed, match="pre-conditions"):
        blob.delete(if_generation_match=blob.generation + wanted, **ONCE)
    assert blob.exists()
    blob.delete(if_generation_match=blob.generation, **ONCE)
    with pytest.raises(NotFound):
        blob.delete(if_generation_match=blob.generation, **ONCE)


def test_a_streaming_pull_goes_through(open_through: Any, cloud: Any, eventually: Any) -> None:
    through = open_through()
    name = cloud.subscriber.subscription_path(cloud.settings.project, f"streamed-{uuid.uuid4().hex}")
    cloud.subscriber.create_subscription(name=name, topic=TOPIC)
    got: queue.Queue[bytes] = queue.Queue()

    def take(message: Any) -> None:
        got.put(message.data)
        message.ack()

    with clients.subscriber_client(through.proxies.pubsub.host) as subscriber:
        pulling = subscriber.subscribe(name, take)
        for number in range(3):  # one after the other: a stream that ends after an answer would give the first only
            through.publisher.publish(TOPIC, b"%d" % number).result(20)
            assert got.get(timeout=60) == b"%d" % number
        # The client sends acknowledgements later; one that is cancelled may not.
        eventually(lambda: cloud.statistics()[name].quiet, 60)
        pulling.cancel()
        pulling.result(20)
    assert cloud.statistics()[name].acked == 3


def test_a_streaming_pull_ends_as_the_emulator_ends_it(open_through: Any) -> None:
    with clients.subscriber_client(open_through().proxies.pubsub.host) as subscriber:
        pulling = subscriber.subscribe("projects/local-project/subscriptions/none", lambda message: None)
        with pytest.raises(NotFound):
            pulling.result(60)


def test_pushes_go_through_to_whatever_serves_now(open_through: Any, cloud: Any, sink: Any) -> None:
    through = open_through()
    through.proxies.push_to("http://127.0.0.1:9")  # nothing listens: 503, delivered again
    cloud.storage.bucket("in-a").blob("pushed").upload_from_string(b"x")
    while not through.script.calls():
        pass
    path = sink.url.removeprefix(f"http://{sink.url.split('/')[2]}")
    through.proxies.push.point_to(sink.url)
    cloud.push_to(f"{through.proxies.push.url}{path}")
    [push] = sink.wait_for(1)
    cloud.push_to("")
    assert push.envelope["deliveryAttempt"] > 1
    assert set(through.script.calls()) == {Call("push", push.envelope["message"]["messageId"])}
