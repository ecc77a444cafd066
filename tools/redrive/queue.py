"""A dead-letter subscription, looked through once: every message once, and what is not settled goes back at the end."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from types import TracebackType
from typing import Self

from cachetools import LRUCache
from google.cloud import pubsub_v1

from tools.redrive.letter import Letter

# Requests are limited to 512 KiB, and an ack id has some 200 bytes.
_IDS_AT_ONCE = 1000
_PULL_AT_ONCE = 100
_POLL_S = 0.25
_LEASE_S = 600
_RENEW_EVERY_S = 240.0
# Ids of what was settled: an acknowledgement that got lost brings a message back within its lease.
_SETTLED_REMEMBERED = 100_000


class Queue:
    """Pulls with leases of ten minutes, which are renewed for as long as the look goes on.

    Shows what died until `began`: what is sent back and rejected again comes here anew, and would be so for ever.
    Leaving the block gives everything back that was not settled, so that the next look finds it. Of a process that is
    killed it comes back by itself, after the lease. Memory holds the ids of at most `hold` messages, and no data.
    """

    def __init__(
        self,
        client: pubsub_v1.SubscriberClient,
        subscription: str,
        clock: Callable[[], float],
        stopped: Callable[[], bool],
        *,
        began: datetime,
        idle_s: float,
        hold: int,
    ) -> None:
        self._client = client
        self._subscription = subscription
        self._clock = clock
        self._stopped = stopped
        self._began = began
        self._idle_s = idle_s
        self._hold = hold
        self._held: dict[str, list[str]] = {}  # ack ids by message id
        self._settled: LRUCache[str, bool] = LRUCache(_SETTLED_REMEMBERED)
        self._renewed = clock()
        self.newer = 0
        """How many have died since the look began."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._modify(self._leases(), 0)

    @property
    def full(self) -> bool:
        """Whether the look has ended because it would have to hold more than it may."""
        return len(self._held) >= self._hold

    def batches(self) -> Iterator[list[Letter]]:
        """What comes, a hundred at a time, until nothing has come for `idle_s`, or `stopped` says so.

        What has died since the look began is held until its end, lest it comes again at once, and is not shown.
        GoogleAPIError when Pub/Sub does not answer.
        """
        last = self._clock()
        while not (self._stopped() or self.full) and self._clock() - last < self._idle_s:
            letters = self._pull()
            new = self._new(letters)  # before any other call: whatever ends the look now, they are given back
            self._modify([letter.ack_id for letter in letters if letter.id in self._held], _LEASE_S)
            self._renew_when_due()
            shown = [letter for letter in new if letter.died <= self._began]
            self.newer += len(new) - len(shown)
            if shown and not self._stopped():
                yield shown
            if any(letter.died <= self._began for letter in letters):
                last = self._clock()
            elif not letters:
                time.sleep(_POLL_S)

    def settle(self, letters: Iterable[Letter]) -> None:
        """Acknowledge: these are gone from the dead letters."""
        ids = [letter.id for letter in letters]
        for ack_ids in _chunks(chain.from_iterable(self._held[each] for each in ids)):
            self._client.acknowledge(subscription=self._subscription, ack_ids=ack_ids)
        for each in ids:
            del self._held[each]
            self._settled[each] = True

    def _pull(self) -> list[Letter]:
        """What is there now. A pull that waits is of no use: given up, it may still take messages, for nobody."""
        request = {"subscription": self._subscription, "max_messages": self._room(), "return_immediately": True}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The return_immediately flag", DeprecationWarning)
            answer = self._client.pull(request=request)
        return [Letter.of(received) for received in answer.received_messages]

    def _room(self) -> int:
        return min(_PULL_AT_ONCE, self._hold - len(self._held))

    def _new(self, letters: Iterable[Letter]) -> list[Letter]:
        """Those that have not been seen. Pub/Sub may deliver a message twice, with two leases."""
        new, settled = [], []
        for letter in letters:
            if letter.id in self._settled:
                settled.append(letter.ack_id)
                continue
            if letter.id not in self._held:
                new.append(letter)
            self._held.setdefault(letter.id, []).append(letter.ack_id)
        if settled:
            self._client.acknowledge(subscription=self._subscription, ack_ids=settled)
        return new

    def _leases(self) -> Iterator[str]:
        return chain.from_iterable(self._held.values())

    def _renew_when_due(self) -> None:
        if self._clock() - self._renewed > _RENEW_EVERY_S:
            self._modify(self._leases(), _LEASE_S)
            self._renewed = self._clock()

    def _modify(self, ack_ids: Iterable[str], seconds: int) -> None:
        for some in _chunks(ack_ids):
            request = {"subscription": self._subscription, "ack_ids": some, "ack_deadline_seconds": seconds}
            self._client.modify_ack_deadline(request=request)


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while some := list(islice(left, _IDS_AT_ONCE)):
        yield some
