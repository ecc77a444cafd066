"""Everything that clients do, in an order of its own: uploads, jobs and poison."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import Random

from service.core.naming import gs_uri
from tools.bench.inputs import encoded, photo
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.pubsub.names import topic_path
from tools.soak.plan import Plan, Planned

_CLIENTS = 8
_LATER = 15.0  # a second version comes about so many images later
_PATIENCE_S = 5.0
POISON = tuple(f"poison {number}: no notification and no job \N{SNOWMAN}".encode() for number in range(3))


@dataclass(order=True)
class _Action:
    """What a client does at a position in the sequence of images, and after what."""

    position: float
    run: Callable[[], object] = field(compare=False)
    after: _Action | None = field(default=None, compare=False)
    done: threading.Event = field(default_factory=threading.Event, compare=False)

    def __call__(self) -> None:
        if self.after is not None:
            self.after.done.wait()
        try:
            self.run()
        finally:
            self.done.set()  # also when it failed: what comes after it must not wait for ever


class Traffic:
    """Sends everything of a plan from several clients at a time."""

    def __init__(self, plan: Plan, cloud: LocalCloud) -> None:
        self._plan = plan
        self._cloud = cloud
        self._bucket = cloud.storage.bucket(cloud.settings.input_buckets[0])
        self._random = Random(plan.seed)
        self._images = [encoded(photo((60 + side, 80), seed=side), ".png") for side in range(8)]
        self.planned = [plan.image(number) for number in range(plan.images)]
        self._closed = threading.Event()
        self.messages = 0
        """Events that all this makes, at least."""

    def run(self, finished: Callable[[], int], ahead: int) -> None:
        """Send everything in its order, at most about `ahead` images before those that are `finished`.

        Raises what the first call raised that failed, once everything has been sent.
        """
        actions = sorted(self._actions())
        self.messages = len(actions)
        with ThreadPoolExecutor(_CLIENTS, thread_name_prefix="client") as pool:
            sent = []
            for action in actions:
                # Patience has an end: what is finished is counted by documents written, which only guesses at images.
                waited_s = 0.0
                while not self._closed.is_set() and action.position - finished() > ahead and waited_s < _PATIENCE_S:
                    self._closed.wait(0.05)
                    waited_s += 0.05
                if self._closed.is_set():
                    break
                sent.append(pool.submit(action))
            for each in sent:
                each.result()

    def close(self) -> None:
        """Let `run` send nothing more."""
        self._closed.set()

    def _actions(self) -> list[_Action]:
        actions = [action for planned in self.planned for action in self._of_image(planned)]
        actions += self._of_folders()
        for number, data in enumerate(POISON):
            actions.append(_Action((number + 0.5) * self._plan.images / len(POISON), partial(self._poison, data)))
        return actions

    def _of_image(self, planned: Planned) -> list[_Action]:
        at = float(planned.number)
        image = _Action(at, partial(self._image, planned, 0))
        actions = [image]
        if planned.replaced:
            actions.append(_Action(at + _LATER, partial(self._image, planned, 1), image))
        if planned.kind == "job":
            actions.append(_Action(at + 0.1, partial(self._job, planned), image))
        elif planned.kind != "folder":
            actions += self._sidecars(planned, at, image)
        return actions

    def _sidecars(self, planned: Planned, at: float, image: _Action) -> list[_Action]:
        first = _Action(at, partial(self._prompts, planned, 1))
        if planned.kind == "before":
            image.after = first
            first.position -= 0.1
        elif planned.kind == "after":
            first.position, first.after = at + 2, image
        if planned.prompts_versions == 1:
            return [first]
        return [first, _Action(at + _LATER + 1, partial(self._prompts, planned, 2), first)]

    def _of_folders(self) -> list[_Action]:
        """A folder's prompts come somewhere among its images: the fan-out does what came before."""
        actions = []
        for planned in {each.folder: each for each in self.planned if each.kind == "folder"}.values():
            at = planned.number - self._random.uniform(0, 40)
            first = _Action(at, partial(self._prompts, planned, 1))
            actions.append(first)
            if planned.prompts_versions > 1:
                actions.append(_Action(at + 30, partial(self._prompts, planned, 2), first))
        return actions

    def _image(self, planned: Planned, version: int) -> None:
        data = self._images[(planned.number + version) % len(self._images)]
        if planned.kind == "broken":
            data = f"no image, version {version}".encode()
        self._cloud.upload(planned.name, data, "image/png")

    def _prompts(self, planned: Planned, version: int) -> None:
        document = json.dumps({"prompts": planned.labels(version)})
        self._cloud.upload(planned.prompts_name, document, "application/json")

    def _job(self, planned: Planned) -> None:
        uri = gs_uri(self._bucket.name, planned.name)
        self._publish(
            self._cloud.settings.jobs_topic,
            json.dumps({"image": uri, "prompts": planned.labels(1), "id": planned.name}).encode(),
        )

    def _poison(self, data: bytes) -> None:
        """The bucket's name only lets it pass the filter of the subscription."""
        self._publish(self._cloud.settings.uploads_topic, data, bucketId=self._bucket.name, poison="yes")

    def _publish(self, topic: str, data: bytes, **attributes: str) -> None:
        name = topic_path(self._cloud.settings.project, topic)
        self._cloud.publisher.publish(name, data, **attributes).result(60)
