"""Pub/Sub's streaming pull: messages to a callback, their leases kept, acknowledged or given back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler
from google.cloud.pubsub_v1.types import FlowControl

from service.core.envelopes import Message
from service.errors import CloudUnavailable

log = logging.getLogger(__name__)

# What a process that is killed holds comes back after so long; a living one extends its leases in time.
_LEASE_S = 60
_HINTS = {
    api.NotFound: "there is no such subscription",
    api.PermissionDenied: "permission denied; it needs roles/pubsub.subscriber on the subscription",
    api.FailedPrecondition: "it is no pull subscription (remove its push endpoint)",
}


@dataclass(frozen=True)
class Flow:
    """How much is taken: `messages` at a time, each for `lease_s` seconds at most, then it is delivered again."""

    messages: int
    lease_s: int


class Stream:
    """An open streaming pull; `deliver` runs on a thread for each message and says whether it is done with.

    False gives the message back: Pub/Sub counts an attempt and delivers again after the subscription's backoff.
    """

    def __init__(
        self, client: pubsub_v1.SubscriberClient, subscription: str, deliver: Callable[[Message], bool], flow: Flow
    ) -> None:
        self._client = client
        self._subscription = subscription
        self._deliver = deliver
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._future: Any = client.subscribe(
            subscription,
            self._receive,
            FlowControl(
                max_messages=flow.messages,
                max_lease_duration=flow.lease_s,
                min_duration_per_lease_extension=_LEASE_S,
                max_duration_per_lease_extension=_LEASE_S,
            ),
            ThreadScheduler(ThreadPoolExecutor(flow.messages, thread_name_prefix="pull")),
            await_callbacks_on_shutdown=True,
        )

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call when no more messages will come, because of an error or after `close`."""
        self._future.add_done_callback(lambda _: callback())

    def check(self) -> None:
        """Raise CloudUnavailable, in one line, when an error has ended the stream."""
        if self._future.done() and (error := self._future.exception()) is not None:
            kind = type(error)
            raise CloudUnavailable(f"cannot pull from {self._subscription}: {_HINTS.get(kind, kind.__name__)}")

    def close(self, grace_s: float, give_back_s: float = 1.0) -> int:
        """Take no more, let what is under way finish within `grace_s`; the number of the messages that did not.

        They are given back within `give_back_s`; where that fails, Pub/Sub has them again when their leases end.
        """
        self._future.cancel()
        try:
            self._future.exception(timeout=grace_s)
        except FutureTimeoutError:
            return self._give_back(give_back_s)
        return 0

    def _receive(self, received: Any) -> None:
        message = Message(
            data=received.data,
            attributes=dict(received.attributes),
            message_id=received.message_id,
            subscription=self._subscription,
            delivery_attempt=received.delivery_attempt,
        )
        with self._holding(received.ack_id):
            done = self._deliver(message)
        if done:
            received.ack()
        else:
            received.nack()

    @contextmanager
    def _holding(self, ack_id: str) -> Iterator[None]:
        with self._lock:
            self._held.add(ack_id)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(ack_id)

    def _give_back(self, timeout_s: float) -> int:
        with self._lock:
            ack_ids = list(self._held)
        if ack_ids:
            request = {"subscription": self._subscription, "ack_ids": ack_ids, "ack_deadline_seconds": 0}
            try:
                self._client.modify_ack_deadline(request=request, retry=None, timeout=timeout_s)  # once, it is the end
            except (api.GoogleAPIError, GoogleAuthError) as error:
                log.warning("cannot give back %d messages: %s", len(ack_ids), type(error).__name__)
        return len(ack_ids)


def connect() -> pubsub_v1.SubscriberClient:
    """A client with the ambient credentials."""
    return pubsub_v1.SubscriberClient()
