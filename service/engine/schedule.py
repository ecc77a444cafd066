"""What the model does next: which images to encode, which prompts to ground; people before events. No threads here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.engine.base import Phrase
from service.engine.work import Work

# While people keep the model busy, every so many steps the event that waits longest comes first.
_PATIENCE_STEPS = 4


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
    at a time, across works. At most 2 × `image_batch` encoded images are kept, whatever is waiting. While the host is
    `full` of masks, no work is begun that may find any number of them.
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

    def next(self, *, full: bool = False) -> Encode | Ground | None:
        """The next forward, or None when there is nothing to do, or nothing that may be begun."""
        works = self._in_order()
        step = self._encode(works) or self._ground([work for work in works if not (full and _may_fill(work))])
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


def _may_fill(work: Work) -> bool:
    """Whether there is no limit to what it may find and it has found nothing so far; what has begun must end."""
    return work.task.max_total is None and not work.found
