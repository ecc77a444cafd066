"""The RPCs of google.pubsub.v1.Publisher."""

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

from tools.localcloud.pubsub import convert
from tools.localcloud.pubsub.broker import Broker
from tools.localcloud.pubsub.merge import merged


class PublisherApi:
    """Topics and publishing."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def create_topic(self, request: types.Topic, context: grpc.ServicerContext) -> types.Topic:
        """CreateTopic."""
        return self._broker.create_topic(request)

    def update_topic(self, request: types.UpdateTopicRequest, context: grpc.ServicerContext) -> types.Topic:
        """UpdateTopic."""
        current = self._broker.topic(request.topic.name)
        return self._broker.replace_topic(merged(current, request.topic, request.update_mask.paths))

    def get_topic(self, request: types.GetTopicRequest, context: grpc.ServicerContext) -> types.Topic:
        """GetTopic."""
        return self._broker.topic(request.topic)

    def list_topics(self, request: types.ListTopicsRequest, context: grpc.ServicerContext) -> types.ListTopicsResponse:
        """ListTopics, always on one page."""
        return types.ListTopicsResponse(topics=self._broker.topics(request.project))

    def list_topic_subscriptions(
        self, request: types.ListTopicSubscriptionsRequest, context: grpc.ServicerContext
    ) -> types.ListTopicSubscriptionsResponse:
        """ListTopicSubscriptions, always on one page."""
        self._broker.topic(request.topic)
        subscribers = self._broker.subscribers_of(request.topic)
        return types.ListTopicSubscriptionsResponse(subscriptions=[held.config.name for held in subscribers])

    def delete_topic(self, request: types.DeleteTopicRequest, context: grpc.ServicerContext) -> Empty:
        """DeleteTopic."""
        self._broker.delete_topic(request.topic)
        return Empty()

    def publish(self, request: types.PublishRequest, context: grpc.ServicerContext) -> types.PublishResponse:
        """Publish."""
        ids = self._broker.publish(request.topic, convert.drafts(request))
        return types.PublishResponse(message_ids=ids)
