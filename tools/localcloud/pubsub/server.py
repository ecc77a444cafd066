"""The gRPC server."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import proto
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

from tools.localcloud.pubsub.broker import Broker
from tools.localcloud.pubsub.errors import RpcError
from tools.localcloud.pubsub.publisher import PublisherApi
from tools.localcloud.pubsub.streaming import streaming_pull
from tools.localcloud.pubsub.subscriber import SubscriberApi

MAX_WORKERS = 64  # each open stream and each waiting pull holds one
MIB = 1 << 20
# Google's clients ping idle streams more often than grpc's servers allow by default.
MANY_PINGS = [("grpc.http2.min_ping_interval_without_data_ms", 5000), ("grpc.keepalive_permit_without_calls", 1)]

Rpc = Callable[..., proto.Message | Empty]

# RPC name in the proto file → request type.  Each name's snake_case is the method that answers it.
PUBLISHER_RPCS: dict[str, type[proto.Message]] = {
    "CreateTopic": types.Topic,
    "UpdateTopic": types.UpdateTopicRequest,
    "GetTopic": types.GetTopicRequest,
    "ListTopics": types.ListTopicsRequest,
    "ListTopicSubscriptions": types.ListTopicSubscriptionsRequest,
    "DeleteTopic": types.DeleteTopicRequest,
    "Publish": types.PublishRequest,
}
SUBSCRIBER_RPCS: dict[str, type[proto.Message]] = {
    "CreateSubscription": types.Subscription,
    "GetSubscription": types.GetSubscriptionRequest,
    "UpdateSubscription": types.UpdateSubscriptionRequest,
    "ListSubscriptions": types.ListSubscriptionsRequest,
    "DeleteSubscription": types.DeleteSubscriptionRequest,
    "ModifyPushConfig": types.ModifyPushConfigRequest,
    "Pull": types.PullRequest,
    "Acknowledge": types.AcknowledgeRequest,
    "ModifyAckDeadline": types.ModifyAckDeadlineRequest,
    "Seek": types.SeekRequest,
}


def grpc_server(broker: Broker, host: str, port: int) -> tuple[grpc.Server, int]:
    """A started server for `broker`, and the port it listens on (a free one where `port` is 0).

    Raises RuntimeError when the port is taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(MAX_WORKERS),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", 20 * MIB),
            ("grpc.max_send_message_length", 64 * MIB),
            *MANY_PINGS,
        ],
    )
    publisher = _unary_handlers(PublisherApi(broker), PUBLISHER_RPCS)
    subscriber = _unary_handlers(SubscriberApi(broker), SUBSCRIBER_RPCS)
    subscriber["StreamingPull"] = grpc.stream_stream_rpc_method_handler(
        _streaming(partial(streaming_pull, broker)),
        request_deserializer=types.StreamingPullRequest.deserialize,
        response_serializer=_encode,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
        )
    )
    bound = int(server.add_insecure_port(f"{host}:{port}"))
    server.start()
    return server, bound


def _unary_handlers(api: object, rpcs: dict[str, type[proto.Message]]) -> dict[str, grpc.RpcMethodHandler]:
    return {
        name: grpc.unary_unary_rpc_method_handler(
            _unary(getattr(api, _snake_case(name))),
            request_deserializer=request.deserialize,
            response_serializer=_encode,
        )
        for name, request in rpcs.items()
    }


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _encode(message: proto.Message | Empty) -> bytes:
    raw = type(message).pb(message) if isinstance(message, proto.Message) else message
    return bytes(raw.SerializeToString())


def _unary(rpc: Rpc) -> Rpc:
    def answer(request: proto.Message, context: grpc.ServicerContext) -> proto.Message | Empty:
        try:
            return rpc(request, context)
        except RpcError as error:
            context.abort(error.status, str(error))
            raise  # abort() has raised already; this tells the type checker

    return answer


def _streaming(rpc: Callable[..., Iterator[proto.Message]]) -> Callable[..., Iterator[proto.Message]]:
    def answer(requests: Iterator[proto.Message], context: grpc.ServicerContext) -> Iterator[proto.Message]:
        try:
            yield from rpc(requests, context)
        except RpcError as error:
            context.abort(error.status, str(error))

    return answer
