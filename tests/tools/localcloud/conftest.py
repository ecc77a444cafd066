from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask, request
from google.api_core.exceptions import Cancelled, DeadlineExceeded
from google.cloud import pubsub_v1
from google.pubsub_v1 import types
from werkzeug.serving import WSGIRequestHandler, make_server

from tools.localcloud import clients
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.pubsub_process import PubSubProcess
from tools.localcloud.settings import LocalCloudSettings

GENEROUS_S = 30.0  # a deadline that only a defect misses, also on a busy machine
OFFICIAL_HOST = os.environ.get("PUBSUB_EMULATOR_HOST_OFFICIAL", "")
EMULATORS = ["ours", *(["official"] if OFFICIAL_HOST else [])]


@dataclass(frozen=True)
class Inbox:
    """A fresh subscription to a fresh topic."""

    publisher: pubsub_v1.PublisherClient
    subscriber: pubsub_v1.SubscriberClient
    topic: str
    name: str

    def publish(self, data: bytes, **attributes: str) -> str:
        return str(self.publisher.publish(self.topic, data, **attributes).result(GENEROUS_S))

    def pull(self, count: int = 1, wait_s: float = GENEROUS_S) -> list[types.ReceivedMessage]:
        """`count` messages, or fewer if they do not arrive in time."""
        received: list[types.ReceivedMessage] = []
        until = time.monotonic() + wait_s
        while len(received) < count and (left_s := until - time.monotonic()) > 0:
            with contextlib.suppress(DeadlineExceeded, Cancelled):
                wanted = count - len(received)
                answer = self.subscriber.pull(subscription=self.name, max_messages=wanted, timeout=left_s, retry=None)
                received += answer.received_messages
        return received

    def ack(self, *received: types.ReceivedMessage) -> None:
        self.subscriber.acknowledge(subscription=self.name, ack_ids=[held.ack_id for held in received])

    def lease_for(self, seconds: int, *received: types.ReceivedMessage) -> None:
        """Move the ack deadline to `seconds` from now; 0 is a nack."""
        self.subscriber.modify_ack_deadline(
            subscription=self.name, ack_ids=[held.ack_id for held in received], ack_deadline_seconds=seconds
        )


@dataclass(frozen=True)
class PubSub:
    """An emulator with Google's own clients."""

    kind: str
    publisher: pubsub_v1.PublisherClient
    subscriber: pubsub_v1.SubscriberClient
    admin_url: str = ""
    project: str = "conformance"

    def new_topic(self) -> str:
        name = f"projects/{self.project}/topics/t-{uuid.uuid4().hex}"
        return str(self.publisher.create_topic(name=name).name)

    def subscribe(self, topic: str = "", **settings: Any) -> Inbox:
        topic = topic or self.new_topic()
        name = f"projects/{self.project}/subscriptions/s-{uuid.uuid4().hex}"
        self.subscriber.create_subscription(request={"name": name, "topic": topic, **settings})
        return Inbox(self.publisher, self.subscriber, topic, name)

    def skip_official(self, difference: str) -> None:
        if self.kind == "official":
            pytest.skip(f"known difference: Google's emulator {difference}")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSubProcess]:
    with PubSubProcess(LocalCloudSettings(), tmp_path_factory.mktemp("pubsub")) as process:
        process.wait_until_ready(GENEROUS_S)
        yield process


@pytest.fixture(scope="session", params=EMULATORS)
def pubsub(request: pytest.FixtureRequest) -> Iterator[PubSub]:
    if request.param == "ours":
        process: PubSubProcess = request.getfixturevalue("emulator")
        host, admin_url = process.host, process.admin_url
    else:
        host, admin_url = OFFICIAL_HOST, ""
    publisher = clients.publisher_client(host, ordering=True)
    with clients.subscriber_client(host) as subscriber:
        yield PubSub(request.param, publisher, subscriber, admin_url)
        clients.close_publisher(publisher)


@dataclass(frozen=True)
class Push:
    """One request that arrived at the sink."""

    at: float
    headers: dict[str, str]
    body: bytes

    @property
    def envelope(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Sink:
    """A push endpoint; `answer` gets the number of the request, from 1, and returns a status."""

    url: str = ""
    answer: Callable[[int], int] = lambda number: 204
    pushes: list[Push] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> tuple[str, int]:
        with self._lock:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.pushes.append(Push(time.monotonic(), headers, request.get_data()))
            number = len(self.pushes)
        return "", self.answer(number)

    def wait_for(self, count: int) -> list[Push]:
        """The first `count` pushes."""
        until = time.monotonic() + GENEROUS_S
        while len(self.pushes) < count:
            assert time.monotonic() < until, f"{len(self.pushes)} of {count} pushes arrived"
            time.sleep(0.01)
        return self.pushes[:count]


class QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(app: Flask, port: int = 0) -> Iterator[int]:
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve() -> Callable[..., contextlib.AbstractContextManager[int]]:
    """Serve a Flask app; a context manager that yields the port."""
    return serving


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    app = Flask("sink")
    # A path of its own: subscriptions of earlier tests may still push to a port that comes around again.
    path = f"/events/{uuid.uuid4().hex}"
    app.post(path)(sink.take)
    with serving(app) as port:
        sink.url = f"http://127.0.0.1:{port}{path}"
        yield sink


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    settings = LocalCloudSettings(input_buckets=("in-a", "in-b"), output_bucket="out")
    with LocalCloud(settings) as cloud:
        yield cloud
