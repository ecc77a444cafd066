"""One Pub/Sub message, whichever way it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """One Pub/Sub message, whichever way it came.

    `subscription` is "" where the envelope does not say. `delivery_attempt` counts from 1 and is there only when the
    subscription has a dead-letter policy.
    """

    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_id: str = ""
    subscription: str = ""
    delivery_attempt: int | None = None
