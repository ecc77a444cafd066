"""The topics, subscriptions and buckets of a deployment, made with Google's own clients."""

from datetime import timedelta

from google.cloud import pubsub_v1, storage
from google.pubsub_v1 import types

from tools.localcloud.pubsub.names import topic_path
from tools.localcloud.settings import LocalCloudSettings


def create_topics(publisher: pubsub_v1.PublisherClient, settings: LocalCloudSettings) -> None:
    """All topics of `settings`."""
    for name in settings.topics:
        publisher.create_topic(name=name)


def create_subscriptions(subscriber: pubsub_v1.SubscriberClient, settings: LocalCloudSettings) -> None:
    """The two that push to the service (pull subscriptions until they get an endpoint) and two to read."""
    to_service = _delivery_settings(settings)
    for subscription in (
        {
            "name": settings.uploads_subscription,
            "topic": topic_path(settings.project, settings.uploads_topic),
            "filter": input_bucket_filter(settings.input_buckets),
            **to_service,
        },
        {
            "name": settings.jobs_subscription,
            "topic": topic_path(settings.project, settings.jobs_topic),
            **to_service,
        },
        {
            "name": settings.results_subscription,
            "topic": topic_path(settings.project, settings.results_topic),
        },
        {
            "name": settings.dead_letter_subscription,
            "topic": topic_path(settings.project, settings.dead_letter_topic),
        },
    ):
        subscriber.create_subscription(request=subscription)


def create_buckets(client: storage.Client, settings: LocalCloudSettings) -> None:
    """The input buckets and the output bucket, those that a storage folder does not have already."""
    wanted = dict.fromkeys((*settings.input_buckets, settings.output_bucket))
    existing = {bucket.name for bucket in client.list_buckets()}
    for name in wanted:
        if name not in existing:
            client.create_bucket(name)


def push_config(url: str, service_account: str = "", audience: str = "") -> types.PushConfig:
    """Push to `url`, with an OIDC token of `service_account` if there is one."""
    config = types.PushConfig(push_endpoint=url)
    if service_account:
        config.oidc_token = types.PushConfig.OidcToken(service_account_email=service_account, audience=audience)
    return config


def input_bucket_filter(buckets: tuple[str, ...]) -> str:
    """A subscription filter that lets only these buckets' notifications pass."""
    return " OR ".join(f'attributes.bucketId = "{bucket}"' for bucket in buckets)


def _delivery_settings(settings: LocalCloudSettings) -> dict[str, object]:
    return {
        "ack_deadline_seconds": settings.ack_deadline_s,
        "dead_letter_policy": types.DeadLetterPolicy(
            dead_letter_topic=topic_path(settings.project, settings.dead_letter_topic),
            max_delivery_attempts=settings.max_delivery_attempts,
        ),
        "retry_policy": types.RetryPolicy(
            minimum_backoff=timedelta(seconds=settings.min_backoff_s),
            maximum_backoff=timedelta(seconds=settings.max_backoff_s),
        ),
    }
