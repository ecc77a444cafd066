"""The queue by itself: what the clients cannot see, or only slowly."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tools.localcloud.pubsub.duplicates import EchoDraw
from tools.localcloud.pubsub.model import DeadLetterPolicy, Lease, Message, RetryPolicy, SubscriptionSettings
from tools.localcloud.pubsub.queue import SubscriptionQueue

MORNING = datetime(2026, 1, 1, tzinfo=UTC)


def message(number: int, key: str = "", at: datetime = MORNING) -> Message:
    return Message(str(number), b"data", {}, key, at)


def settings(**changes: object) -> SubscriptionSettings:
    return SubscriptionSettings("projects/p/subscriptions/s", 600.0, **changes)  # type: ignore[arg-type]


def bury_nothing(queue: SubscriptionQueue, lease: Lease) -> None:
    raise AssertionError("nothing should die")


def ids(leases: list[Lease]) -> list[str]:
    return [lease.message.id for lease in leases]


def drain(queue: SubscriptionQueue) -> list[str]:
    """Lease and acknowledge until nothing is left."""
    seen = []
    while not (stats := queue.stats())["ready"] == stats["outstanding"] == 0:
        leases = queue.lease(10, 1.0)
        queue.ack([lease.ack_id for lease in leases])
        seen += ids(leases)
    return seen


def test_messages_come_in_the_order_of_publication() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing)
    for number in range(5):
        queue.put(message(number))
    assert ids(queue.lease(3, 0)) == ["0", "1", "2"]
    assert ids(queue.lease(3, 0)) == ["3", "4"]


def test_a_waiting_subscriber_is_woken() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing)
    got: list[Lease] = []
    waiter = threading.Thread(target=lambda: got.extend(queue.lease(1, 30)))
    waiter.start()
    queue.put(message(1))
    waiter.join(30)
    assert ids(got) == ["1"]


def test_closing_ends_the_wait() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing)
    waiter = threading.Thread(target=queue.lease, args=(1, 600))
    waiter.start()
    queue.close()
    waiter.join(30)
    assert not waiter.is_alive()


def test_a_subscriber_that_has_gone_takes_nothing() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing)
    queue.put(message(1))
    assert queue.lease(1, 0, alive=lambda: False) == []
    assert [lease.attempt for lease in queue.lease(1, 0)] == [1]


def test_a_subscriber_that_goes_while_it_waits_takes_nothing() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing)
    waits, gone = threading.Event(), threading.Event()

    def alive() -> bool:
        waits.set()
        return not gone.is_set()

    waiter = threading.Thread(target=queue.lease, args=(1, 600), kwargs={"alive": alive})
    waiter.start()
    assert waits.wait(30)
    gone.set()
    queue.put(message(1))
    waiter.join(30)
    assert {"ready": 1, "delivered": 0}.items() <= queue.stats().items()


def test_a_deleted_subscription_hands_out_nothing() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing)
    queue.put(message(1))
    queue.close()
    assert queue.lease(1, 0) == []


def test_an_expired_lease_is_another_attempt() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing)
    queue.put(message(1))
    [first] = queue.lease(1, 0, deadline_s=0.01)
    [second] = queue.lease(1, 30)
    queue.ack([first.ack_id])  # too late
    assert (first.attempt, second.attempt) == (1, 2)
    assert {"expired": 1, "acked": 0, "outstanding": 1}.items() <= queue.stats().items()


def test_a_dying_message_stays_outstanding_until_buried() -> None:
    dead: list[Lease] = []
    policy = DeadLetterPolicy("projects/p/topics/dead", 5)
    queue = SubscriptionQueue(settings(dead_letter=policy), lambda _, lease: dead.append(lease))
    queue.put(message(1))
    for _ in range(5):
        queue.nack([lease.ack_id for lease in queue.lease(1, 0)])
    assert [lease.attempt for lease in dead] == [5]
    assert {"ready": 0, "outstanding": 1, "dead": 0}.items() <= queue.stats().items()
    queue.buried(dead[0].ack_id)
    assert {"ready": 0, "outstanding": 0, "dead": 1, "nacked": 5}.items() <= queue.stats().items()


def test_an_exhumed_message_is_delivered_again() -> None:
    dead: list[Lease] = []
    policy = DeadLetterPolicy("projects/p/topics/dead", 1)
    queue = SubscriptionQueue(settings(dead_letter=policy), lambda _, lease: dead.append(lease))
    queue.put(message(1))
    queue.nack([lease.ack_id for lease in queue.lease(1, 0)])
    queue.exhumed(dead[0].ack_id)
    assert [lease.attempt for lease in queue.lease(1, 0)] == [2]


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 10), (2, 20), (3, 40), (7, 600), (100, 600)])
def test_backoff(attempt: int, delay_s: float) -> None:
    assert RetryPolicy(10, 600).delay_s(attempt) == delay_s


def test_one_message_of_an_ordering_key_at_a_time() -> None:
    queue = SubscriptionQueue(settings(ordered=True), bury_nothing)
    for number, key in enumerate(("a", "a", "b", "")):
        queue.put(message(number, key))
    first = queue.lease(10, 0)
    assert ids(first) == ["0", "2", "3"]
    assert queue.stats()["ready"] == 1
    queue.ack([first[0].ack_id])
    assert ids(queue.lease(10, 0)) == ["1"]


def test_a_seek_forgets_older_messages_wherever_they_are() -> None:
    queue = SubscriptionQueue(settings(ordered=True), bury_nothing)
    later = MORNING + timedelta(hours=1)
    queue.put(message(1, "leased"))
    queue.lease(1, 0)
    for number, key, at in ((2, "leased", MORNING), (3, "leased", later), (4, "", MORNING), (5, "", later)):
        queue.put(message(number, key, at))
    queue.drop_published_before(later)
    assert sorted(drain(queue)) == ["3", "5"]


def test_no_duplicates_by_default() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing)
    for number in range(100):
        queue.put(message(number))
    assert len(drain(queue)) == 100


def test_every_message_comes_twice_at_rate_1() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing, EchoDraw(1.0, "seed"))
    for number in range(20):
        queue.put(message(number))
    assert sorted(drain(queue)) == sorted([str(number) for number in range(20)] * 2)
    assert {"received": 20, "delivered": 40, "duplicated": 20}.items() <= queue.stats().items()


def test_duplicates_come_together_and_late() -> None:
    queue = SubscriptionQueue(settings(), bury_nothing, EchoDraw(1.0, "seed"))
    for number in range(20):
        queue.put(message(number))
    before_any_ack = [*ids(queue.lease(20, 0)), *ids(queue.lease(20, 0))]
    assert 20 < len(before_any_ack) < 40


def test_the_seed_chooses_the_duplicates() -> None:
    def draws(seed: str) -> list[object]:
        draw = EchoDraw(0.3, seed)
        return [draw.draw() for _ in range(100)]

    assert draws("1") == draws("1") != draws("2")


def test_the_same_messages_come_twice_whenever_they_are_acknowledged() -> None:
    def twice(at_once: bool) -> set[str]:
        queue = SubscriptionQueue(settings(), bury_nothing, EchoDraw(0.5, "seed"))
        seen: list[str] = []
        for number in range(40):
            queue.put(message(number))
            seen += drain(queue) if at_once else []
        seen += drain(queue)
        return {each for each in seen if seen.count(each) == 2}

    assert 0 < len(twice(at_once=True)) < 40
    assert twice(at_once=True) == twice(at_once=False)


def test_ordered_messages_are_never_duplicated() -> None:
    queue = SubscriptionQueue(settings(ordered=True), bury_nothing, EchoDraw(1.0))
    for number in range(5):
        queue.put(message(number, "key"))
    assert drain(queue) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_bad_duplicate_rates(rate: float) -> None:
    with pytest.raises(ValueError, match=r"not within 0\.\.1"):
        EchoDraw(rate)
