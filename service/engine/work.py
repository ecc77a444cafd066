"""What a request asks of the model, its way through it, and what comes of that."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.engine.base import Grounding, Phrase
from service.errors import DeadlineExceeded, ServiceError, TooLong, TooManyInstances


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
    """A task on its way through the model. The model's thread writes it and any may read; `give_up` any may set.

    encode_s, ground_s: the forwards that it had a part in. own_encode_s, own_ground_s: its share of them. grounded: how
    many of its phrases are, which stays known when what was found has been let go of.
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
    grounded: int = 0
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
        return excess((len(found.scores) for found in self.found.values()), self.task.max_total)

    @property
    def mask_bytes(self) -> int:
        """What the mask logits that it has found so far occupy on the host."""
        return sum(found.mask_logits.nbytes for found in self.found.values())

    @property
    def needed_s(self) -> float:
        """What the whole task would take alone, at the pace of what is done of it; no time in the queue."""
        done = self.grounded
        return self.own_encode_s + (self.own_ground_s * len(self.task.phrases) / done if done else 0.0)

    def add(self, index: int, found: Grounding) -> None:
        """Note what was found of one phrase, unless the work has failed by another."""
        if not self.future.done():
            self.found[index] = found
            self.grounded += 1

    def late(self, limit: str = "in time") -> ServiceError:
        """Why it is not done in time: TooLong when it would not have been even alone, else DeadlineExceeded."""
        return late(len(self.task.phrases), self.needed_s, self.alone_s, limit)

    def fail(self, error: Exception) -> None:
        """End without an answer, and let go of what it has so far: features on the device, masks on the host."""
        self.future.set_exception(error)
        self.found.clear()
        self.image = None

    def answer(self, now: float) -> Answer:
        """The whole answer, once nothing is pending."""
        queue_s = now - self.submitted - self.encode_s - self.ground_s
        groundings = tuple(self.found[index] for index in range(len(self.found)))
        queue_ms, encode_image_ms, ground_ms = (round(s * 1000, 1) for s in (queue_s, self.encode_s, self.ground_s))
        return Answer(groundings, queue_ms, encode_image_ms, ground_ms, self.needed_s)


def excess(counts: Iterable[int], most: int | None) -> TooManyInstances | None:
    """The error that so many instances of each prompt are more than `most` together, if they are."""
    count = sum(counts)
    return TooManyInstances(count, most) if most is not None and count > most else None


def late(prompts: int, needed_s: float, alone_s: float, limit: str) -> ServiceError:
    """Why work is not done in time: TooLong when it would not have been even alone, else DeadlineExceeded."""
    if needed_s > alone_s:
        return TooLong(prompts, needed_s, alone_s)
    return DeadlineExceeded(f"the request was not done {limit}")
