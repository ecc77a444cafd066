"""The queue of one subscription: leases, acknowledgements, backoff and dead letters."""

import heapq
import itertools
import secrets
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from time import monotonic

from tools.localcloud.pubsub.duplicates import Echo, EchoDraw
from tools.localcloud.pubsub.model import Lease, Message, SubscriptionSettings
from tools.localcloud.pubsub.ordering import OrderingGate

MAX_NAP_S = 0.5  # how long a waiting subscriber may go without noticing that its client has left

Bury = Callable[["SubscriptionQueue", Lease], None]


@dataclass(slots=True, eq=False)
class _Delivery:
    message: Message
    echo: Echo = Echo.NONE
    late_by_s: float = 0.0
    attempt: int = 0
    ack_id: str = ""
    deadline: float = 0.0


@dataclass(slots=True)
class Counts:
    """What has happened on a subscription so far, in messages or deliveries."""

    received: int = 0
    delivered: int = 0
    acked: int = 0
    nacked: int = 0
    expired: int = 0
    dead: int = 0
    duplicated: int = 0


class SubscriptionQueue:
    """Messages between publication and acknowledgement; every method may be called from any thread.

    `bury` is handed a message that has used up its delivery attempts.  It must not block; whoever takes the
    message answers with `buried` or `exhumed`, and until then it counts as outstanding.
    """

    def __init__(self, settings: SubscriptionSettings, bury: Bury, echoes: EchoDraw | None = None) -> None:
        self.settings = settings
        self._bury = bury
        self._echoes = echoes or EchoDraw()
        self._changed = threading.Condition()
        self._sequence = itertools.count()
        self._ready: list[tuple[float, int, _Delivery]] = []
        self._outstanding: dict[str, _Delivery] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._dying: dict[str, _Delivery] = {}
        self._gate: OrderingGate[_Delivery] = OrderingGate()
        self._counts = Counts()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the subscription has been deleted."""
        return self._closed

    def put(self, message: Message) -> None:
        """Accept a published message, unless the subscription's filter drops it."""
        if not self.settings.matches(message.attributes):
            return
        with self._changed:
            self._counts.received += 1
            key = self._key(message)
            # A second copy would break the order that its subscriber asked for.
            delivery = _Delivery(message, *(() if key else self._echoes.draw()))
            if self._gate.admit(key, delivery):
                self._schedule(delivery)

    def lease(
        self,
        limit: int,
        wait_s: float,
        *,
        deadline_s: float | None = None,
        alive: Callable[[], bool] = lambda: True,
    ) -> list[Lease]:
        """Up to `limit` messages, waiting up to `wait_s` for the first; [] when closed or no longer `alive`."""
        until = monotonic() + wait_s
        with self._changed:
            while not self._closed and alive():  # first of all: what one that has gone took would count as an attempt
                self._expire()
                leases = self._take(limit, deadline_s or self.settings.ack_deadline_s)
                if leases or monotonic() >= until:
                    return leases
                self._changed.wait(self._nap_s(until))
            return []

    def ack(self, ack_ids: Iterable[str]) -> None:
        """Settle leased messages; unknown and expired ids are ignored."""
        with self._changed:
            self._expire()
            for ack_id in ack_ids:
                delivery = self._outstanding.pop(ack_id, None)
                if delivery is not None:
                    self._counts.acked += 1
                    self._echo(delivery, Echo.LATE)
                    self._settle(delivery)

    def modify_deadline(self, ack_ids: Iterable[str], seconds: float) -> None:
        """Let leases run `seconds` from now; 0 gives the messages back as failed."""
        with self._changed:
            self._expire()
            for ack_id in ack_ids:
                delivery = self._outstanding.get(ack_id)
                if delivery is not None and seconds > 0:
                    self._run_for(delivery, seconds)
                elif delivery is not None:
                    self._counts.nacked += 1
                    self._fail(delivery)

    def nack(self, ack_ids: Iterable[str]) -> None:
        """Give leased messages back as failed."""
        self.modify_deadline(ack_ids, 0)

    def buried(self, ack_id: str) -> None:
        """Settle a message that is safe in the dead-letter topic."""
        with self._changed:
            self._counts.dead += 1
            self._settle(self._dying.pop(ack_id))

    def exhumed(self, ack_id: str) -> None:
        """Deliver a message again that the dead-letter topic could not take."""
        with self._changed:
            self._retry(self._dying.pop(ack_id))

    def still_leased(self, ack_ids: Collection[str]) -> set[str]:
        """Those of `ack_ids` that are neither settled nor expired."""
        with self._changed:
            self._expire()
            return {ack_id for ack_id in ack_ids if ack_id in self._outstanding}

    def drop_published_before(self, moment: datetime) -> None:
        """Forget every message published before `moment`, as a seek to a time does."""

        def old(delivery: _Delivery) -> bool:
            return delivery.message.publish_time < moment

        with self._changed:
            self._gate.discard(old)
            dropped = [held for _, _, held in self._ready if old(held)]
            dropped += [held for held in self._outstanding.values() if old(held)]
            self._ready = [entry for entry in self._ready if not old(entry[2])]
            heapq.heapify(self._ready)
            for delivery in dropped:
                self._outstanding.pop(delivery.ack_id, None)
                self._settle(delivery)

    def stats(self) -> dict[str, int]:
        """All counts, with the messages that wait (`ready`) and those in a subscriber's hands (`outstanding`)."""
        with self._changed:
            self._expire()
            return {
                "ready": len(self._ready) + len(self._gate),
                "outstanding": len(self._outstanding) + len(self._dying),
                **asdict(self._counts),
            }

    def close(self) -> None:
        """Let every waiting subscriber return."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # What follows is called with the lock held.

    def _key(self, message: Message) -> str:
        return message.ordering_key if self.settings.ordered else ""

    def _schedule(self, delivery: _Delivery, delay_s: float = 0.0) -> None:
        heapq.heappush(self._ready, (monotonic() + delay_s, next(self._sequence), delivery))
        self._changed.notify_all()

    def _take(self, limit: int, deadline_s: float) -> list[Lease]:
        leases: list[Lease] = []
        now = monotonic()
        while self._ready and self._ready[0][0] <= now and len(leases) < limit:
            leases.append(self._hand_out(heapq.heappop(self._ready)[2], deadline_s))
        self._counts.delivered += len(leases)
        return leases

    def _hand_out(self, delivery: _Delivery, deadline_s: float) -> Lease:
        delivery.attempt += 1
        delivery.ack_id = f"{delivery.message.id}-{secrets.token_hex(8)}"
        self._outstanding[delivery.ack_id] = delivery
        self._run_for(delivery, deadline_s)
        self._echo(delivery, Echo.TOGETHER)
        return Lease(delivery.ack_id, delivery.attempt, delivery.message)

    def _run_for(self, delivery: _Delivery, seconds: float) -> None:
        delivery.deadline = monotonic() + seconds
        heapq.heappush(self._deadlines, (delivery.deadline, delivery.ack_id))

    def _echo(self, delivery: _Delivery, echo: Echo) -> None:
        if delivery.echo is echo:
            delivery.echo = Echo.NONE
            self._counts.duplicated += 1
            self._schedule(_Delivery(delivery.message, attempt=delivery.attempt), delivery.late_by_s)

    def _expire(self) -> None:
        now = monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, ack_id = heapq.heappop(self._deadlines)
            delivery = self._outstanding.get(ack_id)
            if delivery is not None and delivery.deadline <= now:
                self._counts.expired += 1
                self._fail(delivery)

    def _fail(self, delivery: _Delivery) -> None:
        del self._outstanding[delivery.ack_id]
        policy = self.settings.dead_letter
        if policy is not None and delivery.attempt >= policy.max_attempts:
            self._dying[delivery.ack_id] = delivery
            self._bury(self, Lease(delivery.ack_id, delivery.attempt, delivery.message))
        else:
            self._retry(delivery)

    def _retry(self, delivery: _Delivery) -> None:
        retry = self.settings.retry
        self._schedule(delivery, retry.delay_s(delivery.attempt) if retry else 0.0)

    def _settle(self, delivery: _Delivery) -> None:
        for following in self._gate.release(self._key(delivery.message)):
            self._schedule(following)

    def _nap_s(self, until: float) -> float:
        now = monotonic()
        events = [until, now + MAX_NAP_S, *(heap[0][0] for heap in (self._ready, self._deadlines) if heap)]
        return max(0.001, min(events) - now)
