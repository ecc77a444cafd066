"""The two forwards that a step may ask for, on the loaded engine: encode images, or ground phrases."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from cachetools import LRUCache

from service.core.observe import SILENT, Observer
from service.engine.base import Engine, Features, Grounding, Query
from service.engine.pace import Pace
from service.engine.salvage import salvage
from service.engine.schedule import Asked, Encode, Ground, Schedule
from service.engine.work import Work
from service.errors import EngineBroken, NotFinite, OutOfMemory

log = logging.getLogger(__name__)

# A device that has passed its check is trusted for so long: on a card the check takes a tenth of a second, so that a
# stream of inputs that fail by themselves costs a hundredth of the throughput.
_TRUSTED_S = 10


class Forwards:
    """Runs steps and writes their outcome into the works; the texts of the last prompts stay encoded.

    `text_cache_bytes`: what their features may occupy on the device. What fails alone as everything does on a broken
    device has the engine checked, unless that was done in the last `trusted_s` seconds.
    """

    def __init__(
        self,
        engine: Engine[Any, Any],
        schedule: Schedule,
        text_cache_bytes: int,
        pace: Pace,
        observer: Observer = SILENT,
        trusted_s: float = _TRUSTED_S,
    ) -> None:
        self._observer = observer
        self._engine = engine
        self._schedule = schedule
        self._pace = pace
        self._trusted_s = trusted_s
        self._trusted_until = float("-inf")
        self._texts: LRUCache[str, Features] = LRUCache(text_cache_bytes, getsizeof=lambda text: text.nbytes)

    def run(self, step: Encode | Ground) -> None:
        """Run one forward; works that it completes or that fail in it leave the schedule. EngineBroken is raised."""
        if isinstance(step, Encode):
            self._encode(step)
        else:
            self._ground(step)

    def _encode(self, step: Encode) -> None:
        for work in step.works:
            work.begun = True
        began = time.monotonic()
        images = salvage(self._encode_images, step.works, self._fewer_images)
        spent = time.monotonic() - began
        self._require_sound(images)
        for work, image in zip(step.works, images, strict=True):
            work.encode_s += spent
            work.own_encode_s += spent / len(step.works)
            if isinstance(image, Exception):
                self._fail(work, image)
            else:
                work.image = image
        if not _failures(images):
            self._pace.encoded(len(images), spent)

    def _ground(self, step: Ground) -> None:
        began = time.monotonic()
        outcomes = salvage(self._ground_phrases, step.asked, self._fewer_prompts)
        now = time.monotonic()
        self._require_sound(outcomes)
        for work in step.works:
            work.ground_s += now - began
        for asked, outcome in zip(step.asked, outcomes, strict=True):
            asked.work.own_ground_s += (now - began) / len(step.asked)
            if isinstance(outcome, Exception):
                self._fail(asked.work, outcome)
            else:
                asked.work.add(asked.index, outcome)
        for work in step.works:
            self._settle(work, now)
        if not _failures(outcomes):
            self._pace.grounded(len(outcomes), now - began)

    def _require_sound(self, outcomes: Sequence[object]) -> None:
        """Raise EngineBroken when not only what was asked fails, but the request that has warmed the model up as well.

        The works of the forward have no outcome yet: theirs is then that of all that waits, and goes to another device.
        """
        doubtful = any(isinstance(outcome, (NotFinite, OutOfMemory)) for outcome in outcomes)
        if not doubtful or time.monotonic() < self._trusted_until:
            return
        [fault] = salvage(self._check, [None])
        if fault is not None:
            raise EngineBroken(f"a request that has succeeded when the model was loaded fails now: {fault}")
        self._trusted_until = time.monotonic() + self._trusted_s

    def _check(self, once: Sequence[None]) -> list[None]:
        self._engine.check()
        return list(once)

    def _settle(self, work: Work, now: float) -> None:
        """Answer a work that is complete; refuse one that has found more than it may."""
        if work.future.done():
            return
        if excess := work.excess:
            self._fail(work, excess)
        elif not work.pending:
            self._schedule.remove(work)
            work.future.set_result(work.answer(now))

    def _encode_images(self, works: Sequence[Work]) -> list[Any]:
        self._observer.forward("images", len(works))
        return self._engine.encode_image([work.task.pixels for work in works])

    def _ground_phrases(self, asked: Sequence[Asked]) -> list[Grounding]:
        self._observer.forward("prompts", len(asked))
        texts = self._encoded_texts(one.phrase.text for one in asked)
        return self._engine.ground(
            [
                Query(
                    image=one.work.image,
                    text=texts[one.phrase.text],
                    threshold=one.work.task.threshold,
                    limit=one.work.task.limit,
                    exemplars=one.phrase.exemplars,
                )
                for one in asked
            ]
        )

    def _encoded_texts(self, texts: Iterable[str]) -> dict[str, Features]:
        """Features of each text, from the cache or in one forward."""
        wanted = dict.fromkeys(texts)
        found = {text: self._texts[text] for text in wanted if text in self._texts}
        missing = [text for text in wanted if text not in found]
        self._observer.texts(hits=len(found), misses=len(missing))
        if missing:
            found |= zip(missing, self._engine.encode_text(missing), strict=True)
            for text in missing:
                self._remember(text, found[text])
        return found

    def _remember(self, text: str, features: Features) -> None:
        if features.nbytes <= self._texts.maxsize:
            self._texts[text] = features

    def _fail(self, work: Work, error: Exception) -> None:
        if not work.future.done():
            self._schedule.remove(work)
            work.fail(error)

    def _fewer_images(self, too_many: int) -> None:
        self._schedule.image_batch = max(1, too_many // 2)
        log.warning("out of memory", extra={"images": too_many, "from_now_on": self._schedule.image_batch})

    def _fewer_prompts(self, too_many: int) -> None:
        self._schedule.prompt_batch = max(1, too_many // 2)
        log.warning("out of memory", extra={"prompts": too_many, "from_now_on": self._schedule.prompt_batch})


def _failures(outcomes: Sequence[object]) -> bool:
    return any(isinstance(outcome, Exception) for outcome in outcomes)
