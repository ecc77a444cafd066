"""Publishing and pulling."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import FailedPrecondition, GoogleAPICallError, InvalidArgument

SHORT_S = 0.7  # long enough for a message that should not come


def test_a_message_arrives_whole(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    message_id = inbox.publish(b"hi", name="küche 🍳.jpg")
    [received] = inbox.pull()
    assert received.message.data == b"hi"
    assert dict(received.message.attributes) == {"name": "küche 🍳.jpg"}
    assert received.message.message_id == message_id
    assert received.delivery_attempt == 0  # told only with a dead-letter policy


def test_an_acknowledged_message_does_not_come_back(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    inbox.publish(b"x")
    inbox.ack(*inbox.pull())
    assert inbox.pull(wait_s=SHORT_S) == []


def test_every_subscription_gets_its_copy(pubsub: Any) -> None:
    first = pubsub.subscribe()
    second = pubsub.subscribe(first.topic)
    first.publish(b"x")
    assert [len(inbox.pull()) for inbox in (first, second)] == [1, 1]


def test_a_subscription_starts_with_later_messages(pubsub: Any) -> None:
    early = pubsub.subscribe()
    early.publish(b"before")
    late = pubsub.subscribe(early.topic)
    early.publish(b"after")
    assert [held.message.data for held in late.pull()] == [b"after"]


def test_a_nack_brings_the_message_back(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    inbox.publish(b"x")
    [first] = inbox.pull()
    inbox.lease_for(0, first)
    [second] = inbox.pull()
    assert second.message.message_id == first.message.message_id


def test_a_missed_deadline_brings_the_message_back(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    inbox.publish(b"x")
    [first] = inbox.pull()
    inbox.lease_for(1, first)
    leased_at = time.monotonic()
    [second] = inbox.pull()
    assert second.message.message_id == first.message.message_id
    assert time.monotonic() - leased_at > 0.8


def test_an_extended_lease_keeps_the_message_away(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    inbox.publish(b"x")
    [first] = inbox.pull()
    inbox.lease_for(1, first)
    inbox.lease_for(60, first)
    assert inbox.pull(wait_s=1.5) == []


def test_attempts_are_counted_with_a_dead_letter_policy(pubsub: Any) -> None:
    inbox = pubsub.subscribe(dead_letter_policy={"dead_letter_topic": pubsub.new_topic()})
    inbox.publish(b"x")
    attempts = []
    for _ in range(3):
        [received] = inbox.pull()
        attempts.append(received.delivery_attempt)
        inbox.lease_for(0, received)
    assert attempts == [1, 2, 3]


def test_backoff_delays_the_next_delivery(pubsub: Any) -> None:
    pubsub.skip_official("ignores the retry policy of pull subscriptions")
    backoff = timedelta(milliseconds=600)
    inbox = pubsub.subscribe(retry_policy={"minimum_backoff": backoff, "maximum_backoff": backoff})
    inbox.publish(b"x")
    [first] = inbox.pull()
    failed_at = time.monotonic()
    inbox.lease_for(0, first)
    assert len(inbox.pull()) == 1
    assert time.monotonic() - failed_at > 0.5


def test_seeking_to_now_forgets_the_backlog(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    inbox.publish(b"old")
    later = datetime.now(UTC) + timedelta(seconds=1)
    pubsub.subscriber.seek(request={"subscription": inbox.name, "time": later})
    assert inbox.pull(wait_s=SHORT_S) == []


def test_streaming_delivers_everything(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    seen: set[bytes] = set()
    complete = threading.Event()

    def receive(message: Any) -> None:
        seen.add(message.data)
        message.ack()
        if len(seen) == 200:
            complete.set()

    stream = pubsub.subscriber.subscribe(inbox.name, receive)
    published = [pubsub.publisher.publish(inbox.topic, b"%d" % number) for number in range(200)]
    for future in published:
        future.result(30)
    assert complete.wait(30), f"{len(seen)} of 200"
    stream.cancel()
    stream.result(30)


def test_streaming_redelivers_after_a_nack(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    deliveries: list[str] = []
    done = threading.Event()

    def receive(message: Any) -> None:
        deliveries.append(message.message_id)
        if len(deliveries) < 3:
            message.nack()
        else:
            message.ack()
            done.set()

    stream = pubsub.subscriber.subscribe(inbox.name, receive)
    inbox.publish(b"x")
    assert done.wait(30)
    stream.cancel()
    stream.result(30)
    assert len(set(deliveries)) == 1


def test_what_a_closed_stream_held_comes_back(pubsub: Any) -> None:
    pubsub.skip_official("sometimes waits for the ack deadline")
    inbox = pubsub.subscribe()
    holding = threading.Event()
    stream = pubsub.subscriber.subscribe(inbox.name, lambda message: holding.set())
    inbox.publish(b"x")
    assert holding.wait(30)
    stream.cancel()
    stream.result(30)
    assert len(inbox.pull()) == 1


def test_push_subscriptions_cannot_be_streamed(pubsub: Any) -> None:
    inbox = pubsub.subscribe(push_config={"push_endpoint": "http://127.0.0.1:1/events"})
    stream = pubsub.subscriber.subscribe(inbox.name, lambda message: None)
    with pytest.raises(FailedPrecondition):
        stream.result(30)


def test_ordered_messages_come_in_order(pubsub: Any) -> None:
    inbox = pubsub.subscribe(enable_message_ordering=True)
    for number in range(10):
        inbox.publish(b"%d" % number, ordering_key="key")
    seen: list[bytes] = []
    while len(seen) < 10:
        received = inbox.pull()
        assert received, seen
        seen += [held.message.data for held in received]
        inbox.ack(*received)
    assert seen == [b"%d" % number for number in range(10)]


def test_a_nacked_ordered_message_comes_before_later_ones(pubsub: Any) -> None:
    pubsub.skip_official("goes on with the later ones")
    inbox = pubsub.subscribe(enable_message_ordering=True)
    for data in (b"first", b"second"):
        inbox.publish(data, ordering_key="key")
    [first] = inbox.pull()
    inbox.lease_for(0, first)
    [again] = inbox.pull()
    assert again.message.data == b"first"


def test_filtered_messages_are_dropped(pubsub: Any) -> None:
    pubsub.skip_official("ignores filters")
    inbox = pubsub.subscribe(filter='attributes.type = "FINALIZE" AND hasPrefix(attributes.object, "in/")')
    inbox.publish(b"1", type="DELETE", object="in/a")
    inbox.publish(b"2", type="FINALIZE", object="out/a")
    inbox.publish(b"3", type="FINALIZE", object="in/a")
    assert [held.message.data for held in inbox.pull()] == [b"3"]
    assert inbox.pull(wait_s=SHORT_S) == []


def test_a_bad_filter_is_refused(pubsub: Any) -> None:
    pubsub.skip_official("ignores filters")
    with pytest.raises(InvalidArgument):
        pubsub.subscribe(filter="attributes.type is FINALIZE")


def test_empty_messages_are_refused(pubsub: Any) -> None:
    with pytest.raises(InvalidArgument):
        pubsub.subscribe().publish(b"")


def test_a_message_may_be_attributes_only(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    inbox.publish(b"", kind="ping")
    assert [dict(held.message.attributes) for held in inbox.pull()] == [{"kind": "ping"}]


def test_too_large_messages_are_refused(pubsub: Any) -> None:
    topic = pubsub.new_topic()
    with pytest.raises((GoogleAPICallError, ValueError)):
        pubsub.publisher.publish(topic, b"x" * 10_000_001).result(30)


@pytest.mark.parametrize(
    "attributes", [{"googlike": "x"}, {"key": "x" * 1025}, {"k" * 257: "x"}], ids=["reserved", "value", "key"]
)
def test_bad_attributes_are_refused(pubsub: Any, attributes: dict[str, str]) -> None:
    pubsub.skip_official("does not check attributes")
    with pytest.raises(InvalidArgument):
        pubsub.subscribe().publish(b"x", **attributes)
