"""The three proxies of one service in one local cloud."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tools.localcloud.cloud import LocalCloud
from tools.localcloud.faults.calls import Script
from tools.localcloud.faults.http_proxy import HttpProxy
from tools.localcloud.faults.kinds import push_call, storage_call, unmet_delete
from tools.localcloud.faults.pubsub_proxy import PubSubProxy


class Proxies:
    """Between the service and the cloud on its way out, and between Pub/Sub's pushes and the service on its way in.

    Only the service goes through them: whoever uploads and reads uses the cloud's own addresses.
    """

    def __init__(self, cloud: LocalCloud, script: Script) -> None:
        self._cloud = cloud
        self.storage = HttpProxy(urlsplit(cloud.storage_url).netloc, storage_call, script, unmet_delete)
        self.pubsub = PubSubProxy(cloud.pubsub_host, script)
        self.push = HttpProxy("", push_call, script)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for proxy in (self.storage, self.pubsub, self.push):
                proxy.start()
                stack.callback(proxy.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def environment(self) -> dict[str, str]:
        """The variables with which the service works through the proxies."""
        return self._cloud.environment() | {
            "STORAGE_EMULATOR_HOST": self.storage.url,
            "PUBSUB_EMULATOR_HOST": self.pubsub.host,
        }

    def push_to(self, service_url: str) -> None:
        """Let the subscriptions push to the service's /events, through the proxy."""
        self.push.point_to(service_url)
        self._cloud.push_to(f"{self.push.url}/events")
