"""A folder's prompts have arrived: one job for each image under it that depends on them, page by page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from cachetools import TTLCache

from service.core.budget import unlimited
from service.core.events import FolderPromptsArrived, Ignored, Rules, classify_object
from service.core.folders import FAN_OUT, FolderPage, image_job
from service.core.naming import folder_prompts_beside, gs_uri
from service.errors import EventsOff
from service.worker.dependents import Dependents, Part
from service.worker.outcome import Outcome
from service.worker.running import Running

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher
    from service.gcp.storage import ObjectStore

PAGE_SIZE = 500
# Pub/Sub repeats a message within minutes; two thousand pages are a folder of a million images.
_REMEMBERED_PAGES, _REMEMBERED_S = 4096, 3600.0


class FolderFanOut:
    """Publishes jobs to JOBS_TOPIC. Time and memory of a call are bounded by `page_size` objects, not by the folder.

    It remembers for an hour which pages it has continued: else each page that comes twice would double all that follow.
    `left_s`: as in ObjectStore.
    """

    def __init__(
        self,
        rules: Rules,
        jobs_topic: str | None,
        store: ObjectStore,
        publisher: Publisher,
        page_size: int = PAGE_SIZE,
        left_s: Callable[[], float] = unlimited,
    ) -> None:
        self._rules = rules
        self._jobs_topic = jobs_topic
        self._store = store
        self._publisher = publisher
        self._page_size = page_size
        self._left_s = left_s
        self._dependents = Dependents(rules, store, page_size)
        self._running: Running[Outcome] = Running()
        self._continued: TTLCache[FolderPage, None] = TTLCache(_REMEMBERED_PAGES, _REMEMBERED_S)
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Events that wait for the same page in this process."""
        return self._running.waiting

    def handle(self, page: FolderPage) -> Outcome:
        """Publish the jobs of one page, and after them the message that asks for the next one.

        A crash in between leads to a redelivery, which publishes some jobs again; those that are done are replays.
        A page that comes again after that message, or at the same time, publishes nothing. Raises EventsOff without a
        JOBS_TOPIC.
        """
        needless = self._needless(page)
        if needless is not None:
            return needless
        if self._jobs_topic is None:
            raise EventsOff(f"JOBS_TOPIC is not set, and {page.uri} needs it to reach the images under its folder")
        topic = self._jobs_topic
        outcome, _ = self._running.once(page, lambda: self._fan_out(page, topic), self._left_s())
        return outcome

    def _fan_out(self, page: FolderPage, topic: str) -> Outcome:
        with self._lock:
            if page in self._continued:
                return Outcome("fanned_out", page.uri, "its jobs and the next page have been published before")
        part, images = self._dependents.of(page, self._part(page))
        jobs = [image_job(page.bucket, image.name, image.generation) for image in images]
        self._publisher.publish_all(topic, jobs, FAN_OUT)
        if part.more:
            self._publisher.publish(topic, page.then(part.last).encode(), {})
            with self._lock:
                self._continued[page] = None
        rest = "to be continued" if part.more else "the last"
        return Outcome("fanned_out", page.uri, f"{len(images)} jobs for {len(part.objects)} objects, {rest}")

    def _needless(self, page: FolderPage) -> Outcome | None:
        """Say so when these prompts concern nobody: out of scope, replaced, deleted, or outranked by those beside."""
        meaning = classify_object(page.bucket, page.name, page.generation, None, self._rules)
        if not isinstance(meaning, FolderPromptsArrived):
            reason = meaning.reason if isinstance(meaning, Ignored) else "not the prompts of a folder"
            return Outcome("ignored", page.uri, reason)
        beside = folder_prompts_beside(page.name)
        above = beside[: beside.index(page.name)]
        live = self._store.stat_all(page.bucket, [*above, page.name])
        if page.name not in live or live[page.name].generation != page.generation:
            return Outcome("stale", page.uri)
        outranking = next((name for name in above if name in live), None)
        if outranking is not None:
            return Outcome("ignored", page.uri, f"{gs_uri(page.bucket, outranking)} ranks above it")
        return None

    def _part(self, page: FolderPage) -> Part:
        """The list has two objects too many: `after` itself, unless it is gone, and one that tells of a next page."""
        found = self._store.list_range(page.bucket, page.folder, start=page.after, limit=self._page_size + 2)
        objects = [info for info in found if info.name > page.after]
        return Part(page.after, objects[: self._page_size], more=len(objects) > self._page_size)
