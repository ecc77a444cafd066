"""A whole local cloud in one `with` block."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import urllib3
from google.cloud import pubsub_v1, storage

from tools.localcloud import clients, resources, stats
from tools.localcloud.gcs import StorageProcess
from tools.localcloud.pubsub.names import topic_path
from tools.localcloud.pubsub_process import PubSubProcess
from tools.localcloud.settings import LocalCloudSettings
from tools.localcloud.stats import SubscriptionStats


class LocalCloud:
    """Cloud Storage and Pub/Sub as two processes on loopback ports, with a deployment's buckets, topics, subscriptions.

    Inside the block `storage`, `publisher` and `subscriber` are Google's own clients of it. Leaving the block, also
    by an error during the start, stops both processes.
    """

    storage: storage.Client
    publisher: pubsub_v1.PublisherClient
    subscriber: pubsub_v1.SubscriberClient

    def __init__(self, settings: LocalCloudSettings | None = None) -> None:
        self.settings = settings or LocalCloudSettings()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        """Topics exist before the storage server starts: it drops the events of a topic that is not there."""
        settings, enter = self.settings, self._stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="localcloud-")))
        self._http = enter(urllib3.PoolManager())
        self._pubsub = enter(PubSubProcess(settings, folder))
        self._pubsub.wait_until_ready(settings.start_timeout_s)
        self.publisher = clients.publisher_client(self._pubsub.host)
        self._stack.callback(self._close_publisher)
        self.subscriber = enter(clients.subscriber_client(self._pubsub.host))
        resources.create_topics(self.publisher, settings)
        resources.create_subscriptions(self.subscriber, settings)
        self._gcs = enter(StorageProcess(settings, self._pubsub.host, folder))
        self._gcs.wait_until_ready(settings.start_timeout_s)
        self.storage = clients.storage_client(self._gcs.url, settings.project)
        self._stack.callback(self.storage.close)
        resources.create_buckets(self.storage, settings)

    def _close_publisher(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()

    @property
    def admin_url(self) -> str:
        """Where the Pub/Sub emulator tells its statistics and its token certificates."""
        return self._pubsub.admin_url

    def push_to(self, url: str, service_account: str = "", audience: str = "") -> None:
        """Let the uploads and jobs subscriptions push to `url`, with an OIDC token of `service_account` if given."""
        config = resources.push_config(url, service_account, audience)
        for subscription in self.settings.push_subscriptions:
            self.subscriber.modify_push_config(subscription=subscription, push_config=config)

    def environment(self) -> dict[str, str]:
        """The variables with which a service process works in this cloud."""
        settings = self.settings
        return {
            "STORAGE_EMULATOR_HOST": self._gcs.url,
            "PUBSUB_EMULATOR_HOST": self._pubsub.host,
            "GOOGLE_CLOUD_PROJECT": settings.project,
            "INPUT_BUCKETS": ",".join(settings.input_buckets),
            "OUTPUT_BUCKET": settings.output_bucket,
            "JOBS_TOPIC": topic_path(settings.project, settings.jobs_topic),
            "RESULTS_TOPIC": topic_path(settings.project, settings.results_topic),
            "DEAD_LETTER_TOPIC": topic_path(settings.project, settings.dead_letter_topic),
        }

    def statistics(self) -> dict[str, SubscriptionStats]:
        """What each subscription holds and has done, by its full name."""
        self._pubsub.check()
        return stats.fetch(self._http, self.admin_url)

    def wait_until_quiet(self, timeout_s: float) -> None:
        """Return once nothing is left to be pushed; TimeoutError with the statistics otherwise."""
        deadline = time.monotonic() + timeout_s
        while not all((now := self.statistics())[name].quiet for name in self.settings.push_subscriptions):
            if time.monotonic() > deadline:
                raise TimeoutError(f"pushes are still under way after {timeout_s:g} s: {now}")
            time.sleep(0.1)
