"""What cannot be read is kept, whole, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.core.envelopes import Message
from service.core.letters import dead_letter
from service.errors import BadEnvelope
from service.worker.outcome import Outcome

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher


class DeadLetters:
    """The dead-letter topic; without one nothing is kept, and nothing is acknowledged."""

    def __init__(self, publisher: Publisher, topic: str | None) -> None:
        self._publisher = publisher
        self._topic = topic

    def keep(self, message: Message | bytes, error: BadEnvelope) -> Outcome:
        """Publish a message whole, or the body of a request in which none was found, as `dead_letter` makes it.

        Raises the error again without a topic, and CloudUnavailable when it is not kept.
        """
        if self._topic is None:
            raise error
        if isinstance(message, bytes):
            message = Message(message)
        letter = dead_letter(message, error.detail)
        message_id = self._publisher.publish(self._topic, letter.data, letter.attributes)
        return Outcome("dead_lettered", f"message {message_id}", error.detail)
