"""Google's own clients, pointed at emulators without touching this process's environment.

`google-cloud-pubsub` finds an emulator only through PUBSUB_EMULATOR_HOST, and setting that here would redirect
every other client of the process.  A transport built on an insecure channel does what the variable does.
"""

import grpc
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1, storage
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

# As on the clients' own channels: a message may have 10 MB, gRPC's default is 4 MiB.
_NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def storage_client(url: str, project: str) -> storage.Client:
    """A client of the storage emulator at `url`."""
    return storage.Client(
        project=project,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": url},
        use_auth_w_custom_endpoint=False,
    )


def publisher_client(host: str, *, ordering: bool = False) -> pubsub_v1.PublisherClient:
    """A publisher at the Pub/Sub emulator `host` ("address:port"); `ordering` allows ordering keys."""
    return pubsub_v1.PublisherClient(
        publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=ordering),
        transport=PublisherGrpcTransport(channel=grpc.insecure_channel(host, options=_NO_LIMIT)),
    )


def subscriber_client(host: str) -> pubsub_v1.SubscriberClient:
    """A subscriber at the Pub/Sub emulator `host` ("address:port")."""
    return pubsub_v1.SubscriberClient(
        transport=SubscriberGrpcTransport(channel=grpc.insecure_channel(host, options=_NO_LIMIT))
    )


def close_publisher(publisher: pubsub_v1.PublisherClient) -> None:
    """Send what is still batched, and close the connection."""
    publisher.stop()
    publisher.transport.close()
