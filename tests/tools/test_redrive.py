"""`sam3 redrive`: nothing is lost, nothing is seen twice, and nothing happens without --go."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.pubsub_v1 import PublisherClient, types

from service.core.envelopes import Message
from service.core.letters import dead_letter
from tools import cli
from tools.localcloud import clients
from tools.localcloud.faults.calls import ANSWERED, ARRIVES, Script
from tools.localcloud.faults.pubsub_proxy import PubSubProxy
from tools.localcloud.pubsub.names import subscription_path, topic_path
from tools.localcloud.pubsub_process import PubSubProcess
from tools.localcloud.settings import LocalCloudSettings

PROJECT = "p"
UPLOAD = {"eventType": "OBJECT_FINALIZE", "bucketId": "in", "objectId": "shelf/a.jpg", "objectGeneration": "1"}
CLI = "import sys; from tools.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSubProcess]:
    """It delivers every other message twice."""
    with PubSubProcess(LocalCloudSettings(duplicate_rate=0.5), tmp_path_factory.mktemp("pubsub")) as process:
        process.wait_until_ready(60)
        yield process


@dataclass(frozen=True)
class Post:
    """A source topic with its subscription, and a dead-letter topic with its subscription."""

    publisher: Any
    subscriber: Any
    id: str
    capsys: pytest.CaptureFixture[str]

    @property
    def source_topic(self) -> str:
        return topic_path(PROJECT, f"source-{self.id}")

    @property
    def source(self) -> str:
        return subscription_path(PROJECT, f"source-{self.id}")

    @property
    def dead_topic(self) -> str:
        return topic_path(PROJECT, f"dead-{self.id}")

    @property
    def dead(self) -> str:
        return subscription_path(PROJECT, f"dead-{self.id}")

    def publish(self, data: bytes, attributes: dict[str, str]) -> str:
        message = types.PubsubMessage(data=data, attributes=attributes)
        gapic = PublisherClient(transport=self.publisher.transport)
        return str(gapic.publish(topic=self.dead_topic, messages=[message]).message_ids[0])

    def rejected(self, data: bytes = b"x", reason: str = "not JSON", **attributes: str) -> str:
        """As the worker leaves it."""
        return self.publish(data, attributes | {"reason": reason, "subscription": self.source})

    def forwarded(self, data: bytes, /, **attributes: str) -> str:
        """As Pub/Sub leaves it."""
        added = {
            "CloudPubSubDeadLetterSourceDeliveryCount": "100",
            "CloudPubSubDeadLetterSourceSubscription": f"source-{self.id}",
            "CloudPubSubDeadLetterSourceSubscriptionProject": PROJECT,
            "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-01-31T12:00:00.123+00:00",
        }
        return self.publish(data, attributes | added)

    def redrive(self, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """Status, the JSON lines, and what stands on standard error."""
        status = cli.main(["redrive", self.dead, "--json", "--idle", "1", *arguments])
        said = self.capsys.readouterr()
        return status, [json.loads(line) for line in said.out.splitlines()], said.err

    def left(self, subscription: str = "") -> dict[str, types.PubsubMessage]:
        """All that waits in a subscription, by id, taken for good."""
        found: dict[str, types.PubsubMessage] = {}
        name = subscription or self.dead
        last = time.monotonic()
        while time.monotonic() - last < 1:
            request = {"subscription": name, "max_messages": 500, "return_immediately": True}
            with pytest.warns(DeprecationWarning, match="return_immediately"):
                received = self.subscriber.pull(request=request).received_messages
            if received:
                self.subscriber.acknowledge(subscription=name, ack_ids=[each.ack_id for each in received])
                last = time.monotonic()
            else:
                time.sleep(0.05)
            found |= {each.message.message_id: each.message for each in received}
        return found


@pytest.fixture
def post(
    emulator: PubSubProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Post]:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    publisher = clients.publisher_client(emulator.host)
    with clients.subscriber_client(emulator.host) as subscriber:
        post = Post(publisher, subscriber, uuid.uuid4().hex, capsys)
        for topic, subscription in ((post.source_topic, post.source), (post.dead_topic, post.dead)):
            publisher.create_topic(name=topic)
            subscriber.create_subscription(name=subscription, topic=topic)
        yield post
    clients.close_publisher(publisher)


def test_names_that_nobody_may_publish_stay_set_aside(post: Post) -> None:
    """Where Pub/Sub refuses them, as it says; elsewhere the message goes back as it was."""
    aside = {"original-googclient_traceparent": "00-ab-cd-01", "sender": "shop"}
    post.rejected(b"traced", **aside)
    post.rejected(b"plain", sender="shop")
    status, lines, said = post.redrive("--go")
    assert (status, len(lines)) == (0, 2)
    assert "2 republished" in said
    assert post.left() == {}
    sent = {bytes(message.data): dict(message.attributes) for message in post.left(post.source).values()}
    assert sent == {b"traced": aside, b"plain": {"sender": "shop"}}


def test_a_look_shows_everything_and_changes_nothing(post: Post) -> None:
    upload = post.forwarded(b"{}", **UPLOAD)
    job = post.rejected(b'{"image": "gs://in/b.jpg", "prompts": 5}', "prompts: it must be a list")
    other = post.rejected(b"\x00\xff not JSON" * 20)
    status, lines, said = post.redrive()
    assert status == 0
    assert {line["id"]: (line["about"], line["reason"], line["attempts"]) for line in lines} == {
        upload: ("gs://in/shelf/a.jpg", "100 delivery attempts used up", 100),
        job: ("gs://in/b.jpg", "prompts: it must be a list", None),
        other: ((b"\x00\xff not JSON" * 20)[:60].decode(errors="replace"), "not JSON", None),
    }
    assert {line["outcome"] for line in lines} == {"would be republished"}
    assert {(line["subscription"], line["topic"]) for line in lines} == {(post.source, post.source_topic)}
    [published] = [line["published"] for line in lines if line["id"] == upload]
    assert published == "2026-01-31T12:00:00.123000+00:00"
    assert said == "3 messages looked at: 3 would be republished; --go does it\n"
    again = post.redrive()[1]
    assert {line["id"] for line in again} == {upload, job, other}
    assert post.left().keys() == {upload, job, other}
    assert post.left(post.source) == {}


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"image":' * 100_000, b'{"image": 1e999, "folder": []}', b"9" * 5000]
)
def test_whatever_the_data_is_it_is_shown(post: Post, data: bytes) -> None:
    id = post.rejected(data)
    status, [line], _ = post.redrive()
    assert (status, line["id"], line["about"]) == (0, id, data[:60].decode())


def test_what_is_sent_back_is_what_it_was(post: Post) -> None:
    """Also with names that a publisher's parameters have, and a `reason` of its own where Pub/Sub forwarded it."""
    post.forwarded(b"forwarded", reason="mine", topic="t", data="d", timeout="5", **UPLOAD)
    own = dead_letter(
        Message(b"named alike", {"reason": "mine", "subscription": "weekly"}, "1", post.source), "not JSON"
    )
    post.publish(own.data, dict(own.attributes))
    post.rejected(b"rejected", color="red")
    status, lines, said = post.redrive("--go")
    assert (status, {line["outcome"] for line in lines}) == (0, {"republished"})
    assert said == "3 messages looked at: 3 republished\n"
    back = {message.data: dict(message.attributes) for message in post.left(post.source).values()}
    assert back == {
        b"forwarded": {"reason": "mine", "topic": "t", "data": "d", "timeout": "5", **UPLOAD},
        b"named alike": {"reason": "mine", "subscription": "weekly"},
        b"rejected": {"color": "red"},
    }
    assert post.left() == {}


