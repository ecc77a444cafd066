"""Every row of the delivery table of docs/events.md, staged against the real servers and asserted in one way."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import requests
from werkzeug.serving import make_server

from service import app
from service.core.budget import Budget
from service.core.folders import FAN_OUT
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.images import ImageLimits
from service.engine.segmenter import Segmenter
from service.errors import EngineBroken, NotFinite, OutOfMemory
from service.gcp.publisher import Publisher
from service.gcp.storage import ObjectStore
from service.settings import Settings
from service.worker import Worker
from tools.localcloud import clients
from tools.localcloud.faults import ANSWERED, ARRIVES, Cut, Proxies, Script
from tools.staged import STAGED

DOCS = Path(__file__).parents[2] / "docs/events.md"
CAT = '["cat"]'
TIMEOUT_S = 60


class Request(NamedTuple):
    """What is posted to /events."""

    body: Any
    headers: Mapping[str, str] = MappingProxyType({})


class Said(NamedTuple):
    """A message of the results topic."""

    status: str
    code: str = ""
    replayed: bool = False


@dataclass(frozen=True)
class Left:
    """What a delivery leaves behind.

    outputs: new objects of the output bucket, in the row's folder, with KEY for the digits of a job's key. jobs: the
    images that messages of the jobs topic ask for. letters: the data of dead letters that have a `reason`.
    """

    outputs: tuple[str, ...] = ()
    messages: tuple[Said, ...] = ()
    jobs: tuple[str, ...] = ()
    letters: tuple[Any, ...] = ()
    inferences: int = 0


@dataclass
class Served:
    """The service but for its model, in this process, on a loopback port."""

    url: str
    worker: Worker
    closing: contextlib.ExitStack


@dataclass
class Scene:
    """One row's own folder, its service and what goes wrong with it."""

    bench: Any
    jobs: Any
    proxies: Proxies
    script: Script
    engine: Any
    push_body: Callable[[Any], Any]
    draw: Callable[..., bytes]
    start_service: Callable[..., Any]
    eventually: Callable[..., None]
    collect_open_answers: Callable[[], None]
    folder: str
    url: str = ""
    served: Served | None = None
    process: Any = None
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What is to be done when the row's cause is gone."""
    release: threading.Event = field(default_factory=threading.Event)
    others: list[Future[int | None]] = field(default_factory=list)

    # What is in the buckets

    def upload(self, name: str, data: bytes | str, kind: str = "application/octet-stream") -> Any:
        return self.bench.upload(f"{self.folder}/{name}", data, kind)

    def image(self, name: str = "a.png", data: bytes | None = None, prompts: str = CAT) -> Any:
        """An image and, unless they are empty, its prompts; the event of the image."""
        if prompts:
            self.upload(f"{name}.prompts.json", prompts)
        return self.upload(name, self.draw() if data is None else data, "image/png")

    def delete(self, name: str) -> None:
        self.bench.delete(f"{self.folder}/{name}")

    # What is delivered

    def pushed(self, event: Any) -> Request:
        return Request(self.push_body(event))

    def job(self, attributes: Mapping[str, str] = MappingProxyType({}), **fields: Any) -> Request:
        message = {"data": _base64(json.dumps(fields)), "attributes": dict(attributes), "messageId": "1"}
        return Request({"message": message})

    def uri(self, name: str = "a.png") -> str:
        return f"gs://sam3-input/{self.folder}/{name}"

    def deliver(self, request: Request) -> int | None:
        """The status, or None when there is no answer."""
        try:
            answer = requests.post(
                f"{self.url}/events", json.dumps(request.body), headers=request.headers, timeout=TIMEOUT_S
            )
        except requests.ConnectionError:
            return None
        return answer.status_code

    def segment(self, *prompts: str) -> int | None:
        """Ask at the other door, which leaves nothing behind; None when there is no answer."""
        parts: list[Any] = [("image", ("x.png", self.draw())), *(("prompts", (None, prompt)) for prompt in prompts)]
        try:
            return requests.post(f"{self.url}/segment", files=parts, timeout=TIMEOUT_S).status_code
        except requests.ConnectionError:
            return None

    def keep_busy(self, work: Callable[[], int | None]) -> None:
        """Work on another thread, and come back when the engine is busy with it, which it stays until `recover`."""
        self.engine.before = lambda prompts: self.release.wait(TIMEOUT_S)
        self.others.append(_beside(work))
        assert self.engine.busy.wait(TIMEOUT_S)

    # The service

    def serve(self, *, loads: bool = True, **changes: str) -> None:
        """Serve with these settings from now on; by another process, as far as the service knows."""
        self.stop()
        self.served = _served(self, loads, changes)
        self.url = self.served.url

    def start_process(self, **environment: str) -> None:
        """Serve with a process of its own, whose engine only sleeps."""
        self.stop()
        self.process = self.start_service(self.proxies.environment() | environment, STAGED).wait_until_ready()
        self.url = self.process.url

    @property
    def waiting(self) -> int:
        """Events that wait for the same job."""
        assert self.served is not None
        return self.served.worker._jobs.waiting

    def stop(self) -> None:
        if self.served is not None:
            self.served.closing.close()
            self.served = None

    def clock(self) -> Any:
        """What the engine of the process has done."""
        return requests.get(f"{self.process.url}/bench/clock", timeout=TIMEOUT_S).json()

    def recover(self) -> None:
        """End what went wrong, let what else runs finish, and serve as usual."""
        self.script.let_pass()
        self.release.set()
        self.engine.before = lambda prompts: None
        if self.process is not None:
            self.process.kill()
        for other in self.others:
            other.result(TIMEOUT_S)
        self.stop()
        self.closing.close()
        self.serve()

    def look(self) -> Callable[[], Left]:
        """What has been left behind between this call and that of the answer."""
        outputs, inferences = self._outputs(), self.engine.inferences
        boxes = (self.bench.results, self.jobs, self.bench.dead_letters)
        read = [len(box.all()) for box in boxes]

        def left() -> Left:
            messages, jobs, letters = (box.all()[count:] for box, count in zip(boxes, read, strict=True))
            return Left(
                outputs=tuple(sorted(self._short(name) for name, _ in self._outputs() - outputs)),
                messages=tuple(sorted(_said(message) for message in messages)),
                jobs=tuple(job.data["image"].partition("#")[0].removeprefix(self.uri("")) for job in jobs),
                letters=tuple(letter.data for letter in letters if letter.attributes["reason"]),
                inferences=self.engine.inferences - inferences,
            )

        return left

    def _outputs(self) -> set[tuple[str, int]]:
        return {(blob.name, blob.generation) for blob in self.bench.clients.storage.list_blobs("sam3-output")}

    def _short(self, name: str) -> str:
        return re.sub(r"\.[0-9a-f]{12}\.", ".KEY.", name.removeprefix(f"{self.folder}/"))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _said(message: Any) -> Said:
    replayed = message.attributes["replayed"] == "true"
    return Said(message.attributes["status"], message.data.get("error", {}).get("code", ""), replayed)


