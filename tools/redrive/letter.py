"""One dead letter: what it says about itself, and the message that it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from google.pubsub_v1 import types

from service.core.letters import restored, set_aside

# https://cloud.google.com/pubsub/docs/handling-failures#track_delivery_attempts
_FORWARDED = "CloudPubSubDeadLetter"
_COUNT = f"{_FORWARDED}SourceDeliveryCount"
_SUBSCRIPTION = f"{_FORWARDED}SourceSubscription"
_PROJECT = f"{_FORWARDED}SourceSubscriptionProject"
_PUBLISHED = f"{_FORWARDED}SourceTopicPublishTime"
_SHOWN_BYTES = 60


@dataclass(frozen=True)
class Letter:
    """A message of a dead-letter subscription: forwarded by Pub/Sub, or published by the worker with its reason.

    `died` is when it came to the dead letters, `published` when the original was published, where that is known.
    `attempts` is None and `subscription` is "" where nobody has noted it. `about` is a gs:// address, or how the data
    begins.
    """

    id: str
    ack_id: str
    died: datetime
    published: datetime
    attempts: int | None
    subscription: str
    reason: str
    about: str
    original: types.PubsubMessage

    @classmethod
    def of(cls, received: types.ReceivedMessage) -> Letter:
        """Read what was pulled; nothing in it is taken for granted."""
        message, attributes = received.message, dict(received.message.attributes)
        attempts, died = _number(attributes.get(_COUNT)), _publish_time(message)
        return cls(
            id=message.message_id,
            ack_id=received.ack_id,
            died=died,
            published=_time(attributes.get(_PUBLISHED)) or died,
            attempts=attempts,
            subscription=_subscription(attributes),
            reason=_reason(attributes, attempts),
            about=_about(message.data, attributes),
            original=types.PubsubMessage(
                data=message.data, attributes=_original(attributes), ordering_key=message.ordering_key
            ),
        )

    def set_aside(self) -> Letter:
        """With an original whose attributes have names that anybody may publish."""
        original = types.PubsubMessage(
            data=self.original.data,
            attributes=set_aside(self.original.attributes),
            ordering_key=self.original.ordering_key,
        )
        return replace(self, original=original)

    def described(self) -> dict[str, Any]:
        """What can be said of it in JSON, without the message itself."""
        return {
            "id": self.id,
            "published": self.published.isoformat(),
            "attempts": self.attempts,
            "subscription": self.subscription or None,
            "reason": self.reason,
            "about": self.about,
        }


def _publish_time(message: types.PubsubMessage) -> datetime:
    time: datetime = types.PubsubMessage.pb(message).publish_time.ToDatetime(tzinfo=UTC)
    return time


def _forwarded(attributes: Mapping[str, str]) -> bool:
    return any(name.startswith(_FORWARDED) for name in attributes)


def _original(attributes: Mapping[str, str]) -> dict[str, str]:
    """Without what was added on the way here. What Pub/Sub has forwarded may have a `reason` of its own."""
    if _forwarded(attributes):
        return {name: value for name, value in attributes.items() if not name.startswith(_FORWARDED)}
    return restored(attributes)


def _subscription(attributes: Mapping[str, str]) -> str:
    if not _forwarded(attributes):
        return attributes.get("subscription", "")
    name, project = attributes.get(_SUBSCRIPTION, ""), attributes.get(_PROJECT, "")
    return f"projects/{project}/subscriptions/{name}" if name and project else ""


def _reason(attributes: Mapping[str, str], attempts: int | None) -> str:
    if not _forwarded(attributes):
        return attributes.get("reason", "")
    return "delivery attempts used up" if attempts is None else f"{attempts} delivery attempts used up"


def _about(data: bytes, attributes: Mapping[str, str]) -> str:
    if "bucketId" in attributes and "objectId" in attributes:
        return f"gs://{attributes['bucketId']}/{attributes['objectId']}"
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):  # the latter for a thousand brackets
        document = None
    found = [document.get(key) for key in ("image", "folder")] if isinstance(document, dict) else []
    uri = next((each for each in found if isinstance(each, str)), None)
    return uri if uri is not None else data[:_SHOWN_BYTES].decode(errors="replace")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
