"""The Pub/Sub emulator's statistics, as seen from outside."""

from dataclasses import dataclass

import urllib3

from tools.localcloud.pubsub.admin import STATS_PATH


@dataclass(frozen=True)
class SubscriptionStats:
    """Messages waiting and in flight now, and counts since the start; see README.md for each field."""

    ready: int
    outstanding: int
    received: int
    delivered: int
    acked: int
    nacked: int
    expired: int
    dead: int
    duplicated: int

    @property
    def quiet(self) -> bool:
        """Whether nothing waits, is in flight or will come again."""
        return self.ready == 0 and self.outstanding == 0


def fetch(http: urllib3.PoolManager, admin_url: str) -> dict[str, SubscriptionStats]:
    """Statistics by full name of the subscription."""
    response = http.request("GET", f"{admin_url}{STATS_PATH}", retries=False, timeout=10.0)
    return {name: SubscriptionStats(**counts) for name, counts in response.json().items()}