def _beside(work: Callable[[], int | None]) -> Future[int | None]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def _served(scene: Scene, loads: bool, changes: dict[str, str]) -> Served:
    settings = Settings.from_environment(scene.proxies.environment() | changes)
    closing = contextlib.ExitStack()
    model = ModelThread(lambda report: scene.engine, BatchPolicy(settings.queue_size, prompt_batch=1))
    closing.callback(model.close)
    if loads:
        model.start().result(TIMEOUT_S)
    budget = Budget()
    gcs = clients.storage_client(scene.proxies.storage.url, scene.bench.cloud.settings.project)
    store = closing.enter_context(contextlib.closing(ObjectStore(gcs, budget.left_s)))
    pubsub = clients.publisher_client(scene.proxies.pubsub.host)
    publisher = closing.enter_context(contextlib.closing(Publisher(pubsub, budget.left_s)))
    segmenter = Segmenter(model, ImageLimits(settings.max_pixels))
    worker = Worker(settings, store, publisher, segmenter, lambda: datetime.now(UTC), budget)
    server = make_server("127.0.0.1", 0, app.create_app(settings, segmenter, worker), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    closing.callback(server.server_close)
    closing.callback(thread.join)
    closing.callback(server.shutdown)
    return Served(f"http://127.0.0.1:{server.server_port}", worker, closing)


@pytest.fixture(scope="module")
def jobs(bench: Any) -> Any:
    return type(bench.results)(bench.clients.subscriber, bench.cloud.settings.jobs_subscription)


@pytest.fixture(scope="module")
def proxied(bench: Any) -> Iterator[tuple[Proxies, Script]]:
    script = Script()
    with Proxies(bench.cloud, script) as proxies:
        yield proxies, script


@pytest.fixture
def scene(
    bench: Any,
    jobs: Any,
    proxied: tuple[Proxies, Script],
    scripted_engine: Callable[[], Any],
    push_body: Any,
    draw: Any,
    start_service: Any,
    eventually: Any,
    collect_open_answers: Any,
) -> Iterator[Scene]:
    given = scripted_engine(), push_body, draw, start_service, eventually, collect_open_answers
    scene = Scene(bench, jobs, *proxied, *given, f"table/{uuid.uuid4().hex[:8]}")
    scene.serve()
    yield scene
    scene.recover()
    scene.stop()


# What is staged: each of these functions gives the request that is then delivered


def new_image(scene: Scene) -> Request:
    return scene.pushed(scene.image())


def same_work(scene: Scene) -> Request:
    request = new_image(scene)
    assert scene.deliver(request) == 204
    return request


def replaced(name: str, *, deleted: bool) -> Callable[[Scene], Request]:
    """One of an image, its sidecar and its folder's prompts, replaced or deleted before its event is delivered."""

    def stage(scene: Scene) -> Request:
        scene.image()
        contents = scene.draw() if name == "a.png" else CAT
        event = scene.upload(name, contents)
        if deleted:
            scene.delete(name)
        else:
            scene.upload(name, contents)
        return scene.pushed(event)

    return stage


def image_without_prompts(scene: Scene) -> Request:
    return scene.pushed(scene.image(prompts=""))


def sidecar_without_image(scene: Scene) -> Request:
    return scene.pushed(scene.upload("a.png.prompts.json", CAT))


def folder_prompts(scene: Scene) -> Request:
    scene.image(prompts="")
    return scene.pushed(scene.upload("_prompts.json", CAT))


def job_not_done(
    *, pinned: bool, deleted: bool, fan_out: bool = False, prompts: bool = True
) -> Callable[[Scene], Request]:
    """A job whose image has been replaced or deleted before its message is delivered."""

    def stage(scene: Scene) -> Request:
        old = scene.image()
        if deleted:
            scene.delete("a.png")
        else:
            scene.image()
        image = f"{scene.uri()}#{old.generation}" if pinned else scene.uri()
        return scene.job(FAN_OUT if fan_out else {}, image=image, prompts=["cat"] if prompts else None)

    return stage


def image_of(data: Callable[[Scene], bytes], **settings: Any) -> Callable[[Scene], Request]:
    def stage(scene: Scene) -> Request:
        scene.serve(**settings)
        return scene.pushed(scene.image(data=data(scene)))

    return stage


def prompts_of(text: str) -> Callable[[Scene], Request]:
    return lambda scene: scene.pushed(scene.image(prompts=text))


def taken_output(scene: Scene) -> Request:
    output = f"gs://sam3-output/{scene.folder}/mine.json"
    scene.bench.upload(f"{scene.folder}/mine.json", "{}", bucket="sam3-output")
    return scene.pushed(scene.image(prompts=json.dumps({"prompts": ["cat"], "output": output})))


def output_for_several(scene: Scene) -> Request:
    scene.upload(
        "a.prompts.json", json.dumps({"prompts": ["cat"], "output": f"gs://sam3-output/{scene.folder}/b.json"})
    )
    scene.image("a.jpg", prompts="")
    return scene.pushed(scene.image(prompts=""))


def long_name(scene: Scene) -> Request:
    name = f"{scene.folder}/" + "n" * (1014 - len(scene.folder)) + ".png"
    return scene.pushed(scene.bench.upload(name, scene.draw(), "image/png", metadata={"prompts": CAT}))


def too_much_work(scene: Scene) -> Request:
    """The model's pace has been measured at the other door."""
    scene.serve(EVENT_TIMEOUT_S="1")
    scene.engine.before = lambda prompts: time.sleep(0.5 * prompts)
    assert scene.segment("a", "b") == 200
    return scene.pushed(scene.image(prompts=json.dumps(["a", "b", "c", "d"])))


UNREADABLE = {"message": {"data": "%%%"}}


def unreadable(scene: Scene) -> Request:
    return Request(UNREADABLE)


def unreadable_job(scene: Scene) -> Request:
    return scene.job(image=7)


def without(*topics: str, of: Callable[[Scene], Request]) -> Callable[[Scene], Request]:
    """With these settings empty."""

    def stage(scene: Scene) -> Request:
        empty: dict[str, Any] = dict.fromkeys(topics, "")
        scene.serve(**empty)
        return of(scene)

    return stage


def no_input(scene: Scene) -> Request:
    return scene.pushed(scene.upload("a.pdf", b"%PDF", "application/pdf"))


def other_cloud_event(scene: Scene) -> Request:
    return Request({}, {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "//x", "ce-type": "com.example.other"})


def loading(scene: Scene) -> Request:
    scene.serve(loads=False)
    return new_image(scene)


def refused(kind: str, status: int, of: Callable[[Scene], Request] = new_image) -> Callable[[Scene], Request]:
    """Every call of a kind is answered with this status; 503 is tried again by Google's client, for a while."""

    def stage(scene: Scene) -> Request:
        scene.serve(EVENT_TIMEOUT_S="3")
        scene.script.refuse(kind, status)
        if status == 401:
            scene.closing.callback(scene.collect_open_answers)
        return of(scene)

    return stage


def one_refused(scene: Scene) -> Request:
    """The first of two images of one sidecar is encrypted with a key that its owner has kept."""
    for name in ("a.jpg", "a.png"):
        scene.image(name, prompts="")
    scene.script.refuse("read", 400, subject=scene.uri("a.jpg").removeprefix("gs://"))
    return scene.pushed(scene.upload("a.prompts.json", CAT))


def full_queue(scene: Scene) -> Request:
    scene.serve(QUEUE_SIZE="1", EVENT_WAIT_S="1")
    other = scene.pushed(scene.image("b.png"))
    scene.keep_busy(lambda: scene.deliver(other))
    return new_image(scene)


def no_time_left(scene: Scene) -> Request:
    scene.serve(EVENT_TIMEOUT_S="2")
    scene.keep_busy(lambda: scene.segment("cat"))
    return new_image(scene)


def engine_fault(error: Exception) -> Callable[[Scene], Request]:
    def fail(prompts: int) -> None:
        raise error

    def stage(scene: Scene) -> Request:
        scene.engine.before = fail
        return new_image(scene)

    return stage


def large_body(scene: Scene) -> Request:
    scene.serve(MAX_BODY_BYTES="1024")
    return Request(new_image(scene).body | {"more": "x" * 1024})


def compressed_body(scene: Scene) -> Request:
    return Request(new_image(scene).body, {"Content-Encoding": "gzip"})


def same_job_running(scene: Scene) -> Request:
    request = new_image(scene)
    scene.keep_busy(lambda: scene.deliver(request))

    def go_on() -> None:
        scene.eventually(lambda: scene.waiting == 1, TIMEOUT_S)
        scene.release.set()

    scene.others.append(_beside(go_on))
    return request


def terminated(scene: Scene) -> Request:
    """When the image has been read and is about to wait behind another."""
    scene.start_process(BENCH_BATCH_MS="100000")
    scene.others.append(_beside(lambda: scene.segment("cat")))
    scene.eventually(lambda: scene.clock()["busy_s"] > 0, TIMEOUT_S)
    request = new_image(scene)
    scene.script.at("read", scene.process.terminate, moment=ANSWERED, subject=f"{scene.folder}/a.png", nth=2)
    return request


def killed(scene: Scene) -> Request:
    """When the result is about to be written."""
    scene.start_process(BENCH_BATCH_MS="1")

    def kill() -> None:
        scene.engine.inferences += scene.clock()["prompts"]
        scene.process.kill()
        raise Cut

    scene.script.at("write", kill, moment=ARRIVES, subject=scene.folder)
    return new_image(scene)


# The table

SUCCEEDED, REPLAYED = Said("succeeded"), Said("succeeded", replayed=True)
NOTHING = Left()
RESULT = Left(("a.png.json",), (SUCCEEDED,), inferences=1)
AGAIN = Left(messages=(REPLAYED,))


def failed(code: str) -> Left:
    return Left(("a.png.error.json",), (Said("failed", code),))


def only_told(code: str) -> Left:
    return Left(messages=(Said("failed", code),))


class Row(NamedTuple):
    """again: what the next delivery leaves, answered 204, once the cause is gone."""

    what: str
    stage: Callable[[Scene], Request]
    status: int | None
    left: Left
    again: Left | None = None


TABLE = [
    Row("done", new_image, 204, RESULT),
    Row("the same work is done already", same_work, 204, AGAIN),
    Row("the image has been overwritten since", replaced("a.png", deleted=False), 204, NOTHING),
    Row("the image has been deleted since", replaced("a.png", deleted=True), 204, NOTHING),
    Row("the sidecar has been overwritten since", replaced("a.png.prompts.json", deleted=False), 204, NOTHING),
    Row("the sidecar has been deleted since", replaced("a.png.prompts.json", deleted=True), 204, NOTHING),
    Row("the folder's prompts have been overwritten since", replaced("_prompts.json", deleted=False), 204, NOTHING),
    Row("the folder's prompts have been deleted since", replaced("_prompts.json", deleted=True), 204, NOTHING),
    Row("an image without prompts", image_without_prompts, 204, NOTHING),
    Row("a sidecar without image", sidecar_without_image, 204, NOTHING),
    Row("prompts of a folder", folder_prompts, 204, Left(jobs=("a.png",))),
    Row(
        "a job whose image is gone",
        job_not_done(pinned=False, deleted=True),
        204,
        only_told("input_gone"),
        again=only_told("input_gone"),
    ),
    Row(
        "a job pinned to a generation that is not live",
        job_not_done(pinned=True, deleted=False, prompts=False),
        204,
        only_told("stale_input"),
        again=only_told("stale_input"),
    ),
    Row(
        "a job of a folder's fan-out whose image is gone",
        job_not_done(pinned=True, deleted=True, fan_out=True, prompts=False),
        204,
        NOTHING,
    ),
    Row(
        "a job of a folder's fan-out whose image has been overwritten",
        job_not_done(pinned=True, deleted=False, fan_out=True, prompts=False),
        204,
        NOTHING,
    ),
    Row("not an image", image_of(lambda scene: b"text"), 204, failed("not_an_image")),
    Row("an image that cannot be decoded", image_of(lambda scene: scene.draw()[:60]), 204, failed("unreadable_image")),
    Row(
        "an image over a limit", image_of(lambda scene: b"x" * 2000, MAX_OBJECT_BYTES="1024"), 204, failed("too_large")
    ),
    Row("prompts that cannot be read", prompts_of("{broken"), 204, failed("bad_sidecar")),
    Row("an output for several images", output_for_several, 204, failed("bad_sidecar")),
    Row("an exemplar box outside the image", prompts_of('[{"boxes": [[900, 0, 999, 9]]}]'), 204, failed("bad_field")),
    Row(
        "an output that somebody else has written",
        taken_output,
        204,
        only_told("output_taken"),
        again=only_told("output_taken"),
    ),
    Row(
        "a name that leaves no room for the output's",
        long_name,
        204,
        only_told("name_too_long"),
        again=only_told("name_too_long"),
    ),
    Row("more work than any event has time for", too_much_work, 204, failed("too_long")),
    Row("an event that cannot be understood", unreadable, 204, Left(letters=(UNREADABLE,))),
    Row("a job that cannot be understood", unreadable_job, 204, Left(letters=({"image": 7},))),
    Row(
        "such an event, and Pub/Sub does not take the dead letter",
        refused("publish", 403, unreadable_job),
        503,
        NOTHING,
        again=Left(letters=({"image": 7},)),
    ),
    Row(
        "such an event, and DEAD_LETTER_TOPIC is not set",
        without("DEAD_LETTER_TOPIC", of=unreadable_job),
        400,
        NOTHING,
        again=Left(letters=({"image": 7},)),
    ),
    Row("an object that is no input", no_input, 204, NOTHING),
    Row("a CloudEvent of another type", other_cloud_event, 204, NOTHING),
    Row(
        "prompts of a folder, and JOBS_TOPIC is not set",
        without("JOBS_TOPIC", of=folder_prompts),
        503,
        NOTHING,
        again=Left(jobs=("a.png",)),
    ),
    Row("the model is loading", loading, 503, NOTHING, again=RESULT),
    Row("Cloud Storage does not answer", refused("list", 503), 503, NOTHING, again=RESULT),
    Row("Cloud Storage answers 401", refused("list", 401), 503, NOTHING, again=RESULT),
    Row("Cloud Storage answers 403", refused("read", 403), 503, NOTHING, again=RESULT),
    Row("Cloud Storage takes no result", refused("write", 403), 503, Left(inferences=1), again=RESULT),
    Row(
        "Cloud Storage refuses to let one image of a sidecar be read",
        one_refused,
        503,
        RESULT,
        again=Left(("a.jpg.json",), (SUCCEEDED, REPLAYED), inferences=1),
    ),
    Row("Pub/Sub does not answer", refused("publish", 503), 503, replace(RESULT, messages=()), again=AGAIN),
    Row("Pub/Sub answers 401", refused("publish", 401), 503, replace(RESULT, messages=()), again=AGAIN),
    Row("Pub/Sub answers 403", refused("publish", 403), 503, replace(RESULT, messages=()), again=AGAIN),
    Row("the queue is full", full_queue, 429, NOTHING, again=RESULT),
    Row("not done within EVENT_TIMEOUT_S", no_time_left, 503, NOTHING, again=RESULT),
    Row("no memory left on the device", engine_fault(OutOfMemory("full")), 503, Left(inferences=1), again=RESULT),
    Row("the device has failed", engine_fault(EngineBroken("lost")), 503, Left(inferences=1), again=RESULT),
    Row("the model puts out NaN or infinity", engine_fault(NotFinite("NaN")), 500, Left(inferences=1), again=RESULT),
    Row("a defect of the service", engine_fault(RuntimeError("defect")), 500, Left(inferences=1), again=RESULT),
    Row("a push over MAX_BODY_BYTES", large_body, 413, NOTHING, again=RESULT),
    Row("a push with a Content-Encoding", compressed_body, 415, NOTHING),
    Row(
        "the same job is running in this process",
        same_job_running,
        204,
        Left(("a.png.json",), (SUCCEEDED, REPLAYED)),
        again=AGAIN,
    ),
    Row("the instance ends (SIGTERM)", terminated, 503, NOTHING, again=RESULT),
    Row("crash, kill -9, deploy in the middle", killed, None, Left(inferences=1), again=RESULT),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.what) for row in TABLE])
def test_the_delivery_table(scene: Scene, row: Row) -> None:
    request = row.stage(scene)
    left = scene.look()
    assert scene.deliver(request) == row.status
    assert left() == row.left
    if row.again is not None:
        scene.recover()
        left = scene.look()
        assert scene.deliver(request) == 204
        assert left() == row.again


def test_the_documentation_has_the_same_table() -> None:
    """Every cause, which a semicolon separates from the next, with the status that is answered."""
    section = DOCS.read_text().partition("## Delivery")[2]
    rows = re.findall(r"^\| (.+?) \| (\d+|none)\b.*$", section.partition("\n\n\n")[0], re.MULTILINE)
    documented = [(cause, answer) for causes, answer in rows for cause in _plain(causes).split("; ")]
    assert documented == [(row.what, str(row.status or "none")) for row in TABLE]


def _plain(markdown: str) -> str:
    return re.sub(r"\[(.+?)\]\(.+?\)", r"\1", markdown).replace("`", "")
