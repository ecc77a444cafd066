"""The StreamingPull RPC."""

import threading
import time
from collections.abc import Iterator

import grpc
from google.pubsub_v1 import types

from tools.localcloud.pubsub import convert
from tools.localcloud.pubsub.broker import Broker
from tools.localcloud.pubsub.errors import FailedPreconditionError, NotFoundError
from tools.localcloud.pubsub.queue import SubscriptionQueue

MAX_BATCH = 100
IDLE_WAIT_S = 0.5
FULL_WAIT_S = 0.02


class StreamingPull:
    """One open stream: sends messages while the client has room, and takes its acknowledgements."""

    def __init__(
        self, queue: SubscriptionQueue, first: types.StreamingPullRequest, context: grpc.ServicerContext
    ) -> None:
        convert.require_ack_deadline(first.stream_ack_deadline_seconds)
        self._queue = queue
        self._context = context
        self._deadline_s = float(first.stream_ack_deadline_seconds)
        self._limit = first.max_outstanding_messages or 1000
        self._held: set[str] = set()
        self._left = threading.Event()

    def read(self, requests: Iterator[types.StreamingPullRequest]) -> None:
        """Carry out the client's requests until it leaves, then give back what it still holds."""
        try:
            for request in requests:
                self._carry_out(request)
        except grpc.RpcError:
            pass  # how grpc ends the iterator of a broken or cancelled stream
        finally:
            self._left.set()
            self._queue.nack(list(self._held))

    def responses(self) -> Iterator[types.StreamingPullResponse]:
        """What the client is sent, until it leaves or the subscription is deleted."""
        while self._open():
            if self._queue.closed:
                raise NotFoundError(f"Resource not found (resource={self._queue.settings.name}).")
            response = self._next_batch()
            if response is not None:
                yield response

    def _open(self) -> bool:
        return not self._left.is_set() and bool(self._context.is_active())

    def _carry_out(self, request: types.StreamingPullRequest) -> None:
        if request.stream_ack_deadline_seconds:
            self._deadline_s = float(request.stream_ack_deadline_seconds)
        self._queue.ack(request.ack_ids)
        pairs = zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True)
        for ack_id, seconds in pairs:
            self._queue.modify_deadline([ack_id], seconds)

    def _next_batch(self) -> types.StreamingPullResponse | None:
        self._held = self._queue.still_leased(self._held)
        room = min(MAX_BATCH, self._limit - len(self._held))
        if room <= 0:
            time.sleep(FULL_WAIT_S)
            return None
        leases = self._queue.lease(room, IDLE_WAIT_S, deadline_s=self._deadline_s, alive=self._open)
        if not leases:
            return None
        self._held |= {lease.ack_id for lease in leases}
        if self._left.is_set():  # `read` may have given back what was held before these came
            self._queue.nack(list(self._held))
            return None
        return types.StreamingPullResponse(
            received_messages=convert.received(self._queue.settings, leases),
            subscription_properties={"message_ordering_enabled": self._queue.settings.ordered},
        )


def streaming_pull(
    broker: Broker, requests: Iterator[types.StreamingPullRequest], context: grpc.ServicerContext
) -> Iterator[types.StreamingPullResponse]:
    """StreamingPull; FailedPreconditionError on a push subscription."""
    first = next(requests)
    queue = broker.subscription(first.subscription).queue
    if queue.settings.push is not None:
        raise FailedPreconditionError("This method is not supported for this subscription type.")
    stream = StreamingPull(queue, first, context)
    threading.Thread(target=stream.read, args=(requests,), daemon=True).start()
    yield from stream.responses()
