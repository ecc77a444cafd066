"""What passes a proxy, and what is to happen to it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Literal

Moment = Literal["arrives", "answered"]
ARRIVES: Moment = "arrives"
ANSWERED: Moment = "answered"
GOOGLE_CALLS = ("list", "stat", "read", "write", "delete", "publish")


@dataclass(frozen=True)
class Call:
    """One call: `kind` is list, stat, read, write, delete, publish, push or other.

    `subject` is bucket/name of an object, bucket/prefix of a list, the topic of a publication, the message id of a
    push.
    """

    kind: str
    subject: str


class Cut(Exception):
    """Raised by a step's action: the call is not passed on, nor is it answered."""


@dataclass
class _Step:
    kind: str
    subject: str
    moment: Moment
    nth: int
    action: Callable[[], None]

    def due(self, call: Call, moment: Moment) -> bool:
        """Count the call; True at the nth that fits."""
        if (self.kind, self.moment) != (call.kind, moment) or self.subject not in call.subject:
            return False
        self.nth -= 1
        return self.nth == 0


class Script:
    """What happens to calls; every method may be called from any thread.

    rate: share of the calls of `kinds` that are answered 503, half of them although the work has been done. jitter_s:
    pushes are held for up to so long, so that they overtake each other. The same seed draws the same in the same order
    of calls.
    """

    def __init__(
        self, rate: float = 0.0, jitter_s: float = 0.0, seed: int = 0, kinds: Collection[str] = GOOGLE_CALLS
    ) -> None:
        self._rate = rate
        self._jitter_s = jitter_s
        self.kinds = kinds
        self._random = Random(seed)
        self._lock = threading.Lock()
        self._steps: list[_Step] = []
        self._calls: list[Call] = []
        self._counts: Counter[str] = Counter()
        self._refused: dict[str, tuple[int, str]] = {}
        self.lost: Counter[str] = Counter()
        """Calls answered 503 by the proxy, by kind."""

    def at(self, kind: str, action: Callable[[], None], *, moment: Moment, subject: str = "", nth: int = 1) -> None:
        """Run `action` once, when the nth call of that kind, with `subject` in its own, arrives or has been answered.

        The call is held until it returns; where it raises Cut, the caller gets no answer, and a call that only arrived
        has no effect.
        """
        with self._lock:
            self._steps.append(_Step(kind, subject, moment, nth, action))

    def refuse(self, kind: str, status: int, *, subject: str = "") -> None:
        """From now on answer every call of that kind, with `subject` in its own, with a status of HTTP, and do nothing.

        401, 403 or 503; of Cloud Storage also 400.
        """
        with self._lock:
            self._refused[kind] = status, subject

    def let_pass(self) -> None:
        """Refuse nothing any more."""
        with self._lock:
            self._refused.clear()

    def refuses(self, call: Call) -> int | None:
        """The status with which a call is refused, if it is."""
        with self._lock:
            status, subject = self._refused.get(call.kind, (None, ""))
        return status if subject in call.subject else None

    def calls(self) -> list[Call]:
        """Every call so far, also those that were lost."""
        with self._lock:
            return list(self._calls)

    def count(self, kind: str) -> int:
        """How many calls of that kind so far."""
        with self._lock:
            return self._counts[kind]

    def arrives(self, call: Call) -> None:
        """Called by a proxy before it passes a call on; may take its time, may raise Cut."""
        with self._lock:
            self._calls.append(call)
            self._counts[call.kind] += 1
            hold_s = self._random.uniform(0, self._jitter_s) if call.kind == "push" else 0.0
        time.sleep(hold_s)
        self._act(call, ARRIVES)

    def answered(self, call: Call) -> None:
        """Called by a proxy before it passes an answer back; may take its time, may raise Cut."""
        self._act(call, ANSWERED)

    def loses(self, call: Call) -> Moment | None:
        """Whether the caller gets a 503, and whether before or after the work."""
        with self._lock:
            if call.kind not in self.kinds or self._random.random() >= self._rate:
                return None
            self.lost[call.kind] += 1
            return self._random.choice([ARRIVES, ANSWERED])

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """A counter that holds, after the block, the calls that arrived in it, by kind."""
        counter: Counter[str] = Counter()
        before = len(self.calls())
        yield counter
        counter.update(call.kind for call in self.calls()[before:])

    def _act(self, call: Call, moment: Moment) -> None:
        with self._lock:
            due = [step for step in self._steps if step.due(call, moment)]
        for step in due:
            step.action()
