"""What cannot be read is kept, whole, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.core.envelopes import Message
from service.errors import BadEnvelope
from service.worker.outcome import Outcome

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher

# https://cloud.google.com/pubsub/quotas#resource_limits: the value of an attribute, and how many there may be.
_MAX_VALUE_BYTES = 1024
_MAX_ATTRIBUTES = 100


class DeadLetters:
    """The dead-letter topic; without one nothing is kept, and nothing is acknowledged."""

    def __init__(self, publisher: Publisher, topic: str | None) -> None:
        self._publisher = publisher
        self._topic = topic

    def keep(self, message: Message | bytes, error: BadEnvelope) -> Outcome:
        """Publish a message as it was, or the body of a request in which none was found, with the attribute `reason`.

        A message also gets `subscription`, where that is known. Raises the error again without a topic, and
        CloudUnavailable when it is not kept.
        """
        if self._topic is None:
            raise error
        if isinstance(message, bytes):
            message = Message(message)
        reason = error.detail.encode(errors="replace")[:_MAX_VALUE_BYTES].decode(errors="ignore")
        attributes = _with(message, reason)
        message_id = self._publisher.publish(self._topic, message.data, attributes)
        return Outcome("dead_lettered", f"message {message_id}", reason)


def _with(message: Message, reason: str) -> dict[str, str]:
    """Our attributes beside those of the message, as many as there is room for."""
    attributes = dict(message.attributes)
    for name, value in (("reason", reason), ("subscription", message.subscription)):
        if value and (name in attributes or len(attributes) < _MAX_ATTRIBUTES):
            attributes[name] = value
    return attributes
