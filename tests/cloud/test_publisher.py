"""Publishing within the time that an event has."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.api_core.retry import Retry
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.types import BatchSettings, PublisherOptions
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from service.errors import CloudUnavailable, DeadlineExceeded
from service.gcp.publisher import Publisher

TOPIC = "projects/sam3-local/topics/jobs"


@pytest.fixture
def unanswered() -> Iterator[Callable[[float], Publisher]]:
    """Publishers with so many seconds, of a Pub/Sub that accepts connections and says nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        grpc.insecure_channel(f"127.0.0.1:{silent.getsockname()[1]}") as channel,
    ):
        options = PublisherOptions(retry=Retry(deadline=2), timeout=2)
        transport = PublisherGrpcTransport(channel=channel)
        client = pubsub_v1.PublisherClient(BatchSettings(max_latency=0), options, transport=transport)
        yield lambda left_s: Publisher(client, lambda: left_s)


def test_what_is_not_acknowledged_in_time_is_trouble(unanswered: Callable[[float], Publisher]) -> None:
    with pytest.raises(CloudUnavailable, match=TOPIC):
        unanswered(0.3).publish_all(TOPIC, [b"a", b"b"])
    with pytest.raises(CloudUnavailable, match=TOPIC):
        unanswered(0.3).publish(TOPIC, b"a", {})


def test_nothing_is_begun_after_its_time(unanswered: Callable[[float], Publisher]) -> None:
    with pytest.raises(DeadlineExceeded):
        unanswered(0).publish(TOPIC, b"a", {})
