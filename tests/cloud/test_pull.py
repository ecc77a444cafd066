"""The worker as a consumer that pulls: the same delivery rules as the push door, in one process and in several."""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import pubsub_v1
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from service.core.envelopes import Message
from service.errors import CloudUnavailable
from service.gcp.subscriber import Flow, Stream
from service.pull import GRACE_S, Door
from service.settings import FAILED_START, GIVE_BACK_S, STOP_S, WRITE_S
from tools.localcloud.pubsub.names import topic_path
from tools.localcloud.settings import LocalCloudSettings

WAIT_S = 60.0
CLI = "import sys; from tools.cli import main; sys.exit(main())"
SLOW_PULLER = str(Path(__file__).parent / "slow_puller.py")


@pytest.fixture(scope="module")
def bench(open_bench: Callable[..., Any]) -> Any:
    return open_bench(LocalCloudSettings())


@pytest.fixture
def subscription(bench: Any) -> Iterator[str]:
    """A pull subscription of the test's own to the uploads topic, set up as in a deployment."""
    settings = bench.cloud.settings
    name = f"projects/{settings.project}/subscriptions/s-{uuid.uuid4().hex}"
    uploads = bench.clients.subscriber.get_subscription(subscription=settings.uploads_subscription)
    kept = ("topic", "filter", "ack_deadline_seconds", "retry_policy", "dead_letter_policy")
    bench.clients.subscriber.create_subscription(
        request={"name": name, **{field: getattr(uploads, field) for field in kept}}
    )
    yield name
    bench.clients.subscriber.delete_subscription(subscription=name)


def publish(bench: Any, data: bytes, **attributes: str) -> None:
    settings = bench.cloud.settings
    topic = topic_path(settings.project, settings.uploads_topic)
    bench.clients.publisher.publish(topic, data, {"bucketId": settings.input_buckets[0], **attributes})


@contextmanager
def pulling(bench: Any, subscription: str, deliver: Callable[[Message], bool]) -> Iterator[Stream]:
    stream = Stream(bench.clients.subscriber, subscription, deliver, Flow(messages=4, lease_s=600))
    try:
        yield stream
    finally:
        stream.close(WAIT_S)


def upload(bench: Any, name: str, data: bytes = b"image") -> None:
    bench.upload(f"{name}.prompts.json", '["red square"]')
    bench.upload(name, data, "image/png")


def counts(bench: Any, subscription: str) -> Any:
    bench.skip_official("has no statistics")
    return bench.cloud.statistics()[subscription]


def status_of(service: Any, path: str) -> int:
    """0 while nothing listens."""
    try:
        return requests.get(f"{service.url}{path}", timeout=30).status_code
    except requests.RequestException:
        return 0


def critical(service: Any) -> list[str]:
    lines = [json.loads(line) for line in service.output().splitlines()]
    return [line["message"] for line in lines if line["severity"] == "CRITICAL"]


def test_what_is_done_is_acknowledged(
    bench: Any, stage: Callable[..., Any], subscription: str, eventually: Callable[..., None]
) -> None:
    with pulling(bench, subscription, Door(stage().worker).deliver):
        upload(bench, "pull/done.png")
        eventually(lambda: bench.output("pull/done.png.json") is not None, WAIT_S)
        eventually(lambda: counts(bench, subscription).acked == 2, WAIT_S)
    assert counts(bench, subscription).nacked == 0


@pytest.mark.parametrize("error", [CloudUnavailable("no answer"), RuntimeError("a defect")], ids=["trouble", "defect"])
def test_what_failed_comes_again(
    bench: Any, stage: Callable[..., Any], subscription: str, eventually: Callable[..., None], error: Exception
) -> None:
    name = f"pull/{type(error).__name__}.png"
    staged, failures = stage(), [error]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    staged.segmenter.before = fail_once
    attempts: list[int | None] = []

    def deliver(message: Message) -> bool:
        attempts.append(message.delivery_attempt)
        return Door(staged.worker).deliver(message)

    with pulling(bench, subscription, deliver):
        upload(bench, name)
        eventually(lambda: bench.output(f"{name}.json") is not None, WAIT_S)
        eventually(lambda: counts(bench, subscription).acked == 2, WAIT_S)
    # Its sidecar's event wants the same job: at the same time, it fails with it.
    assert counts(bench, subscription).nacked in (1, 2)
    assert 2 in attempts


