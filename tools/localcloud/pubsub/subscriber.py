"""The unary RPCs of google.pubsub.v1.Subscriber."""

from datetime import UTC

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

from tools.localcloud.pubsub import convert
from tools.localcloud.pubsub.broker import Broker
from tools.localcloud.pubsub.errors import InvalidArgumentError, UnimplementedError
from tools.localcloud.pubsub.merge import merged

MAX_PULL_MESSAGES = 1000
MAX_DEADLINE_S = 600
PULL_WAIT_S = 5.0


class SubscriberApi:
    """Subscriptions, pulling and acknowledging."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def create_subscription(self, request: types.Subscription, context: grpc.ServicerContext) -> types.Subscription:
        """CreateSubscription."""
        return self._broker.create_subscription(request)

    def get_subscription(
        self, request: types.GetSubscriptionRequest, context: grpc.ServicerContext
    ) -> types.Subscription:
        """GetSubscription."""
        return self._broker.subscription(request.subscription).config

    def update_subscription(
        self, request: types.UpdateSubscriptionRequest, context: grpc.ServicerContext
    ) -> types.Subscription:
        """UpdateSubscription."""
        current = self._broker.subscription(request.subscription.name).config
        return self._broker.reconfigure(merged(current, request.subscription, request.update_mask.paths))

    def list_subscriptions(
        self, request: types.ListSubscriptionsRequest, context: grpc.ServicerContext
    ) -> types.ListSubscriptionsResponse:
        """ListSubscriptions, always on one page."""
        held = self._broker.subscriptions(request.project)
        return types.ListSubscriptionsResponse(subscriptions=[subscription.config for subscription in held])

    def delete_subscription(self, request: types.DeleteSubscriptionRequest, context: grpc.ServicerContext) -> Empty:
        """DeleteSubscription."""
        self._broker.delete_subscription(request.subscription)
        return Empty()

    def modify_push_config(self, request: types.ModifyPushConfigRequest, context: grpc.ServicerContext) -> Empty:
        """ModifyPushConfig: an empty endpoint turns a push subscription into a pull subscription."""
        config = types.Subscription(self._broker.subscription(request.subscription).config)
        config.push_config = request.push_config
        self._broker.reconfigure(config)
        return Empty()

    def pull(self, request: types.PullRequest, context: grpc.ServicerContext) -> types.PullResponse:
        """Pull: waits a few seconds for a first message, unless asked to return immediately."""
        if request.max_messages <= 0:
            raise InvalidArgumentError("max_messages must be positive.")
        queue = self._broker.subscription(request.subscription).queue
        wait_s = 0.0 if types.PullRequest.pb(request).return_immediately else PULL_WAIT_S
        leases = queue.lease(min(request.max_messages, MAX_PULL_MESSAGES), wait_s, alive=context.is_active)
        return types.PullResponse(received_messages=convert.received(queue.settings, leases))

    def acknowledge(self, request: types.AcknowledgeRequest, context: grpc.ServicerContext) -> Empty:
        """Acknowledge."""
        self._broker.subscription(request.subscription).queue.ack(request.ack_ids)
        return Empty()

    def modify_ack_deadline(self, request: types.ModifyAckDeadlineRequest, context: grpc.ServicerContext) -> Empty:
        """ModifyAckDeadline."""
        seconds = request.ack_deadline_seconds
        if not 0 <= seconds <= MAX_DEADLINE_S:
            raise InvalidArgumentError(f"Invalid ack deadline {seconds} s; 0 to {MAX_DEADLINE_S} s are allowed.")
        self._broker.subscription(request.subscription).queue.modify_deadline(request.ack_ids, seconds)
        return Empty()

    def seek(self, request: types.SeekRequest, context: grpc.ServicerContext) -> types.SeekResponse:
        """Seek to a time, forwards only: acknowledged messages are not kept."""
        queue = self._broker.subscription(request.subscription).queue
        if "time" not in request:
            raise UnimplementedError("Only seeking to a time is supported.")
        queue.drop_published_before(types.SeekRequest.pb(request).time.ToDatetime(tzinfo=UTC))
        return types.SeekResponse()
