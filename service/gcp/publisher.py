"""Pub/Sub publishing that waits for the acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError

from google.api_core.exceptions import GoogleAPIError
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.types import BatchSettings, PublisherOptions

from service.core.budget import unlimited
from service.errors import CloudUnavailable

_DEADLINE_S = 60.0
# A message that is over Pub/Sub's size is a ValueError of the client.
_TROUBLE = (GoogleAPIError, GoogleAuthError, FutureTimeoutError, ValueError, RuntimeError)


class Publisher:
    """Publishes one message at a time: each follows a durable write, so waiting to batch would only add delay.

    `left_s`: the seconds that the calling thread still has; it waits no longer for Pub/Sub.
    """

    def __init__(self, client: pubsub_v1.PublisherClient, left_s: Callable[[], float] = unlimited) -> None:
        self._client = client
        self._left_s = left_s

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish and return the message id once Pub/Sub has it; CloudUnavailable when it has not."""
        wait_s = max(0.0, min(_DEADLINE_S + 5, self._left_s()))
        try:
            message_id: str = self._client.publish(topic, data, **attributes).result(timeout=wait_s)
        except _TROUBLE as error:
            raise CloudUnavailable(f"cannot publish to {topic}: {type(error).__name__}") from error
        return message_id

    def close(self) -> None:
        """Send what is pending and close the channel."""
        self._client.stop()
        self._client.transport.close()


def connect(left_s: Callable[[], float] = unlimited) -> Publisher:
    """Open a publisher with the ambient credentials."""
    options = PublisherOptions(retry=Retry(deadline=_DEADLINE_S), timeout=_DEADLINE_S)
    return Publisher(pubsub_v1.PublisherClient(BatchSettings(max_messages=1), options), left_s)
