"""A folder's prompts have arrived: one job for each image under it that depends on them, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.core.events import FolderPromptsArrived, Ignored, Rules, classify_object
from service.core.folders import FAN_OUT, FolderPage, image_job
from service.core.naming import folder_prompts_beside, gs_uri
from service.errors import EventsOff
from service.worker.dependents import Dependents, Part
from service.worker.outcome import Outcome

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher
    from service.gcp.storage import ObjectStore

PAGE_SIZE = 500


class FolderFanOut:
    """Publishes jobs to JOBS_TOPIC. Time and memory of a call are bounded by `page_size` objects, not by the folder."""

    def __init__(
        self,
        rules: Rules,
        jobs_topic: str | None,
        store: ObjectStore,
        publisher: Publisher,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._rules = rules
        self._jobs_topic = jobs_topic
        self._store = store
        self._publisher = publisher
        self._page_size = page_size
        self._dependents = Dependents(rules, store, page_size)

    def handle(self, page: FolderPage) -> Outcome:
        """Publish the jobs of one page, and after them the message that asks for the next one.

        A crash in between leads to a redelivery, which publishes some jobs again; those that are done are replays.
        Raises EventsOff without a JOBS_TOPIC.
        """
        needless = self._needless(page)
        if needless is not None:
            return needless
        if self._jobs_topic is None:
            raise EventsOff(f"JOBS_TOPIC is not set, and {page.uri} needs it to reach the images under its folder")
        part, images = self._dependents.of(page, self._part(page))
        jobs = [image_job(page.bucket, image.name, image.generation) for image in images]
        self._publisher.publish_all(self._jobs_topic, jobs, FAN_OUT)
        if part.more:
            self._publisher.publish(self._jobs_topic, page.then(part.last).encode(), {})
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
