"""Protobuf requests into the core's values, refusing what Pub/Sub refuses."""

import re
from collections.abc import Iterable

from google.pubsub_v1 import types

from tools.localcloud.pubsub import names
from tools.localcloud.pubsub.errors import InvalidArgumentError
from tools.localcloud.pubsub.filters import compile_filter
from tools.localcloud.pubsub.model import (
    DeadLetterPolicy,
    Draft,
    Lease,
    PushTarget,
    RetryPolicy,
    SubscriptionSettings,
)

# https://cloud.google.com/pubsub/quotas#resource_limits
MAX_REQUEST_BYTES = 10_000_000
MAX_REQUEST_MESSAGES = 1000
MAX_ATTRIBUTES = 100
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 1024
ACK_DEADLINE_S = range(10, 601)
DELIVERY_ATTEMPTS = range(5, 101)
MAX_BACKOFF_S = 600.0
DEFAULT_BACKOFF_S = (10.0, 600.0)


def drafts(request: types.PublishRequest) -> list[Draft]:
    """The messages of a publish request."""
    size = types.PublishRequest.pb(request).ByteSize()
    if size > MAX_REQUEST_BYTES or len(request.messages) > MAX_REQUEST_MESSAGES:
        raise InvalidArgumentError(
            f"The request is too large: {size} bytes, {len(request.messages)} messages; "
            f"the limits are {MAX_REQUEST_BYTES} bytes and {MAX_REQUEST_MESSAGES} messages."
        )
    return [_draft(message) for message in request.messages]


def _draft(message: types.PubsubMessage) -> Draft:
    attributes = dict(message.attributes)
    if not message.data and not attributes:
        raise InvalidArgumentError("A message must contain data or at least one attribute.")
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidArgumentError(f"A message may have {MAX_ATTRIBUTES} attributes, not {len(attributes)}.")
    for key, value in attributes.items():
        _check_attribute(key, value)
    return Draft(message.data, attributes, message.ordering_key)


def _check_attribute(key: str, value: str) -> None:
    if not key or key.startswith("goog") or len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidArgumentError(f"Invalid attribute key: {key!r}.")
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise InvalidArgumentError(f"The value of attribute {key!r} is longer than {MAX_VALUE_BYTES} bytes.")


def received(settings: SubscriptionSettings, leases: Iterable[Lease]) -> list[types.ReceivedMessage]:
    """Leases as a pull subscriber receives them; the attempt is told only where there is a dead-letter policy."""
    counted = settings.dead_letter is not None
    return [
        types.ReceivedMessage(
            ack_id=lease.ack_id,
            delivery_attempt=lease.attempt if counted else 0,
            message=types.PubsubMessage(
                data=lease.message.data,
                attributes=dict(lease.message.attributes),
                message_id=lease.message.id,
                publish_time=lease.message.publish_time,
                ordering_key=lease.message.ordering_key,
            ),
        )
        for lease in leases
    ]


def completed(subscription: types.Subscription) -> types.Subscription:
    """A copy with Pub/Sub's defaults filled in."""
    full = types.Subscription(subscription)
    full.state = types.Subscription.State(types.Subscription.State.ACTIVE)
    full.ack_deadline_seconds = full.ack_deadline_seconds or ACK_DEADLINE_S.start
    policy = full.dead_letter_policy
    if policy.dead_letter_topic:
        policy.max_delivery_attempts = policy.max_delivery_attempts or DELIVERY_ATTEMPTS.start
    return full


def settings_of(subscription: types.Subscription) -> SubscriptionSettings:
    """What the queue needs of a completed subscription."""
    names.require(subscription.name, "subscriptions")
    require_ack_deadline(subscription.ack_deadline_seconds)
    return SubscriptionSettings(
        name=subscription.name,
        ack_deadline_s=float(subscription.ack_deadline_seconds),
        ordered=subscription.enable_message_ordering,
        matches=compile_filter(subscription.filter),
        retry=_retry(subscription),
        dead_letter=_dead_letter(subscription.dead_letter_policy),
        push=_push(subscription.push_config),
    )


def require_ack_deadline(seconds: int) -> None:
    """Raise InvalidArgumentError unless a subscription or a stream may have this ack deadline."""
    if seconds not in ACK_DEADLINE_S:
        raise InvalidArgumentError(f"Invalid ack deadline {seconds} s; 10 to 600 s are allowed.")


def _retry(subscription: types.Subscription) -> RetryPolicy | None:
    if "retry_policy" not in subscription:
        return None
    policy, (low, high) = types.RetryPolicy.pb(subscription.retry_policy), DEFAULT_BACKOFF_S
    low = policy.minimum_backoff.ToTimedelta().total_seconds() if policy.HasField("minimum_backoff") else low
    high = policy.maximum_backoff.ToTimedelta().total_seconds() if policy.HasField("maximum_backoff") else high
    if not 0 <= low <= high <= MAX_BACKOFF_S:
        raise InvalidArgumentError(f"Invalid retry policy: backoff {low} to {high} s; 0 to 600 s are allowed.")
    return RetryPolicy(low, high)


def _dead_letter(policy: types.DeadLetterPolicy) -> DeadLetterPolicy | None:
    if not policy.dead_letter_topic:
        return None
    names.require(policy.dead_letter_topic, "topics")
    if policy.max_delivery_attempts not in DELIVERY_ATTEMPTS:
        raise InvalidArgumentError(
            f"Invalid max_delivery_attempts {policy.max_delivery_attempts}; 5 to 100 are allowed."
        )
    return DeadLetterPolicy(policy.dead_letter_topic, policy.max_delivery_attempts)


def _push(config: types.PushConfig) -> PushTarget | None:
    if not config.push_endpoint:
        return None
    if not re.match(r"https?://[^/]", config.push_endpoint):
        raise InvalidArgumentError(f"Invalid push endpoint: {config.push_endpoint}")
    return PushTarget(
        endpoint=config.push_endpoint,
        wrapped="no_wrapper" not in config,
        write_metadata=config.no_wrapper.write_metadata,
        service_account=config.oidc_token.service_account_email,
        audience=config.oidc_token.audience,
    )
