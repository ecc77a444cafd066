"""The HTTP request of a push delivery: https://cloud.google.com/pubsub/docs/push#receive_push."""

import base64
import json

from tools.localcloud.pubsub.model import Lease, Message, PushTarget, SubscriptionSettings

USER_AGENT = "CloudPubSub-Google"


def push_request(settings: SubscriptionSettings, target: PushTarget, lease: Lease) -> tuple[dict[str, str], bytes]:
    """Headers (without authorization) and body that deliver `lease`, wrapped or unwrapped as `target` says."""
    if target.wrapped:
        headers = {"Content-Type": "application/json"}
        body = json.dumps(_envelope(settings, lease)).encode()
    else:
        headers = _metadata_headers(settings.name, lease.message) if target.write_metadata else {}
        body = lease.message.data
    return {**headers, "User-Agent": USER_AGENT}, body


def _envelope(settings: SubscriptionSettings, lease: Lease) -> dict[str, object]:
    envelope: dict[str, object] = {
        "message": _wrapped(lease.message),
        "subscription": settings.name,
    }
    if settings.dead_letter is not None:
        envelope["deliveryAttempt"] = lease.attempt
    return envelope


def _wrapped(message: Message) -> dict[str, object]:
    # Pub/Sub sends both spellings of the id and the time.
    wrapped: dict[str, object] = {
        "messageId": message.id,
        "message_id": message.id,
        "publishTime": message.published,
        "publish_time": message.published,
    }
    if message.data:
        wrapped["data"] = base64.b64encode(message.data).decode()
    if message.attributes:
        wrapped["attributes"] = dict(message.attributes)
    if message.ordering_key:
        wrapped["orderingKey"] = message.ordering_key
    return wrapped


def _metadata_headers(subscription: str, message: Message) -> dict[str, str]:
    headers = {
        **message.attributes,
        "x-goog-pubsub-subscription-name": subscription,
        "x-goog-pubsub-message-id": message.id,
        "x-goog-pubsub-publish-time": message.published,
    }
    if message.ordering_key:
        headers["x-goog-pubsub-ordering-key"] = message.ordering_key
    # http.client encodes header values as Latin-1; this way UTF-8 goes over the wire.
    return {name: value.encode().decode("latin-1") for name, value in headers.items()}
