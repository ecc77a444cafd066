"""Topics, subscriptions, and the way of a message from one to the other."""

import itertools
import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import urllib3
from google.pubsub_v1 import types

from tools.localcloud.pubsub import convert, names
from tools.localcloud.pubsub.duplicates import EchoDraw
from tools.localcloud.pubsub.errors import AlreadyExistsError, NotFoundError
from tools.localcloud.pubsub.model import Draft, Lease, Message, SubscriptionSettings
from tools.localcloud.pubsub.oidc import TokenIssuer
from tools.localcloud.pubsub.push import Pusher
from tools.localcloud.pubsub.queue import SubscriptionQueue
from tools.localcloud.pubsub.subscription import Subscription

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BrokerOptions:
    """How the emulator behaves where Pub/Sub leaves it open."""

    push_concurrency: int = 32
    duplicate_rate: float = 0.0
    duplicate_seed: int = 0


class Broker:
    """All state of the emulator; every method may be called from any thread."""

    def __init__(self, options: BrokerOptions | None = None) -> None:
        self._options = options or BrokerOptions()
        self._lock = threading.RLock()
        self._topics: dict[str, types.Topic] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._ids = itertools.count(time.time_ns() // 1000)
        self._http = urllib3.PoolManager(maxsize=self._options.push_concurrency)
        # Dead letters go out in a thread of their own: a queue hands them over with its lock held.
        self._undertaker = ThreadPoolExecutor(1, thread_name_prefix="dead letters")
        self.tokens = TokenIssuer()

    def topic(self, name: str) -> types.Topic:
        """The topic called `name`; NotFoundError if there is none."""
        with self._lock:
            if name not in self._topics:
                raise NotFoundError(f"Resource not found (resource={name.rpartition('/')[2]}).")
            return self._topics[name]

    def subscription(self, name: str) -> Subscription:
        """The subscription called `name`; NotFoundError if there is none."""
        with self._lock:
            if name not in self._subscriptions:
                raise NotFoundError(f"Resource not found (resource={name.rpartition('/')[2]}).")
            return self._subscriptions[name]

    def topics(self, project: str) -> list[types.Topic]:
        """All topics of `projects/…`."""
        with self._lock:
            return [topic for name, topic in self._topics.items() if name.startswith(f"{project}/")]

    def subscriptions(self, project: str = "projects") -> list[Subscription]:
        """All subscriptions of `projects/…`, or of every project."""
        with self._lock:
            return [held for name, held in self._subscriptions.items() if name.startswith(f"{project}/")]

    def subscribers_of(self, topic: str) -> list[Subscription]:
        """The subscriptions that a message to `topic` reaches."""
        with self._lock:
            return [held for held in self._subscriptions.values() if held.config.topic == topic]

    def create_topic(self, topic: types.Topic) -> types.Topic:
        """Add a topic; AlreadyExistsError if the name is taken."""
        names.require(topic.name, "topics")
        with self._lock:
            if topic.name in self._topics:
                raise AlreadyExistsError(f"Resource already exists in the project (resource={topic.name}).")
            self._topics[topic.name] = topic
            return topic

    def replace_topic(self, topic: types.Topic) -> types.Topic:
        """Change an existing topic."""
        with self._lock:
            self.topic(topic.name)
            self._topics[topic.name] = topic
            return topic

    def delete_topic(self, name: str) -> None:
        """Remove a topic; its subscriptions keep their messages."""
        with self._lock:
            self.topic(name)
            for subscription in self.subscribers_of(name):
                subscription.lose_topic(names.DELETED_TOPIC)
            del self._topics[name]

    def create_subscription(self, config: types.Subscription) -> types.Subscription:
        """Add a subscription to messages published from now on."""
        full = convert.completed(config)
        settings = convert.settings_of(full)
        echoes = EchoDraw(self._options.duplicate_rate, f"{self._options.duplicate_seed} {full.name}")
        with self._lock:
            self.topic(full.topic)
            self._require_dead_letter_topic(settings)
            if full.name in self._subscriptions:
                raise AlreadyExistsError(f"Resource already exists in the project (resource={full.name}).")
            queue = SubscriptionQueue(settings, self._bury, echoes)
            self._subscriptions[full.name] = Subscription(full, queue, self._make_pusher)
            return full

    def reconfigure(self, config: types.Subscription) -> types.Subscription:
        """Change an existing subscription; its messages stay where they are."""
        full = convert.completed(config)
        settings = convert.settings_of(full)
        with self._lock:
            self._require_dead_letter_topic(settings)
            self.subscription(full.name).reconfigure(full, settings)
            return full

    def delete_subscription(self, name: str) -> None:
        """Remove a subscription with all its messages."""
        with self._lock:
            self.subscription(name).close()
            del self._subscriptions[name]

    def publish(self, topic: str, drafts: Iterable[Draft]) -> list[str]:
        """Give each draft an id and put it into every subscription of `topic`; returns the ids."""
        with self._lock:
            self.topic(topic)
            messages = [self._message(draft) for draft in drafts]
            queues = [subscription.queue for subscription in self.subscribers_of(topic)]
            # Still under the lock: messages enter all queues in the order of their ids.
            for queue, message in itertools.product(queues, messages):
                queue.put(message)
        return [message.id for message in messages]

    def close(self) -> None:
        """End all deliveries."""
        for subscription in self.subscriptions():
            subscription.close()
        self._undertaker.shutdown()
        self._http.clear()

    def _require_dead_letter_topic(self, settings: SubscriptionSettings) -> None:
        if settings.dead_letter is not None:
            self.topic(settings.dead_letter.topic)

    def _message(self, draft: Draft) -> Message:
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return Message(str(next(self._ids)), draft.data, draft.attributes, draft.ordering_key, now)

    def _make_pusher(self, queue: SubscriptionQueue) -> Pusher:
        return Pusher(queue, self._http, self.tokens, self._options.push_concurrency)

    def _bury(self, queue: SubscriptionQueue, lease: Lease) -> None:
        self._undertaker.submit(self._forward, queue, lease)

    def _forward(self, queue: SubscriptionQueue, lease: Lease) -> None:
        policy = queue.settings.dead_letter
        try:
            if policy is None:  # removed in between
                raise NotFoundError("no dead-letter policy")
            self.publish(policy.topic, [_dead_letter(queue.settings.name, lease)])
        except NotFoundError:
            log.warning("%s: cannot dead-letter message %s", queue.settings.name, lease.message.id)
            queue.exhumed(lease.ack_id)
        else:
            queue.buried(lease.ack_id)


def _dead_letter(subscription: str, lease: Lease) -> Draft:
    project, short = names.split(subscription)
    attributes = {
        **lease.message.attributes,
        "CloudPubSubDeadLetterSourceDeliveryCount": str(lease.attempt),
        "CloudPubSubDeadLetterSourceSubscription": short,
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": lease.message.published,
    }
    return Draft(lease.message.data, attributes, lease.message.ordering_key)