def test_what_cannot_be_read_is_dead_lettered_whole(
    bench: Any, stage: Callable[..., Any], subscription: str, eventually: Callable[..., None]
) -> None:
    with pulling(bench, subscription, Door(stage().worker).deliver):
        publish(bench, b'{"no": "notification"}', color="red")
        eventually(lambda: counts(bench, subscription).acked == 1, WAIT_S)
    [message] = [each for each in bench.dead_letters.all() if each.attributes.get("subscription") == subscription]
    assert message.data == {"no": "notification"}
    assert message.attributes["color"] == "red"
    assert message.attributes["reason"]


def test_what_cannot_be_read_stays_without_a_dead_letter_topic(
    bench: Any, stage: Callable[..., Any], subscription: str, eventually: Callable[..., None]
) -> None:
    with pulling(bench, subscription, Door(stage(DEAD_LETTER_TOPIC="").worker).deliver):
        publish(bench, b"{}", color="red")
        eventually(lambda: counts(bench, subscription).nacked >= 2, WAIT_S)
    assert counts(bench, subscription).acked == 0


class Recorder(grpc.UnaryUnaryClientInterceptor):
    """Notes the calls that a client makes; with `trouble` giving back fails."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.deadlines: list[tuple[str, int]] = []
        self._trouble = trouble

    def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
        if details.method.endswith("/ModifyAckDeadline"):
            if self._trouble and request.ack_deadline_seconds == 0:
                raise self._trouble
            self.deadlines += [(ack_id, request.ack_deadline_seconds) for ack_id in request.ack_ids]
        return proceed(details, request)


@pytest.mark.parametrize("trouble", [None, ServiceUnavailable("no answer")], ids=["given back", "trouble"])
def test_what_is_not_done_within_the_grace_goes_back(
    bench: Any, subscription: str, caplog: pytest.LogCaptureFixture, trouble: Exception | None
) -> None:
    recorder, begun, go_on = Recorder(trouble), threading.Event(), threading.Event()

    def deliver(message: Message) -> bool:
        begun.set()
        return go_on.wait(WAIT_S)

    with grpc.insecure_channel(bench.cloud.pubsub_host) as channel:
        transport = SubscriberGrpcTransport(channel=grpc.intercept_channel(channel, recorder))
        client = pubsub_v1.SubscriberClient(transport=transport)
        stream = Stream(client, subscription, deliver, Flow(messages=1, lease_s=600))
        publish(bench, b"x", color="red")
        assert begun.wait(WAIT_S)
        assert stream.close(0.1) == 1
        assert [seconds for _, seconds in recorder.deadlines if seconds == 0] == ([] if trouble else [0])
        assert ("cannot give back 1 messages: ServiceUnavailable" in caplog.text) == bool(trouble)
        go_on.set()
        assert stream.close(WAIT_S) == 0


def test_a_stop_has_time_for_writing_and_for_giving_back() -> None:
    assert WRITE_S < GRACE_S
    assert GRACE_S + GIVE_BACK_S <= STOP_S


@pytest.mark.timeout(600)
def test_two_consumers_share_a_subscription(
    bench: Any,
    start_service: Callable[..., Any],
    subscription: str,
    draw: Callable[..., bytes],
    eventually: Callable[..., None],
) -> None:
    """No message is taken before the model is there; then every image has one result, whoever made it."""
    names = [f"pull/shared-{number}.png" for number in range(24)]
    for name in names:
        upload(bench, name, draw())
    arguments = ("-m", "service.pull", "--subscription", subscription, "--health-port", "{port}")
    environment = bench.cloud.environment() | {"QUEUE_SIZE": "2"}
    first, second = (start_service(environment, arguments) for _ in range(2))

    def ready() -> bool:
        first.check()
        second.check()
        delivered = counts(bench, subscription).delivered
        states = [status_of(each, "/ready") for each in (first, second)]
        assert not delivered or 200 in states
        return states == [200, 200]

    eventually(ready, 200, first.output)
    assert [status_of(each, "/health") for each in (first, second)] == [200, 200]
    eventually(lambda: all(bench.output(f"{name}.json") for name in names), 200, first.output)
    eventually(lambda: counts(bench, subscription).quiet, WAIT_S)
    for process in (first, second):
        process.terminate()
        assert process.wait() == 0
    own = Counter(
        message.attributes["job_id"]
        for name in names
        for message in bench.results.about(name)
        if message.attributes["replayed"] == "false"
    )
    assert (len(own), set(own.values())) == (len(names), {1})


def gated(start: Callable[..., Any], bench: Any, subscription: str, gate: Path, grace_s: float) -> Any:
    environment = bench.cloud.environment() | {"GATE": str(gate), "QUEUE_SIZE": "1"}
    return start(environment, (SLOW_PULLER, subscription, str(grace_s)))


def test_sigterm_lets_the_work_finish(
    bench: Any,
    start_service: Callable[..., Any],
    subscription: str,
    tmp_path: Path,
    draw: Callable[..., bytes],
    eventually: Callable[..., None],
) -> None:
    puller = gated(start_service, bench, subscription, tmp_path, WAIT_S)
    for name in ("pull/last.png", "pull/later.png"):
        upload(bench, name, draw())
    eventually((tmp_path / "working").exists, WAIT_S, puller.output)
    puller.terminate()
    puller.check()
    (tmp_path / "go").touch()
    assert puller.wait() == 0
    written = [name for name in ("pull/last.png", "pull/later.png") if bench.output(f"{name}.json")]
    assert len(written) == 1, "the one that was under way, and no other"
    assert "Traceback" not in puller.output()


def test_sigterm_gives_back_what_does_not_finish(
    bench: Any,
    start_service: Callable[..., Any],
    subscription: str,
    tmp_path: Path,
    draw: Callable[..., bytes],
    eventually: Callable[..., None],
) -> None:
    """It goes back before the time for writing begins, and a forward that is not over is not waited for."""
    bench.skip_official("sometimes keeps what a closed stream held until the ack deadline")
    puller = gated(start_service, bench, subscription, tmp_path, WRITE_S + 0.5)
    upload(bench, "pull/stuck.png", draw())
    eventually((tmp_path / "working").exists, WAIT_S, puller.output)
    puller.terminate()
    assert puller.wait() == 0
    assert "the model is still at work that went back to Pub/Sub" in puller.output()
    assert bench.output("pull/stuck.png.json") is None
    (tmp_path / "go").touch()
    another = gated(start_service, bench, subscription, tmp_path, WAIT_S)
    eventually(lambda: bench.output("pull/stuck.png.json") is not None, WAIT_S, another.output)
    another.terminate()
    assert another.wait() == 0


def test_sigterm_while_loading_ends_at_once(
    bench: Any, start_service: Callable[..., Any], subscription: str, eventually: Callable[..., None]
) -> None:
    arguments = ("-m", "service.pull", "--subscription", subscription, "--health-port", "{port}")
    puller = start_service(bench.cloud.environment(), arguments)
    eventually(lambda: status_of(puller, "/ready") == 503, WAIT_S, puller.output)
    assert status_of(puller, "/health") == 200
    puller.terminate()
    assert puller.wait() == 0


def test_a_subscription_that_cannot_be_pulled_is_one_line_and_the_end(
    bench: Any, start_service: Callable[..., Any], subscription: str, tmp_path: Path
) -> None:
    missing = "projects/local-project/subscriptions/none"
    puller = gated(start_service, bench, missing, tmp_path, 1)
    assert puller.wait() == FAILED_START
    assert critical(puller) == [f"cannot pull from {missing}: there is no such subscription"]
    push = {"push_endpoint": "http://127.0.0.1:9/events"}
    bench.clients.subscriber.modify_push_config(subscription=subscription, push_config=push)
    puller = gated(start_service, bench, subscription, tmp_path, 1)
    assert puller.wait() == FAILED_START
    assert critical(puller) == [
        f"cannot pull from {subscription}: it is no pull subscription (remove its push endpoint)"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SAM3_MODEL": "/no/such/folder"}, "'/no/such/folder' is not a folder"),
        ({"INPUT_BUCKETS": "", "OUTPUT_BUCKET": ""}, "INPUT_BUCKETS: '' is not allowed when pulling"),
    ],
    ids=["model", "setting"],
)
def test_what_cannot_start_ends_with_one_line(
    bench: Any, start_service: Callable[..., Any], subscription: str, change: dict[str, str], message: str
) -> None:
    puller = start_service(bench.cloud.environment() | change, ("-m", "service.pull", "--subscription", subscription))
    assert puller.wait() == FAILED_START
    assert message in puller.output()
    assert "Traceback" not in puller.output()
    assert counts(bench, subscription).delivered == 0


def test_sam3_pull_is_the_same_program(bench: Any, start_service: Callable[..., Any], subscription: str) -> None:
    environment = bench.cloud.environment() | {"SAM3_MODEL": "/no/such/folder"}
    puller = start_service(environment, ("-c", CLI, "pull", "--subscription", subscription))
    assert puller.wait() == FAILED_START
    assert "'/no/such/folder' is not a folder" in puller.output()
    refused = start_service(environment, ("-c", CLI, "pull", "--subscription", "events"))
    assert refused.wait() == 2
    assert "'events' is not allowed; allowed: projects/PROJECT/subscriptions/NAME" in refused.output()
