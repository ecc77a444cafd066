"""kill -9 after each step of the work, and SIGTERM in the middle of it: redelivery finishes what was begun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tools.bench.server import STAGED
from tools.localcloud.faults import ANSWERED, ARRIVES, Cut, Proxies, Script
from tools.localcloud.settings import LocalCloudSettings

IMAGES = 6


@dataclass
class Deployment:
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
        self.bench.cloud.wait_until_quiet(120, received=self.sent)

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
        assert {m.attributes["job_id"] for m in self.bench.results.about(name)} == {document["job_id"]}
        assert self.replayed(name).count("false") <= 1


@pytest.fixture
def deploy(
    open_bench: Callable[..., Any], start_service: Callable[..., Any], eventually: Callable[..., None]
) -> Iterator[Deployment]:
    deployment = Deployment(open_bench(LocalCloudSettings()), start_service, eventually)
    with deployment.proxies:
        yield deployment
        deployment.stop()
        deployment.bench.cloud.push_to("")


@dataclass(frozen=True)
class Step:
    """After which call, and what must be there by then: the result, its own announcement."""

    kind: str
    moment: Any
    written: bool
    announced: bool


STEPS: Mapping[str, Step] = {
    "the image fetched": Step("read", ANSWERED, written=False, announced=False),
    "segmented": Step("write", ARRIVES, written=False, announced=False),
    "written": Step("write", ANSWERED, written=True, announced=False),
    "about to announce": Step("publish", ARRIVES, written=True, announced=False),
    "announced": Step("publish", ANSWERED, written=True, announced=True),
    "about to acknowledge": Step("push", ANSWERED, written=True, announced=True),
}


def test_a_kill_after_each_step_is_finished_by_the_redelivery(deploy: Deployment, draw: Callable[..., bytes]) -> None:
    deploy.start()
    names: set[str] = set()
    for number, (title, step) in enumerate(STEPS.items()):
        name, killed = f"kill/{number}.png", threading.Event()
        names.add(f"{name}.json")

        def kill(killed: threading.Event = killed) -> None:
            deploy.service.kill()
            killed.set()
            raise Cut

        deploy.upload_prompts(name)
        deploy.wait_until_quiet()
        subject = {"read": f"/{name}", "write": f"/{name}.json"}.get(step.kind, "")
        deploy.script.at(step.kind, kill, moment=step.moment, subject=subject)
        generation = deploy.upload(name, draw(), "image/png")
        assert killed.wait(60), title
        left = deploy.generations().get(f"{name}.json")
        assert (left is not None) is step.written, title
        assert ("false" in deploy.replayed(name)) is step.announced, title

        deploy.start()
        deploy.settle(names)
        deploy.check(name, generation)
        assert deploy.replayed(name).count("false") == (not step.written or step.announced), title
        assert ("true" in deploy.replayed(name)) is step.written, title
        if step.written:
            assert deploy.generations()[f"{name}.json"] == left, title


def upload_many(deploy: Deployment, draw: Callable[..., bytes], count: int) -> dict[str, int]:
    """Images of one sidecar each, all at once; name → generation."""
    names = [f"term/{number}.png" for number in range(count)]
    for name in names:
        deploy.upload_prompts(name)
    deploy.wait_until_quiet()
    return {name: deploy.upload(name, draw(), "image/png") for name in names}


@pytest.mark.parametrize(("batch_ms", "ends"), [("500", True), ("100000", False)], ids=["short", "endless"])
def test_sigterm_ends_or_hands_back_what_is_under_way(
    deploy: Deployment, draw: Callable[..., bytes], batch_ms: str, ends: bool
) -> None:
    deploy.start(STAGED, BENCH_BATCH_MS=batch_ms)
    all_read = threading.Event()
    deploy.script.at("read", all_read.set, moment=ANSWERED, nth=2 * IMAGES)  # a sidecar and an image each
    uploads = upload_many(deploy, draw, IMAGES)
    results = {f"{name}.json" for name in uploads}
    assert all_read.wait(60)
    deploy.service.terminate()
    assert deploy.service.wait() == 0
    assert deploy.outputs() == (results if ends else set())

    deploy.start(STAGED, BENCH_BATCH_MS="1")
    deploy.settle(results)
    for name, generation in uploads.items():
        deploy.check(name, generation)
    pushed = deploy.bench.cloud.statistics()[deploy.bench.cloud.settings.uploads_subscription]
    assert pushed.dead == 0
    assert (pushed.nacked == 0) is ends
