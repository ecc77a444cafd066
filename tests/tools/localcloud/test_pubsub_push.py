"""Push subscriptions."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask
from google.auth.exceptions import InvalidValue
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from tools.localcloud.pubsub.admin import CERTS_PATH
from tools.ports import free_port

FAST_RETRY = {"minimum_backoff": timedelta(milliseconds=100), "maximum_backoff": timedelta(seconds=1)}


def gaps(pushes: list[Any]) -> list[float]:
    return [later.at - earlier.at for earlier, later in pairwise(pushes)]


def test_the_wrapped_envelope(pubsub: Any, sink: Any) -> None:
    inbox = pubsub.subscribe(push_config={"push_endpoint": sink.url})
    message_id = inbox.publish(b'{"a": 1}', objectId="küche 🍳.jpg")
    envelope = sink.wait_for(1)[0].envelope
    assert sink.pushes[0].headers["content-type"] == "application/json"
    assert envelope["subscription"] == inbox.name
    assert "deliveryAttempt" not in envelope  # told only with a dead-letter policy
    message = envelope["message"]
    assert base64.b64decode(message["data"]) == b'{"a": 1}'
    assert message["attributes"] == {"objectId": "küche 🍳.jpg"}
    assert message["messageId"] == message["message_id"] == message_id
    assert message["publishTime"].endswith("Z")


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_these_statuses_acknowledge(pubsub: Any, sink: Any, status: int) -> None:
    sink.answer = lambda number: status
    inbox = pubsub.subscribe(push_config={"push_endpoint": sink.url})
    inbox.publish(b"first")
    sink.wait_for(1)
    inbox.publish(b"second")
    sink.wait_for(2)
    assert len({push.envelope["message"]["messageId"] for push in sink.pushes}) == 2


@pytest.mark.parametrize("status", [301, 400, 404, 409, 429, 500, 503])
def test_every_other_status_redelivers(pubsub: Any, sink: Any, status: int) -> None:
    sink.answer = lambda number: status if number == 1 else 204
    inbox = pubsub.subscribe(push_config={"push_endpoint": sink.url}, retry_policy=FAST_RETRY)
    inbox.publish(b"x")
    first, second = sink.wait_for(2)
    assert first.envelope["message"]["messageId"] == second.envelope["message"]["messageId"]


def test_203_does_not_acknowledge(pubsub: Any, sink: Any) -> None:
    pubsub.skip_official("takes 203 for an acknowledgement")
    sink.answer = lambda number: 203 if number == 1 else 204
    pubsub.subscribe(push_config={"push_endpoint": sink.url}, retry_policy=FAST_RETRY).publish(b"x")
    assert len(sink.wait_for(2)) == 2


def test_backoff_grows(pubsub: Any, sink: Any) -> None:
    sink.answer = lambda number: 500 if number < 5 else 204
    inbox = pubsub.subscribe(push_config={"push_endpoint": sink.url}, retry_policy=FAST_RETRY)
    inbox.publish(b"x")
    waits = gaps(sink.wait_for(5))
    assert all(wait > expected for wait, expected in zip(waits, (0.09, 0.19, 0.39, 0.79), strict=True)), waits


def test_the_last_attempt_ends_in_the_dead_letter_topic(pubsub: Any, sink: Any) -> None:
    sink.answer = lambda number: 500
    dead_letters = pubsub.subscribe()
    inbox = pubsub.subscribe(
        push_config={"push_endpoint": sink.url},
        retry_policy=FAST_RETRY,
        dead_letter_policy={"dead_letter_topic": dead_letters.topic, "max_delivery_attempts": 5},
    )
    inbox.publish(b"poison", key="value")
    [received] = dead_letters.pull()
    attributes = dict(received.message.attributes)
    assert received.message.data == b"poison"
    assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime").endswith("Z")
    assert attributes == {
        "key": "value",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": inbox.name.split("/")[-1],
        "CloudPubSubDeadLetterSourceSubscriptionProject": pubsub.project,
    }
    assert len(sink.pushes) == 5


def test_pushes_tell_the_attempt_where_there_is_a_dead_letter_policy(pubsub: Any, sink: Any) -> None:
    pubsub.skip_official("leaves deliveryAttempt out")
    sink.answer = lambda number: 500 if number < 3 else 204
    inbox = pubsub.subscribe(
        push_config={"push_endpoint": sink.url},
        retry_policy=FAST_RETRY,
        dead_letter_policy={"dead_letter_topic": pubsub.new_topic()},
    )
    inbox.publish(b"x")
    assert [push.envelope["deliveryAttempt"] for push in sink.wait_for(3)] == [1, 2, 3]


def test_without_the_dead_letter_topic_deliveries_go_on(pubsub: Any, sink: Any) -> None:
    pubsub.skip_official("drops a message whose dead-letter topic is gone")
    sink.answer = lambda number: 500 if number < 7 else 204
    topic = pubsub.new_topic()
    inbox = pubsub.subscribe(
        push_config={"push_endpoint": sink.url},
        retry_policy={"minimum_backoff": timedelta(), "maximum_backoff": timedelta()},
        dead_letter_policy={"dead_letter_topic": topic, "max_delivery_attempts": 5},
    )
    pubsub.publisher.delete_topic(topic=topic)
    inbox.publish(b"x")
    assert len(sink.wait_for(7)) == 7


def test_an_unwrapped_push_is_the_data_itself(pubsub: Any, sink: Any) -> None:
    inbox = pubsub.subscribe(push_config={"push_endpoint": sink.url, "no_wrapper": {"write_metadata": True}})
    message_id = inbox.publish(b"raw", myattr="value")
    [push] = sink.wait_for(1)
    assert push.body == b"raw"
    assert push.headers["myattr"] == "value"
    assert push.headers["x-goog-pubsub-message-id"] == message_id
    assert push.headers["x-goog-pubsub-subscription-name"] == inbox.name


def test_pushes_carry_a_verifiable_token(pubsub: Any, sink: Any) -> None:
    pubsub.skip_official("sends no tokens")
    caller, audience = "push@project.iam.gserviceaccount.com", "https://service.example"
    token_settings = {"service_account_email": caller, "audience": audience}
    inbox = pubsub.subscribe(push_config={"push_endpoint": sink.url, "oidc_token": token_settings})
    inbox.publish(b"x")
    [push] = sink.wait_for(1)
    scheme, token = push.headers["authorization"].split()
    certs_url = f"{pubsub.admin_url}{CERTS_PATH}"
    with Request().session as session:
        fetch = Request(session)
        claims = id_token.verify_token(token, fetch, audience=audience, certs_url=certs_url)
        with pytest.raises(InvalidValue):
            id_token.verify_token(token, fetch, audience="https://other.example", certs_url=certs_url)
    assert scheme == "Bearer"
    assert (claims["email"], claims["email_verified"]) == (caller, True)
    assert claims["iss"] == "https://accounts.google.com"


def test_the_default_audience_is_the_endpoint(pubsub: Any, sink: Any) -> None:
    pubsub.skip_official("sends no tokens")
    token_settings = {"service_account_email": "push@project.iam.gserviceaccount.com"}
    pubsub.subscribe(push_config={"push_endpoint": sink.url, "oidc_token": token_settings}).publish(b"x")
    [push] = sink.wait_for(1)
    with Request().session as session:
        claims = id_token.verify_token(
            push.headers["authorization"].split()[1], Request(session), certs_url=f"{pubsub.admin_url}{CERTS_PATH}"
        )
    assert claims["aud"] == sink.url


def test_an_answer_after_the_ack_deadline_comes_too_late(pubsub: Any, sink: Any) -> None:
    released = threading.Event()

    def slow_at_first(number: int) -> int:
        if number == 1:
            released.wait(30)
        return 204

    sink.answer = slow_at_first
    inbox = pubsub.subscribe(push_config={"push_endpoint": sink.url}, ack_deadline_seconds=10)
    inbox.publish(b"x")
    pushes = sink.wait_for(2)
    released.set()
    assert gaps(pushes)[0] > 9


def test_messages_wait_for_an_endpoint_that_is_down(pubsub: Any, serve: Callable[..., Any]) -> None:
    port = free_port()
    inbox = pubsub.subscribe(push_config={"push_endpoint": f"http://127.0.0.1:{port}/events"})
    inbox.publish(b"x")
    arrived = threading.Event()
    app = Flask("late")

    @app.post("/events")
    def take() -> tuple[str, int]:
        arrived.set()
        return "", 204

    with serve(app, port):
        assert arrived.wait(30)


def test_a_pull_subscription_can_become_a_push_subscription_and_back(pubsub: Any, sink: Any) -> None:
    inbox = pubsub.subscribe()
    inbox.publish(b"waiting")
    pubsub.subscriber.modify_push_config(subscription=inbox.name, push_config={"push_endpoint": sink.url})
    sink.wait_for(1)
    pubsub.subscriber.modify_push_config(subscription=inbox.name, push_config={})
    inbox.publish(b"pulled")
    assert [held.message.data for held in inbox.pull()] == [b"pulled"]


def test_ordered_pushes_wait_for_each_other(pubsub: Any, sink: Any) -> None:
    pubsub.skip_official("leaves orderingKey out")
    sink.answer = lambda number: 500 if number == 2 else 204
    inbox = pubsub.subscribe(
        push_config={"push_endpoint": sink.url}, enable_message_ordering=True, retry_policy=FAST_RETRY
    )
    for data in (b"a", b"b", b"c"):
        pubsub.publisher.publish(inbox.topic, data, ordering_key="key").result(30)
    pushes = sink.wait_for(4)
    assert [base64.b64decode(push.envelope["message"]["data"]) for push in pushes] == [b"a", b"b", b"b", b"c"]
    assert pushes[0].envelope["message"]["orderingKey"] == "key"


def test_many_pushes_all_arrive(pubsub: Any, sink: Any) -> None:
    inbox = pubsub.subscribe(push_config={"push_endpoint": sink.url})
    published = [pubsub.publisher.publish(inbox.topic, b"%d" % number) for number in range(200)]
    ids = {future.result(30) for future in published}
    sink.wait_for(200)
    assert {push.envelope["message"]["messageId"] for push in sink.pushes} == ids
