"""What the emulator's core works with: plain frozen values, no protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tools.localcloud.pubsub.filters import Predicate, accept_all


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as its publisher sent it."""

    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A published message; `publish_time` is UTC in whole milliseconds."""

    id: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str
    publish_time: datetime

    @property
    def published(self) -> str:
        """The publish time as Pub/Sub writes it in JSON and attributes."""
        return self.publish_time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Lease:
    """One delivery in a subscriber's hands; `attempt` counts from 1."""

    ack_id: str
    attempt: int
    message: Message


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff between two deliveries of a message."""

    min_backoff_s: float
    max_backoff_s: float

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait after failed delivery number `attempt`."""
        return min(self.max_backoff_s, self.min_backoff_s * 2.0 ** (attempt - 1))


@dataclass(frozen=True, slots=True)
class DeadLetterPolicy:
    """Where a message goes after `max_attempts` failed deliveries."""

    topic: str
    max_attempts: int


@dataclass(frozen=True, slots=True)
class PushTarget:
    """Where and how a push subscription delivers."""

    endpoint: str
    wrapped: bool = True
    write_metadata: bool = False
    service_account: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """Everything about a subscription that its queue and its pusher read."""

    name: str
    ack_deadline_s: float
    ordered: bool = False
    matches: Predicate = accept_all
    retry: RetryPolicy | None = None
    dead_letter: DeadLetterPolicy | None = None
    push: PushTarget | None = None
