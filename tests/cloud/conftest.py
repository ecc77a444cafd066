from __future__ import annotations

import contextlib
import gc
import json
import os
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from google.cloud import storage

from service.core import envelopes
from service.core.events import Notification
from service.core.masks import Mask
from service.core.observe import SILENT, Observer
from service.core.prompts import PromptSet
from service.core.results import ImageInfo, Instance, ModelInfo, PromptResult, Segmentation
from service.engine.queue_slot import PERSON, Terms
from service.engine.segmenter import Segmenter
from service.engine.state import Phase
from service.errors import NotReady
from service.gcp.publisher import Publisher
from service.gcp.storage import ObjectStore
from service.settings import Settings
from service.worker import Worker
from tests.scripted import ScriptedEngine
from tests.serving import serving
from tools.localcloud import clients
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.faults import Proxies, Script
from tools.localcloud.settings import LocalCloudSettings

OFFICIAL_HOST = os.environ.get("PUBSUB_EMULATOR_HOST_OFFICIAL", "")
OFFICIAL_CALM_S = 5.0  # longer than it takes to push what has just been published


@dataclass(frozen=True)
class Message:
    data: Any  # bytes where it is no JSON
    attributes: dict[str, str]


@dataclass(frozen=True)
class Clients:
    """Google's own clients of a local cloud."""

    storage: storage.Client
    publisher: Any
    subscriber: Any


@contextlib.contextmanager
def connected(cloud: LocalCloud) -> Iterator[Clients]:
    environment = cloud.environment()
    with (
        contextlib.closing(clients.storage_client(environment["STORAGE_EMULATOR_HOST"], cloud.settings.project)) as gcs,
        clients.subscriber_client(environment["PUBSUB_EMULATOR_HOST"]) as subscriber,
        contextlib.closing(Publisher(clients.publisher_client(environment["PUBSUB_EMULATOR_HOST"]))) as publisher,
    ):
        yield Clients(gcs, publisher, subscriber)


