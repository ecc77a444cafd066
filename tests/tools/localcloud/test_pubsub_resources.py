"""Topics and subscriptions: names, limits, changes."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, BadRequest, InvalidArgument, NotFound
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types


def test_a_topic_can_be_found_listed_and_deleted(pubsub: Any) -> None:
    topic = pubsub.new_topic()
    assert pubsub.publisher.get_topic(topic=topic).name == topic
    assert topic in [listed.name for listed in pubsub.publisher.list_topics(project=f"projects/{pubsub.project}")]
    pubsub.publisher.delete_topic(topic=topic)
    with pytest.raises(NotFound):
        pubsub.publisher.get_topic(topic=topic)


def test_names_are_unique(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    with pytest.raises(AlreadyExists):
        pubsub.publisher.create_topic(name=inbox.topic)
    with pytest.raises(AlreadyExists):
        pubsub.subscriber.create_subscription(name=inbox.name, topic=inbox.topic)


@pytest.mark.parametrize("short", ["1", "ab", "1topic", "goog-topic", "with space"])
def test_bad_topic_names_are_refused(pubsub: Any, short: str) -> None:
    with pytest.raises(InvalidArgument):
        pubsub.publisher.create_topic(name=f"projects/{pubsub.project}/topics/{short}")


def test_unknown_resources_are_not_found(pubsub: Any) -> None:
    missing = f"projects/{pubsub.project}/topics/missing"
    with pytest.raises(NotFound):
        pubsub.publisher.publish(missing, b"x").result(30)
    with pytest.raises(NotFound):
        pubsub.subscribe(missing)
    with pytest.raises(NotFound):
        pubsub.subscriber.pull(subscription=f"projects/{pubsub.project}/subscriptions/missing", max_messages=1)


def test_subscriptions_of_a_topic_are_listed(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    assert list(pubsub.publisher.list_topic_subscriptions(topic=inbox.topic)) == [inbox.name]


def test_a_subscription_outlives_its_topic(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    inbox.publish(b"kept")
    pubsub.publisher.delete_topic(topic=inbox.topic)
    assert pubsub.subscriber.get_subscription(subscription=inbox.name).topic == "_deleted-topic_"
    assert [held.message.data for held in inbox.pull()] == [b"kept"]


def test_a_deleted_subscription_is_gone(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    pubsub.subscriber.delete_subscription(subscription=inbox.name)
    with pytest.raises(NotFound):
        pubsub.subscriber.get_subscription(subscription=inbox.name)


@pytest.mark.parametrize("seconds", [10, 600])
def test_ack_deadlines_within_bounds(pubsub: Any, seconds: int) -> None:
    inbox = pubsub.subscribe(ack_deadline_seconds=seconds)
    assert pubsub.subscriber.get_subscription(subscription=inbox.name).ack_deadline_seconds == seconds


@pytest.mark.parametrize("seconds", [9, 601])
def test_ack_deadlines_out_of_bounds(pubsub: Any, seconds: int) -> None:
    pubsub.skip_official("takes deadlines under 10 s")
    with pytest.raises(InvalidArgument):
        pubsub.subscribe(ack_deadline_seconds=seconds)


@pytest.mark.parametrize("attempts", [5, 100])
def test_delivery_attempts_within_bounds(pubsub: Any, attempts: int) -> None:
    policy = {"dead_letter_topic": pubsub.new_topic(), "max_delivery_attempts": attempts}
    pubsub.subscribe(dead_letter_policy=policy)


@pytest.mark.parametrize("attempts", [4, 101])
def test_delivery_attempts_out_of_bounds(pubsub: Any, attempts: int) -> None:
    policy = {"dead_letter_topic": pubsub.new_topic(), "max_delivery_attempts": attempts}
    with pytest.raises(BadRequest):  # Google's emulator says OUT_OF_RANGE
        pubsub.subscribe(dead_letter_policy=policy)


def test_the_dead_letter_topic_must_exist(pubsub: Any) -> None:
    policy = {"dead_letter_topic": f"projects/{pubsub.project}/topics/missing"}
    with pytest.raises(NotFound):
        pubsub.subscribe(dead_letter_policy=policy)


@pytest.mark.parametrize(("low_s", "high_s"), [(0, 601), (20, 10)])
def test_bad_retry_policies_are_refused(pubsub: Any, low_s: int, high_s: int) -> None:
    policy = {"minimum_backoff": timedelta(seconds=low_s), "maximum_backoff": timedelta(seconds=high_s)}
    with pytest.raises(InvalidArgument):
        pubsub.subscribe(retry_policy=policy)


def test_an_update_changes_what_its_mask_names(pubsub: Any) -> None:
    inbox = pubsub.subscribe(labels={"team": "a"})
    change = types.Subscription(name=inbox.name, topic=inbox.topic, ack_deadline_seconds=77, labels={"team": "b"})
    mask = FieldMask(paths=["ack_deadline_seconds"])
    updated = pubsub.subscriber.update_subscription(subscription=change, update_mask=mask)
    assert (updated.ack_deadline_seconds, dict(updated.labels)) == (77, {"team": "a"})


def test_the_filter_cannot_be_changed(pubsub: Any) -> None:
    inbox = pubsub.subscribe()
    change = types.Subscription(name=inbox.name, topic=inbox.topic, filter="attributes:a")
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.update_subscription(subscription=change, update_mask=FieldMask(paths=["filter"]))


def test_a_topic_can_be_updated(pubsub: Any) -> None:
    pubsub.skip_official("knows no labels of topics")
    topic = types.Topic(name=f"projects/{pubsub.project}/topics/t-{uuid.uuid4().hex}")
    pubsub.publisher.create_topic(request=topic)
    change = types.Topic(name=topic.name, labels={"team": "a"})
    updated = pubsub.publisher.update_topic(topic=change, update_mask=FieldMask(paths=["labels"]))
    assert dict(updated.labels) == {"team": "a"}
