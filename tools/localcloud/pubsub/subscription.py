"""One subscription: its configuration, its queue and, while it has an endpoint, its pusher."""

from collections.abc import Callable

from google.pubsub_v1 import types

from tools.localcloud.pubsub.model import SubscriptionSettings
from tools.localcloud.pubsub.push import Pusher
from tools.localcloud.pubsub.queue import SubscriptionQueue

MakePusher = Callable[[SubscriptionQueue], Pusher]


class Subscription:
    """Keeps the queue's settings and the pusher in step with the configuration."""

    def __init__(self, config: types.Subscription, queue: SubscriptionQueue, make_pusher: MakePusher) -> None:
        self.config = config
        self.queue = queue
        self._make_pusher = make_pusher
        self._pusher: Pusher | None = None
        self._start_or_stop_pushing()

    def reconfigure(self, config: types.Subscription, settings: SubscriptionSettings) -> None:
        """Take over a changed configuration; messages stay where they are."""
        self.queue.settings = settings
        self.config = config
        self._start_or_stop_pushing()

    def lose_topic(self, placeholder: str) -> None:
        """Go on without the topic, which has been deleted."""
        self.config = types.Subscription(self.config)
        self.config.topic = placeholder

    def close(self) -> None:
        """End all deliveries."""
        self.queue.close()
        if self._pusher is not None:
            self._pusher.stop()

    def _start_or_stop_pushing(self) -> None:
        wanted = self.queue.settings.push is not None
        if wanted and self._pusher is None:
            self._pusher = self._make_pusher(self.queue)
            self._pusher.start()
        elif not wanted and self._pusher is not None:
            self._pusher.stop()
            self._pusher = None