def _readable(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


class Mailbox:
    """Every message that a pull subscription has delivered so far, once: it too delivers some of them twice."""

    def __init__(self, subscriber: Any, subscription: str) -> None:
        self._subscriber = subscriber
        self._subscription = subscription
        self._messages: dict[str, Message] = {}

    def all(self) -> list[Message]:
        while found := self._pull():
            ids = [each.ack_id for each in found]
            self._subscriber.acknowledge(subscription=self._subscription, ack_ids=ids)
            for each in found:
                message = Message(_readable(each.message.data), dict(each.message.attributes))
                self._messages[each.message.message_id] = message
        return list(self._messages.values())

    def about(self, name: str) -> list[Message]:
        return [message for message in self.all() if message.attributes.get("object") == name]

    def _pull(self) -> list[Any]:
        request = {"subscription": self._subscription, "max_messages": 500, "return_immediately": True}
        with pytest.warns(DeprecationWarning, match="return_immediately"):
            return list(self._subscriber.pull(request=request).received_messages)


@dataclass(frozen=True)
class Bench:
    """A local cloud; as long as nothing is pushed, tests hand the notifications over themselves."""

    cloud: LocalCloud
    clients: Clients
    results: Mailbox
    dead_letters: Mailbox

    @property
    def official(self) -> bool:
        return bool(self.cloud.settings.pubsub_host)

    def skip_official(self, difference: str) -> None:
        if self.official:
            pytest.skip(f"known difference: Google's emulator {difference}")

    def wait_until_quiet(self, timeout_s: float, received: int = 0) -> None:
        """Until every event has come and gone; Google's emulator cannot tell, so it gets some time."""
        if self.official:
            time.sleep(OFFICIAL_CALM_S)
        else:
            self.cloud.wait_until_quiet(timeout_s, received)

    def upload(
        self,
        name: str,
        data: bytes | str,
        content_type: str = "application/octet-stream",
        metadata: dict[str, str] | None = None,
        bucket: str = "",
    ) -> Notification:
        blob = self.clients.storage.bucket(bucket or self.cloud.settings.input_buckets[0]).blob(name)
        blob.metadata = metadata
        blob.upload_from_string(data, content_type=content_type)
        return Notification("OBJECT_FINALIZE", blob.bucket.name, name, int(blob.generation), content_type, "1", None)

    def delete(self, name: str) -> None:
        self.clients.storage.bucket(self.cloud.settings.input_buckets[0]).blob(name).delete()

    def output(self, name: str) -> dict[str, Any] | None:
        blob = self.clients.storage.bucket(self.cloud.settings.output_bucket).get_blob(name)
        return None if blob is None else json.loads(blob.download_as_bytes())


class StagedSegmenter(Segmenter):
    """Finds one pixel for every prompt, after whatever the test has staged for this image."""

    def __init__(self) -> None:
        self.phase: Phase = "ready"
        self.revision = "1"
        self.calls = 0
        self.before: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        if self.phase != "ready":
            raise NotReady(self.phase)
        return ModelInfo("staged", self.revision, "cpu", "float32")

    def segment(self, data: bytes, prompt_set: PromptSet, terms: Terms = PERSON) -> Segmentation:
        with self._lock:
            self.calls += 1
        self.before()
        instance = Instance(0.9, (0.0, 0.0, 1.0, 1.0), Mask.of(np.ones((1, 1), np.uint8), 0, 0, (10, 10)))
        results = tuple(PromptResult(prompt.text, (instance,)) for prompt in prompt_set.prompts)
        return Segmentation(ImageInfo(10, 10), self.info, results, {"decode": 1.0})


class ConditionalStore(ObjectStore):
    """Deletes as Cloud Storage does: fake-gcs-server ignores the precondition, and would delete what is newer."""

    def delete(self, bucket: str, name: str, generation: int) -> bool:
        found = self.stat(bucket, name)
        if found is None or found.generation != generation:
            return found is None
        return super().delete(bucket, name, generation)


class Counted:
    """Passes calls on and counts them; `trouble` may raise instead, before or after the call."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.calls: list[str] = []
        self.trouble: Callable[[str], None] = lambda name: None

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            self.trouble(name)
            return getattr(self._target, name)(*arguments, **options)

        return call


@dataclass(frozen=True)
class Stage:
    """A worker on the real clients of the local cloud, with a staged model and countable calls."""

    worker: Worker
    segmenter: StagedSegmenter
    store: Counted
    publisher: Counted

    def handle(self, event: Any) -> list[str]:
        return [outcome.status for outcome in self.worker.handle(event)]

    def deliver(self, document: Any, attributes: Mapping[str, str] = MappingProxyType({})) -> list[str]:
        message = envelopes.Message(json.dumps(document).encode(), attributes)
        return [outcome.status for outcome in self.worker.deliver(message)]

    @property
    def waiting(self) -> int:
        """Events that wait for the same job in this worker."""
        return self.worker._jobs.waiting


@pytest.fixture(scope="session", params=["ours", "official"] if OFFICIAL_HOST else ["ours"])
def open_bench(request: pytest.FixtureRequest) -> Iterator[Callable[..., Bench]]:
    """Open local clouds with our Pub/Sub emulator, or Google's; all are closed at the end of the session."""
    official = request.param == "official"
    with contextlib.ExitStack() as stack:

        def open_bench(settings: LocalCloudSettings) -> Bench:
            if official:  # it is one for all: a project for each cloud
                settings = replace(settings, pubsub_host=OFFICIAL_HOST, project=f"cloud-{uuid.uuid4().hex[:12]}")
            cloud = stack.enter_context(LocalCloud(settings))
            opened = stack.enter_context(connected(cloud))
            names = settings.results_subscription, settings.dead_letter_subscription
            return Bench(cloud, opened, *(Mailbox(opened.subscriber, name) for name in names))

        yield open_bench


@pytest.fixture(scope="session")
def bench(open_bench: Callable[..., Bench]) -> Bench:
    return open_bench(LocalCloudSettings())


@pytest.fixture(scope="session")
def reading(bench: Bench, start_service: Callable[..., Any]) -> Any:
    """A service without events that may read two buckets; the `photos` of the docs has the images that they name."""
    photos = bench.clients.storage.create_bucket("photos")
    scene = files("service").joinpath("models/demo/scene.png").read_bytes()
    photos.blob("kitchen.jpg").upload_from_string(scene, content_type="image/png")
    changes = {"INPUT_BUCKETS": "", "READ_BUCKETS": "sam3-input,photos", "MAX_OBJECT_BYTES": "500000"}
    return start_service(bench.cloud.environment() | changes).wait_until_ready()


@pytest.fixture
def stage(bench: Bench) -> Callable[..., Stage]:
    def stage(bench: Bench = bench, folder_page_size: int = 500, observer: Observer = SILENT, **changes: str) -> Stage:
        settings = Settings.from_environment(bench.cloud.environment() | changes)
        segmenter = StagedSegmenter()
        store, publisher = Counted(ConditionalStore(bench.clients.storage)), Counted(bench.clients.publisher)
        worker = Worker(
            settings,
            store,  # type: ignore[arg-type]
            publisher,  # type: ignore[arg-type]
            segmenter,
            lambda: datetime.now(UTC),
            folder_page_size=folder_page_size,
            observer=observer,
        )
        return Stage(worker, segmenter, store, publisher)

    return stage


@pytest.fixture
def scripted_engine() -> type[ScriptedEngine]:
    return ScriptedEngine


@pytest.fixture
def push_body() -> Callable[[Notification], dict[str, Any]]:
    """A notification as a wrapped push brings it."""

    def push_body(event: Notification) -> dict[str, Any]:
        attributes = {
            "eventType": event.event_type,
            "bucketId": event.bucket,
            "objectId": event.name,
            "objectGeneration": str(event.generation),
        }
        return {"message": {"attributes": attributes, "messageId": "1"}}

    return push_body


@dataclass
class ProxiedDeployment:
    """A local cloud, and one service at a time that works in it through proxies."""

    bench: Any
    start_service: Callable[..., Any]
    eventually: Callable[..., None]
    script: Script = field(default_factory=Script)

    def __post_init__(self) -> None:
        self.proxies = Proxies(self.bench.cloud, self.script)
        self.service: Any = None
        self.sent = 0

    def start(self, command: tuple[str, ...] = ("-m", "service"), **environment: str) -> None:
        """Start a service and let it be pushed to."""
        self.service = self.start_service(self.proxies.environment() | environment, command).wait_until_ready()
        self.proxies.push_to(self.service.url)

    def stop(self) -> None:
        if self.service is not None:
            self.service.__exit__()

    def upload(self, name: str, data: bytes | str, kind: str) -> int:
        """The object's generation."""
        self.sent += 1
        return int(self.bench.upload(name, data, kind).generation)

    def upload_prompts(self, name: str) -> None:
        self.upload(f"{name}.prompts.json", '["red square"]', "application/json")

    def wait_until_quiet(self) -> None:
        """Until every event has come and gone."""
        self.bench.wait_until_quiet(120, received=self.sent)

    def settle(self, names: set[str]) -> None:
        """Until these outputs are there, no others, and nothing is left to be delivered."""
        self.eventually(lambda: self.outputs() >= names, 120, self.service.output)
        self.wait_until_quiet()
        assert self.outputs() == names

    def outputs(self) -> set[str]:
        return {blob.name for blob in self.bench.clients.storage.list_blobs("sam3-output")}

    def generations(self) -> dict[str, int]:
        return {blob.name: blob.generation for blob in self.bench.clients.storage.list_blobs("sam3-output")}

    def replayed(self, name: str) -> list[str]:
        return [message.attributes["replayed"] for message in self.bench.results.about(name)]

    def check(self, name: str, generation: int) -> None:
        """One whole result of this generation, announced; of its own at most once, by one job."""
        document = self.bench.output(f"{name}.json")
        assert document["input"] == {**document["input"], "uri": f"gs://sam3-input/{name}", "generation": generation}
        assert [result["label"] for result in document["results"]] == ["red square"]
        self.eventually(lambda: bool(self.bench.results.about(name)), 120, self.service.output)
        assert {m.attributes["job_id"] for m in self.bench.results.about(name)} == {document["job_id"]}
        assert self.replayed(name).count("false") <= 1


@pytest.fixture(scope="session")
def open_deployment(
    open_bench: Callable[..., Any], start_service: Callable[..., Any], eventually: Callable[..., None]
) -> Callable[[], contextlib.AbstractContextManager[ProxiedDeployment]]:
    """Open deployments behind proxies: each has a cloud of its own."""

    @contextlib.contextmanager
    def open_deployment() -> Iterator[ProxiedDeployment]:
        deployment = ProxiedDeployment(open_bench(LocalCloudSettings()), start_service, eventually)
        with deployment.proxies:
            yield deployment
            deployment.stop()
            deployment.bench.cloud.push_to("")

    return open_deployment


@pytest.fixture
def deploy(open_deployment: Any) -> Iterator[ProxiedDeployment]:
    with open_deployment() as deployment:
        yield deployment


@pytest.fixture(scope="session")
def collect_open_answers() -> Callable[[], None]:
    """On a 401 google-auth raises over the open response, whose socket is closed only when it is collected: do so."""

    def collect_open_answers() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    return collect_open_answers


@pytest.fixture
def serve(collect_open_answers: Callable[[], None]) -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Answer HTTP with a handler on a loopback port; returns the address."""
    with contextlib.ExitStack() as stack:

        def serve(handler: type[BaseHTTPRequestHandler]) -> str:
            return stack.enter_context(serving(handler))

        yield serve
    collect_open_answers()


@pytest.fixture
def refusing_url(serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> Callable[[int], str]:
    """The address of a server that answers every request with this status."""

    def refusing_url(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def _refuse(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = do_DELETE = _refuse  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return serve(Handler)

    return refusing_url