def test_only_what_is_chosen_goes(post: Post) -> None:
    ids = {
        "old": post.forwarded(b"{}", **UPLOAD),
        "other": post.rejected(b"{}", "BAD prompts", **(UPLOAD | {"objectId": "shelf/b.png"})),
        "text": post.rejected(b"plain", "bad json"),
    }

    def chosen(*arguments: str) -> set[str]:
        found = {line["id"] for line in post.redrive(*arguments)[1]}
        return {name for name, id in ids.items() if id in found}

    assert chosen("--reason", "bad") == {"other", "text"}
    assert chosen("--object", "shelf/*.jpg") == {"old"}
    assert chosen("--object", "gs://in/*") == {"old", "other"}
    assert chosen("--older-than", "2026-02-01") == {"old"}
    assert chosen("--newer-than", "1h") == {"other", "text"}
    assert chosen("--id", ids["old"], "--id", ids["text"]) == {"old", "text"}
    assert chosen("--reason", "bad", "--object", "*b.png") == {"other"}
    assert len(chosen("--limit", "2")) == 2
    assert chosen("--go", "--reason", "prompts") == {"other"}
    assert post.left().keys() == {ids["old"], ids["text"]}
    assert len(post.left(post.source)) == 1


@contextmanager
def proxied(emulator: PubSubProcess, script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Between the command and the emulator stands what `script` says."""
    proxy = PubSubProxy(emulator.host, script)
    proxy.start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", proxy.host)
    try:
        yield
    finally:
        proxy.close()


@contextmanager
def rejecting(post: Post, at_most: int) -> Iterator[None]:
    """A worker whose trouble is not mended: what it gets goes to the dead letters again."""
    numbers = itertools.count()

    def reject(message: Any) -> None:
        if next(numbers) < at_most:
            post.rejected(message.data, **dict(message.attributes))
        message.ack()

    worker = post.subscriber.subscribe(post.source, reject)
    try:
        yield
    finally:
        worker.cancel()
        worker.result(30)


def test_what_is_rejected_again_waits_for_the_next_look(post: Post) -> None:
    first = {post.rejected(b"%d" % number) for number in range(3)}
    with rejecting(post, at_most=60):
        status, lines, said = post.redrive("--go", "--idle", "3")
    assert status == 0
    assert [line["outcome"] for line in lines] == ["republished"] * 3
    assert {line["id"] for line in lines} == first
    assert "more have come since the look began, and were left as they are\n" in said
    left = post.left()
    assert {message.data for message in left.values()} == {b"0", b"1", b"2"}
    assert not left.keys() & first


def test_what_cannot_go_back_stays_and_says_why(post: Post) -> None:
    unknown = post.publish(b"raw", {"reason": "not a push"})
    empty = post.rejected(b"")  # without our attributes nothing is left of it, and Pub/Sub takes no such message
    good = [post.rejected(b"good %d" % number) for number in range(3)]
    status, lines, _ = post.redrive("--go")
    assert status == 1
    problems = {line["id"]: line.get("problem", "") for line in lines}
    assert problems[unknown] == "its source subscription is not known; give --to"
    assert problems[empty].startswith("Pub/Sub refuses it: ")
    assert [problems[id] for id in good] == ["", "", ""]
    assert sorted(message.data for message in post.left(post.source).values()) == [b"good 0", b"good 1", b"good 2"]
    status, lines, _ = post.redrive("--go", "--to", post.source_topic, "--id", unknown)
    assert (status, [line["outcome"] for line in lines]) == (0, ["republished"])
    assert [message.data for message in post.left(post.source).values()] == [b"raw"]
    assert post.left().keys() == {empty}


def test_the_source_may_be_gone(post: Post) -> None:
    first = post.rejected()
    post.publisher.delete_topic(topic=post.source_topic)
    assert post.redrive()[1][0]["problem"] == f"the topic of {post.source} has been deleted; give --to"
    post.subscriber.delete_subscription(subscription=post.source)
    status, [line], _ = post.redrive("--go")
    assert status == 1
    assert line["problem"] == f"{post.source} does not exist any more; give --to"
    assert post.left().keys() == {first}


def test_a_forbidden_topic_keeps_nobody_else(
    post: Post, emulator: PubSubProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would be sent again at every look."""
    forbidden = f"zzz-{post.id}"  # the last one, so that others have been published before
    topic, source = topic_path(PROJECT, forbidden), subscription_path(PROJECT, forbidden)
    post.publisher.create_topic(name=topic)
    post.subscriber.create_subscription(name=source, topic=topic)
    kept = post.publish(b"kept", {"reason": "not JSON", "subscription": source})
    for number in range(3):
        post.rejected(b"%d" % number)
    script = Script()
    script.at("publish", partial(script.refuse, "publish", 403), moment=ARRIVES, subject=forbidden)
    with proxied(emulator, script, monkeypatch):
        status, lines, _ = post.redrive("--go")
    assert status == 1
    assert {line["id"]: line["problem"] for line in lines if line["outcome"] == "failed"} == {
        kept: f"no permission to publish to {topic}: it needs roles/pubsub.publisher"
    }
    assert sorted(message.data for message in post.left(post.source).values()) == [b"0", b"1", b"2"]
    assert post.left().keys() == {kept}


def test_a_topic_that_does_not_exist_is_named(post: Post) -> None:
    kept = post.rejected()
    missing = topic_path(PROJECT, "none")
    status, [line], _ = post.redrive("--go", "--to", missing)
    assert (status, line["problem"]) == (1, f"{missing} does not exist; give another --to")
    assert post.left().keys() == {kept}


def test_discarding_saves_first(post: Post, tmp_path: Path) -> None:
    gone, kept = post.rejected(b"\xff", "bad", color="red"), post.rejected(reason="good")
    file = tmp_path / "saved.jsonl"
    command = ["--discard", "--reason", "bad", "--save", str(file)]
    assert [line["outcome"] for line in post.redrive(*command)[1]] == ["would be discarded"]
    assert not file.exists()
    status, [line], _ = post.redrive(*command, "--go")
    assert (status, line["outcome"]) == (0, "discarded")
    [saved] = [json.loads(text) for text in file.read_text().splitlines()]
    assert saved["id"] == gone
    assert saved["message"] == {"data": base64.b64encode(b"\xff").decode(), "attributes": {"color": "red"}}
    assert post.left().keys() == {kept}
    assert post.left(post.source) == {}
    assert cli.main(["redrive", post.dead, "--save", str(file)]) == 2
    assert "saved.jsonl" in post.capsys.readouterr().err


def test_what_cannot_be_saved_stays(post: Post, tmp_path: Path) -> None:
    kept = post.rejected()
    missing = tmp_path / "none" / "saved.jsonl"
    status, lines, said = post.redrive("--go", "--save", str(missing))
    assert (status, lines, said.count("\n")) == (2, [], 1)
    assert said.startswith("--save: ")
    assert post.left().keys() == {kept}


def test_a_large_queue_is_seen_once_and_whole(post: Post) -> None:
    ids = {post.rejected(b"%d" % number, f"kind {number % 2}") for number in range(1200)}
    assert len(ids) == 1200
    seen = [line["id"] for line in post.redrive("--reason", "kind 1", "--go")[1]]
    assert (len(seen), len(set(seen))) == (600, 600)
    _, lines, said = post.redrive("--hold", "200")
    assert len(lines) == 200
    assert "there may be more: the look ended with 200 messages held (--hold)" in said
    left = post.left()
    assert {int(message.data) % 2 for message in left.values()} == {0}
    assert left.keys() | set(seen) == ids
    assert len(post.left(post.source)) == 600


def test_text_for_people(post: Post) -> None:
    """Whatever a dead letter says, to the terminal it is text."""
    id = post.forwarded(b"{}", **(UPLOAD | {"objectId": "odd\x1b[2J.jpg"}))
    assert cli.main(["redrive", post.dead, "--idle", "1"]) == 0
    assert post.capsys.readouterr().out == (
        f"{id}  2026-01-31T12:00:00Z  attempts 100  source-{post.id}  gs://in/odd·[2J.jpg  "
        f"(100 delivery attempts used up)  would be republished to source-{post.id}\n"
    )
    status, lines, _ = post.redrive("--go")
    assert (status, [line["about"] for line in lines]) == (0, ["gs://in/odd\x1b[2J.jpg"])
    post.publish(b"x", {"reason": "", "subscription": "projects/p/subscriptions/a\x9b2J"})
    assert cli.main(["redrive", post.dead, "--idle", "1", "--json"]) == 1
    assert cli.main(["redrive", post.dead, "--idle", "1"]) == 1
    said = post.capsys.readouterr().out
    assert said.replace("\n", "").isprintable()
    assert "a\\u009b2J" in said and "a·2J" in said


def test_sigterm_gives_everything_back(post: Post, emulator: PubSubProcess) -> None:
    ids = {post.rejected(b"%d" % number) for number in range(20)}
    command = [sys.executable, "-c", CLI, "redrive", post.dead, "--idle", "600", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        for _ in ids:
            process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert post.left().keys() == ids


@pytest.mark.parametrize("call", ["Subscriber/Pull", "Subscriber/ModifyAckDeadline"])
def test_a_signal_during_a_call_loses_no_lease(
    post: Post, emulator: PubSubProcess, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    ids = {post.rejected(b"%d" % number) for number in range(20)}

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)  # the call goes on

    script = Script()
    script.at("other", interrupt, moment=ANSWERED, subject=call)
    with proxied(emulator, script, monkeypatch):
        status, lines, said = post.redrive("--go")
    assert (status, lines) == (130, [])
    assert "interrupted; what was not dealt with is back in the subscription\n" in said
    assert post.left().keys() == ids


def test_a_subscription_that_does_not_exist_is_one_line(post: Post) -> None:
    missing = subscription_path(PROJECT, "none")
    assert cli.main(["redrive", missing, "--idle", "1"]) == 1
    said = post.capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("not found: ")
    assert missing in said.err


class Refusing(grpc.GenericRpcHandler):
    """Refuses every call, as Pub/Sub does without a grant."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse)


def test_a_missing_grant_names_the_role(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Refusing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    try:
        assert cli.main(["redrive", "projects/p/subscriptions/s", "--idle", "5"]) == 1
    finally:
        server.stop(0).wait()
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "roles/pubsub.subscriber" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dead"], "'dead' is not allowed; allowed: projects/PROJECT/subscriptions/NAME"),
        (["projects/p/subscriptions/s", "--to", "t"], "'t' is not allowed; allowed: projects/PROJECT/topics/NAME"),
        (["projects/p/subscriptions/s", "--older-than", "soon"], "'soon' is not allowed; allowed: a number and s, m"),
        (["projects/p/subscriptions/s", "--limit", "0"], "'0' is not allowed; allowed: a whole number from 1"),
    ],
)
def test_what_is_not_allowed_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["redrive", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
