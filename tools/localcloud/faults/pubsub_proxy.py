"""A proxy for gRPC calls, as bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.pubsub_v1 import types

from tools.localcloud.faults.calls import ANSWERED, ARRIVES, Call, Cut, Script
from tools.localcloud.pubsub.server import MANY_PINGS

HOST = "127.0.0.1"
_THREADS = 64
_NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_STREAMING_PULL = "/google.pubsub.v1.Subscriber/StreamingPull"
_PUBLISH = "/google.pubsub.v1.Publisher/Publish"
# Pub/Sub's own words, https://github.com/googleapis/google-cloud-dotnet/issues/15057.
_UNAVAILABLE = "The service was unable to fulfill your request. Please try again. [code=8a75]"
_REFUSALS = {
    401: (grpc.StatusCode.UNAUTHENTICATED, "Request had invalid authentication credentials."),
    403: (grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action."),
    503: (grpc.StatusCode.UNAVAILABLE, _UNAVAILABLE),
}


class PubSubProxy(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Passes calls on to the emulator `target` ("address:port"): those with one request and one answer as the script
    says, a streaming pull as it is, for as long as both ends want it.
    """

    def __init__(self, target: str, script: Script) -> None:
        self._script = script
        self._channel = grpc.insecure_channel(target, options=_NO_LIMIT)
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pubsub proxy")
        self._server = grpc.server(threads, options=[*_NO_LIMIT, *MANY_PINGS])
        self._server.add_generic_rpc_handlers((self,))
        self.host = f"{HOST}:{self._server.add_insecure_port(f'{HOST}:0')}"

    def start(self) -> None:
        """Begin to listen."""
        self._server.start()

    def close(self) -> None:
        """End what is under way."""
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        """The handler of any method: https://grpc.github.io/grpc/python/grpc.html#grpc.GenericRpcHandler."""
        method = handler_call_details.method
        if method == _STREAMING_PULL:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        onwards = self._channel.unary_unary(method)

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            return self._handle(_call(method, request), request, onwards, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        answers = self._channel.stream_stream(_STREAMING_PULL)(_until_cancelled(requests))
        context.add_callback(answers.cancel)  # the emulator gives back what a client that has gone still holds
        try:
            yield from answers
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    def _handle(self, call: Call, request: bytes, onwards: Any, context: Any) -> bytes:
        try:
            self._script.arrives(call)
            refused = self._script.refuses(call)
            if refused is not None:
                context.abort(*_REFUSALS[refused])
            lost = self._script.loses(call)
            if lost == ARRIVES:
                context.abort(*_REFUSALS[503])
            answer: bytes = onwards(request, timeout=context.time_remaining())
            self._script.answered(call)
        except Cut:
            context.abort(grpc.StatusCode.CANCELLED, "cut off")
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        if lost == ANSWERED:
            context.abort(*_REFUSALS[503])
        return answer


def _until_cancelled(requests: Iterator[bytes]) -> Iterator[bytes]:
    with contextlib.suppress(grpc.RpcError):  # how grpc ends the iterator of a cancelled stream
        yield from requests


def _call(method: str, request: bytes) -> Call:
    if method == _PUBLISH:
        return Call("publish", types.PublishRequest.deserialize(request).topic)
    return Call("other", method)
