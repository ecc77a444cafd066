"""Delivery of a push subscription's messages over HTTP."""

import logging
import threading
from time import monotonic

import urllib3

from tools.localcloud.pubsub.envelope import push_request
from tools.localcloud.pubsub.model import Lease, PushTarget
from tools.localcloud.pubsub.oidc import TokenIssuer
from tools.localcloud.pubsub.queue import SubscriptionQueue

log = logging.getLogger(__name__)

# https://cloud.google.com/pubsub/docs/push#acknowledge_push_requests
ACKNOWLEDGING_STATUSES = frozenset({102, 200, 201, 202, 204})
CONNECT_TIMEOUT_S = 5.0
PUSH_BACKOFF_S = (0.1, 60.0)
IDLE_WAIT_S = 0.5


class PushWindow:
    """How many pushes may be on their way: slow start from 1, doubled by a success, halved by a failure.

    A run of failures also closes the window for a while (push backoff), unless the subscription has a retry
    policy, which then delays single messages instead.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 1
        self._flying = 0
        self._failures = 0
        self._closed_until = 0.0
        self._changed = threading.Condition()

    def room(self, wait_s: float) -> int:
        """Number of pushes that may start now, waiting up to `wait_s` for the first."""
        until = monotonic() + wait_s
        with self._changed:
            while (now := monotonic()) < until:
                if now >= self._closed_until and self._flying < self._size:
                    return self._size - self._flying
                opens = self._closed_until if self._closed_until > now else until
                self._changed.wait(max(0.001, min(opens, until) - now))
            return 0

    def started(self) -> None:
        """Count one push as on its way."""
        with self._changed:
            self._flying += 1

    def finished(self, *, success: bool, backoff: bool) -> None:
        """Count one push as answered; `backoff` lets a failure close the window."""
        with self._changed:
            self._flying -= 1
            if success:
                self._size, self._failures, self._closed_until = min(self._limit, self._size * 2), 0, 0.0
            else:
                self._failures += 1
                self._size = max(1, self._size // 2)
                self._closed_until = monotonic() + self._backoff_s() if backoff else 0.0
            self._changed.notify_all()

    def _backoff_s(self) -> float:
        low, high = PUSH_BACKOFF_S
        return min(high, low * 2.0 ** min(self._failures - 1, 20))


class Pusher:
    """Pushes from one queue to its current endpoint, from `start` until `stop`."""

    def __init__(self, queue: SubscriptionQueue, http: urllib3.PoolManager, tokens: TokenIssuer, limit: int) -> None:
        self._queue = queue
        self._http = http
        self._tokens = tokens
        self._window = PushWindow(limit)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"push {queue.settings.name}", daemon=True)

    def start(self) -> None:
        """Begin to push."""
        self._thread.start()

    def stop(self) -> None:
        """Start no more pushes; those on their way run on."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set() and not self._queue.closed:
            room = self._window.room(IDLE_WAIT_S)
            if room == 0:
                continue
            for lease in self._queue.lease(room, IDLE_WAIT_S, alive=lambda: not self._stopped.is_set()):
                self._window.started()
                # A push may last as long as the ack deadline; daemon threads do not hold up the exit.
                threading.Thread(target=self._deliver, args=(lease,), daemon=True).start()

    def _deliver(self, lease: Lease) -> None:
        success = False
        try:
            success = self._post(lease)
        finally:
            settle = self._queue.ack if success else self._queue.nack
            settle([lease.ack_id])
            self._window.finished(success=success, backoff=self._queue.settings.retry is None)

    def _post(self, lease: Lease) -> bool:
        settings = self._queue.settings
        if settings.push is None:  # turned into a pull subscription in between
            return False
        headers, body = push_request(settings, settings.push, lease)
        try:
            response = self._http.request(
                "POST",
                settings.push.endpoint,
                body=body,
                headers={**headers, **self._authorization(settings.push)},
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=settings.ack_deadline_s),
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            log.info("push of %s, attempt %d: %s", lease.message.id, lease.attempt, error)
            return False
        log.debug("push of %s, attempt %d: %d", lease.message.id, lease.attempt, response.status)
        return response.status in ACKNOWLEDGING_STATUSES

    def _authorization(self, target: PushTarget) -> dict[str, str]:
        if not target.service_account:
            return {}
        token = self._tokens.token(target.service_account, target.audience or target.endpoint)
        return {"Authorization": f"Bearer {token}"}
