"""What the model does next: which images to encode, which prompts to ground; people before events. No threads here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.engine.base import Grounding, Phrase
from service.errors import DeadlineExceeded, ServiceError, TooLong, TooManyInstances

# While people keep the model busy, every so many steps the event that waits longest comes first.
_PATIENCE_STEPS = 4


@dataclass(frozen=True)
class Task:
    """What one request asks of the model: its prepared image (3, S, S) uint8, phrases, one threshold and limit.

    max_total: instances over all phrases; with more of them the rest is not worth the work. None is any number.
    """

    pixels: NDArray[np.uint8]
    phrases: tuple[Phrase, ...]
    threshold: float
    limit: int
    max_total: int | None = None


@dataclass(frozen=True)
class Answer:
    """One Grounding per phrase, and the milliseconds spent waiting, on the image and on the phrases.

    The last two are those of the forwards that the request had a part in, whoever shared them; needed_s is what it
    would have taken alone.
    """

    groundings: tuple[Grounding, ...]
    queue_ms: float
    encode_image_ms: float
    ground_ms: float
    needed_s: float


@dataclass(eq=False)
class Work:
    """A task on its way through the model. `give_up` may be set from any thread; the rest is the model thread's.

    encode_s, ground_s: the forwards that it had a part in. own_encode_s, own_ground_s: its share of them.
    """

    task: Task
    urgent: bool
    deadline: float = float("inf")
    alone_s: float = float("inf")
    give_up: bool = False
    future: Future[Answer] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)
    begun: bool = False
    image: Any = None
    found: dict[int, Grounding] = field(default_factory=dict)
    encode_s: float = 0.0
    ground_s: float = 0.0
    own_encode_s: float = 0.0
    own_ground_s: float = 0.0

    @property
    def encoded(self) -> bool:
        """Whether its image has been encoded."""
        return self.image is not None

    @property
    def pending(self) -> list[int]:
        """Indices of the phrases that are not grounded yet."""
        return [index for index in range(len(self.task.phrases)) if index not in self.found]

    @property
    def excess(self) -> TooManyInstances | None:
        """The error that what is found so far is already too much, if it is."""
        return excess(self.found.values(), self.task.max_total)

    @property
    def needed_s(self) -> float:
        """What the whole task would take alone, at the pace of what is done of it; no time in the queue."""
        done = len(self.found)
        return self.own_encode_s + (self.own_ground_s * len(self.task.phrases) / done if done else 0.0)

    def late(self, limit: str = "in time") -> ServiceError:
        """Why it is not done in time: TooLong when it would not have been even alone, else DeadlineExceeded."""
        return late(len(self.task.phrases), self.needed_s, self.alone_s, limit)

    def answer(self, now: float) -> Answer:
        """The whole answer, once nothing is pending."""
        queue_s = now - self.submitted - self.encode_s - self.ground_s
        groundings = tuple(self.found[index] for index in range(len(self.found)))
        queue_ms, encode_image_ms, ground_ms = (round(s * 1000, 1) for s in (queue_s, self.encode_s, self.ground_s))
        return Answer(groundings, queue_ms, encode_image_ms, ground_ms, self.needed_s)


def excess(groundings: Iterable[Grounding], most: int | None) -> TooManyInstances | None:
    """The error that these are more than `most` instances, if they are."""
    count = sum(len(found.scores) for found in groundings)
    return TooManyInstances(count, most) if most is not None and count > most else None


def late(prompts: int, needed_s: float, alone_s: float, limit: str) -> ServiceError:
    """Why work is not done in time: TooLong when it would not have been even alone, else DeadlineExceeded."""
    if needed_s > alone_s:
        return TooLong(prompts, needed_s, alone_s)
    return DeadlineExceeded(f"the request was not done {limit}")


@dataclass(frozen=True)
class Asked:
    """One phrase of one work."""

    work: Work
    index: int

    @property
    def phrase(self) -> Phrase:
        """The phrase itself."""
        return self.work.task.phrases[self.index]


@dataclass(frozen=True)
class Encode:
    """The next forward is of the vision encoder, over these works' images."""

    works: tuple[Work, ...]


@dataclass(frozen=True)
class Ground:
    """The next forward grounds these phrases, of one work or several."""

    asked: tuple[Asked, ...]

    @property
    def works(self) -> tuple[Work, ...]:
        """The works that have a part in it, each once."""
        return tuple(dict.fromkeys(asked.work for asked in self.asked))


class Schedule:
    """The works that the model has accepted, and in which order they are served.

    An image is encoded when its turn comes, at most `image_batch` in one forward; phrases are grounded `prompt_batch`
    at a time, across works. At most 2 × `image_batch` encoded images are kept, whatever is waiting.
    """

    def __init__(self, image_batch: int, prompt_batch: int) -> None:
        self.image_batch = image_batch
        self.prompt_batch = prompt_batch
        self._works: list[Work] = []
        self._steps_without_event = 0

    def __len__(self) -> int:
        return len(self._works)

    def add(self, work: Work) -> None:
        """Accept a work."""
        self._works.append(work)

    def remove(self, work: Work) -> None:
        """Forget a work that is done or has failed."""
        self._works.remove(work)

    def drop(self, unwanted: Callable[[Work], bool]) -> list[Work]:
        """Take out and return the works that nobody wants any more."""
        dropped = [work for work in self._works if unwanted(work)]
        for work in dropped:
            self.remove(work)
        return dropped

    def next(self) -> Encode | Ground | None:
        """The next forward, or None when there is nothing to do."""
        works = self._in_order()
        step = self._encode(works) or self._ground(works)
        if step:
            self._count(step.works)
        return step

    def _in_order(self) -> list[Work]:
        """People first, then events, each in the order they came; or the first event before all, when it is due."""
        people = [work for work in self._works if work.urgent]
        events = [work for work in self._works if not work.urgent]
        if events and self._is_due(events[0]):
            return [events[0], *people, *events[1:]]
        return people + events

    def _is_due(self, first: Work) -> bool:
        """Whether the first of a kind is an event that people have kept waiting for long enough."""
        return not first.urgent and self._steps_without_event >= _PATIENCE_STEPS

    def _encode(self, works: Sequence[Work]) -> Encode | None:
        """Encode when the first in line waits for it, or when what is encoded does not fill a forward.

        A forward is filled up only for the first one's equals: a person whose image is encoded does not wait for those
        of events, nor an event that is due for anybody's.
        """
        encoded = [work for work in works if work.encoded]
        fresh = [work for work in works if not work.encoded]
        if not fresh:
            return None
        first = fresh[0] is works[0]
        equal = fresh[0].urgent == works[0].urgent and not self._is_due(works[0])
        hungry = sum(len(work.pending) for work in encoded) < self.prompt_batch
        if not (first or (equal and hungry)):
            return None
        room = max(2 * self.image_batch - len(encoded), int(first))
        # A person's image does not wait for those of events: the vision encoder's time grows with every image.
        alike = [work for work in fresh if work.urgent == fresh[0].urgent]
        return Encode(tuple(alike[: min(self.image_batch, room)])) if room > 0 else None

    def _ground(self, works: Sequence[Work]) -> Ground | None:
        asked = [Asked(work, index) for work in works if work.encoded for index in work.pending]
        return Ground(tuple(asked[: self.prompt_batch])) if asked else None

    def _count(self, served: Sequence[Work]) -> None:
        waiting = any(not work.urgent for work in self._works)
        passed_over = waiting and all(work.urgent for work in served)
        self._steps_without_event = self._steps_without_event + 1 if passed_over else 0
