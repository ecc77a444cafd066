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
from tools.localcloud.process import Process, ProcessError
from tools.localcloud.pubsub.admin import CERTS_PATH
from tools.localcloud.pubsub.names import topic_path
from tools.localcloud.pubsub_process import PubSubProcess
from tools.localcloud.settings import LocalCloudSettings
from tools.localcloud.stats import SubscriptionStats

POLL_S = 0.05


class LocalCloud:
    """Cloud Storage and Pub/Sub as two processes on loopback ports, with a deployment's buckets, topics, subscriptions.

    Inside the block `storage`, `publisher` and `subscriber` are Google's own clients of it, closed with it. Entering
    raises ProcessError if an emulator does not become healthy. Leaving the block, also by an error during the start,
    stops both processes; it raises ProcessError if one of them had died before.
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
        with self._stack:
            try:
                self.check()
            except ProcessError as death:
                if error is None:
                    raise
                error.add_note(str(death))  # most likely the reason for `error`

    def _start(self) -> None:
        """Topics exist before the storage server starts: it drops the events of a topic that is not there."""
        settings, enter = self.settings, self._stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="localcloud-")))
        self._http = enter(urllib3.PoolManager())
        self._pubsub = None
        if not settings.pubsub_host:
            self._pubsub = enter(PubSubProcess(settings, folder))
            self._pubsub.wait_until_ready(settings.start_timeout_s)
        self.publisher = clients.publisher_client(self.pubsub_host)
        self._stack.callback(clients.close_publisher, self.publisher)
        self.subscriber = enter(clients.subscriber_client(self.pubsub_host))
        resources.create_topics(self.publisher, settings)
        resources.create_subscriptions(self.subscriber, settings)
        self._gcs = enter(StorageProcess(settings, self.pubsub_host, folder))
        self._gcs.wait_until_ready(settings.start_timeout_s)
        self.storage = clients.storage_client(self.storage_url, settings.project)
        self._stack.callback(self.storage.close)
        resources.create_buckets(self.storage, settings)

    @property
    def processes(self) -> tuple[Process, ...]:
        """Pub/Sub, unless it ran already, and Cloud Storage."""
        return (self._pubsub, self._gcs) if self._pubsub else (self._gcs,)

    @property
    def storage_url(self) -> str:
        """Base URL of Cloud Storage."""
        return self._gcs.url

    @property
    def pubsub_host(self) -> str:
        """Pub/Sub's "address:port" (gRPC)."""
        return self._pubsub.host if self._pubsub else self.settings.pubsub_host

    @property
    def admin_url(self) -> str:
        """Where the Pub/Sub emulator tells its statistics and its token certificates; LookupError if it does not."""
        if self._pubsub is None:
            raise LookupError(f"the Pub/Sub emulator at {self.settings.pubsub_host} has no statistics")
        return self._pubsub.admin_url

    @property
    def certs_url(self) -> str:
        """Where the certificates of the OIDC tokens on push requests are."""
        return f"{self.admin_url}{CERTS_PATH}"

    def upload(self, name: str, data: bytes | str, content_type: str) -> None:
        """Put an object into the first input bucket."""
        blob = self.storage.bucket(self.settings.input_buckets[0]).blob(name)
        blob.upload_from_string(data, content_type=content_type)

    def push_to(self, url: str, service_account: str = "", audience: str = "") -> None:
        """Let the uploads and jobs subscriptions push to `url`, with an OIDC token of `service_account` if given.

        An empty `url` stops pushing: messages wait.
        """
        config = resources.push_config(url, service_account, audience)
        for subscription in self.settings.push_subscriptions:
            self.subscriber.modify_push_config(subscription=subscription, push_config=config)

    def environment(self) -> dict[str, str]:
        """The variables with which a service process works in this cloud."""
        settings = self.settings
        return {
            "STORAGE_EMULATOR_HOST": self.storage_url,
            "PUBSUB_EMULATOR_HOST": self.pubsub_host,
            "GOOGLE_CLOUD_PROJECT": settings.project,
            "INPUT_BUCKETS": ",".join(settings.input_buckets),
            "OUTPUT_BUCKET": settings.output_bucket,
            "JOBS_TOPIC": topic_path(settings.project, settings.jobs_topic),
            "RESULTS_TOPIC": topic_path(settings.project, settings.results_topic),
            "DEAD_LETTER_TOPIC": topic_path(settings.project, settings.dead_letter_topic),
        }

    def check(self) -> None:
        """Raise ProcessError, with its last output, if an emulator has died."""
        for process in self.processes:
            process.check()

    def statistics(self) -> dict[str, SubscriptionStats]:
        """What each subscription holds and has done, by its full name."""
        self.check()
        return stats.fetch(self._http, self.admin_url)

    def wait_until_quiet(self, timeout_s: float, received: int = 0) -> None:
        """Return once nothing is left to be pushed; TimeoutError with the statistics otherwise.

        Cloud Storage sends an event shortly after its upload has returned: `received` makes the wait go on until
        the uploads and jobs subscriptions together have received that many messages since the start.
        """
        deadline = time.monotonic() + timeout_s
        while not self._quiet(now := self.statistics(), received):
            if time.monotonic() > deadline:
                raise TimeoutError(f"pushes are still under way after {timeout_s:g} s: {now}")
            time.sleep(POLL_S)

    def _quiet(self, statistics: dict[str, SubscriptionStats], received: int) -> bool:
        pushed = [statistics[name] for name in self.settings.push_subscriptions]
        return all(held.quiet for held in pushed) and sum(held.received for held in pushed) >= received
