"""Sends messages back to the topic that they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from google.api_core.exceptions import InvalidArgument, NotFound, PermissionDenied
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherClient, types

from tools.redrive.letter import Letter

# https://cloud.google.com/pubsub/quotas#resource_limits: 10 MB in a request, its names and lengths included.
_REQUEST_BYTES = 9_000_000
_DELETED_TOPIC = "_deleted-topic_"


@dataclass(frozen=True)
class Destination:
    """A topic, or why there is none."""

    topic: str = ""
    problem: str = ""


class Sender:
    """Finds the topics of source subscriptions, each once, and publishes; `to` is a topic for everything."""

    def __init__(
        self, publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient, to: str | None
    ) -> None:
        # The generated client: there an attribute of a message may have any name, also that of a parameter.
        self._publisher = PublisherClient(transport=publisher.transport)
        self._subscriber = subscriber
        self._to = Destination(to) if to else None
        self._known: dict[str, Destination] = {}

    def destination(self, letter: Letter) -> Destination:
        """Where the letter goes. GoogleAPIError when Pub/Sub does not answer."""
        if self._to:
            return self._to
        source = letter.subscription
        if source not in self._known:
            self._known[source] = self._look_up(source)
        return self._known[source]

    def send(self, letters: Iterable[Letter]) -> dict[str, str]:
        """Publish letters that have a destination: the ids of those that cannot be, with the reason.

        All others are safe in their topics. GoogleAPIError when any may not be; some may be there all the same.
        """
        refused: dict[str, str] = {}
        for topic, group in groupby(sorted(letters, key=self._topic), key=self._topic):
            for some in _requests(group):
                refused |= self._publish(topic, some)
        return refused

    def _topic(self, letter: Letter) -> str:
        return self.destination(letter).topic

    def _publish(self, topic: str, letters: list[Letter]) -> dict[str, str]:
        try:
            self._publisher.publish(topic=topic, messages=[letter.original for letter in letters])
        except PermissionDenied:
            why = f"no permission to publish to {topic}: it needs roles/pubsub.publisher"
            return {letter.id: why for letter in letters}
        except NotFound:
            return {letter.id: f"{topic} does not exist; give another --to" for letter in letters}
        except InvalidArgument as error:
            if len(letters) == 1:
                renamed = letters[0].set_aside()
                if renamed != letters[0]:
                    return self._publish(topic, [renamed])
                return {letters[0].id: f"Pub/Sub refuses it: {error.message}"}
            # One that is not allowed spoils the whole request.
            return {id: why for letter in letters for id, why in self._publish(topic, [letter]).items()}
        return {}

    def _look_up(self, source: str) -> Destination:
        if not source:
            return Destination(problem="its source subscription is not known; give --to")
        try:
            topic: str = self._subscriber.get_subscription(subscription=source).topic
        except NotFound:
            return Destination(problem=f"{source} does not exist any more; give --to")
        except PermissionDenied:
            return Destination(problem=f"no permission to look up {source}: it needs roles/pubsub.viewer; or give --to")
        if topic == _DELETED_TOPIC:
            return Destination(problem=f"the topic of {source} has been deleted; give --to")
        return Destination(topic)


def _requests(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    some: list[Letter] = []
    size = 0
    for letter in letters:
        more = types.PubsubMessage.pb(letter.original).ByteSize()
        if some and size + more > _REQUEST_BYTES:
            yield some
            some, size = [], 0
        some.append(letter)
        size += more
    if some:
        yield some
