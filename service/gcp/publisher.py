"""Pub/Sub publishing that waits for the acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from google.api_core.exceptions import GoogleAPIError
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.types import BatchSettings, PublisherOptions
from google.pubsub_v1 import PublisherClient, PubsubMessage

from service.core.budget import unlimited
from service.errors import CloudUnavailable, DeadlineExceeded

_DEADLINE_S = 60.0
# A closed channel is a ValueError; a batch that is not answered in time is a TimeoutError.
_TROUBLE = (GoogleAPIError, GoogleAuthError, TimeoutError, ValueError, RuntimeError)


class Publisher:
    """Publishes and waits: each message follows a durable write or a whole page of others.


    `left_s`: the seconds that the calling thread still has; it waits no longer for Pub/Sub.
    """

    def __init__(self, client: pubsub_v1.PublisherClient, left_s: Callable[[], float] = unlimited) -> None:
        self._client = client
        self._left_s = left_s

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish and return the message id once Pub/Sub has it; CloudUnavailable when it has not."""
        message = PubsubMessage(data=data, attributes=dict(attributes))
        wait_s = self._wait_s()
        try:
            # The call itself, below the batching one, whose keyword arguments leave no room for some attributes: a dead
            # letter may have one that is called `topic`, `data` or `timeout`.
            answer = PublisherClient.publish(
                self._client, topic=topic, messages=[message], retry=Retry(deadline=wait_s), timeout=wait_s
            )
        except _TROUBLE as error:
            raise CloudUnavailable(f"cannot publish to {topic}: {type(error).__name__}") from error
        message_id: str = answer.message_ids[0]
        return message_id

    def publish_all(
        self, topic: str, messages: Sequence[bytes], attributes: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Publish messages, each with these attributes, and return once Pub/Sub has all, else CloudUnavailable.

        Some may have been published then.
        """
        try:
            for future in [self._client.publish(topic, data, **attributes) for data in messages]:
                future.result(timeout=self._wait_s())
        except _TROUBLE as error:
            raise CloudUnavailable(f"cannot publish to {topic}: {type(error).__name__}") from error

    def _wait_s(self) -> float:
        left_s = self._left_s()
        if left_s <= 0:
            raise DeadlineExceeded("no time is left")
        return min(_DEADLINE_S, left_s)

    def close(self) -> None:
        """Close the channel."""
        self._client.stop()
        self._client.transport.close()


def connect(left_s: Callable[[], float] = unlimited) -> Publisher:
    """Open a publisher with the ambient credentials."""
    # Many at once share requests, a single one is sent at once.
    batches = BatchSettings(max_messages=500, max_latency=0)
    options = PublisherOptions(retry=Retry(deadline=_DEADLINE_S), timeout=_DEADLINE_S)
    return Publisher(pubsub_v1.PublisherClient(batches, options), left_s)
