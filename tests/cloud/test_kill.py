"""kill -9 after each step of the work, and SIGTERM in the middle of it: redelivery finishes what was begun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tools.localcloud.faults import ANSWERED, ARRIVES, Cut
from tools.staged import STAGED

IMAGES = 6


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


def test_a_kill_after_each_step_is_finished_by_the_redelivery(deploy: Any, draw: Callable[..., bytes]) -> None:
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


def upload_many(deploy: Any, draw: Callable[..., bytes], count: int) -> dict[str, int]:
    """Images of one sidecar each, all at once; name → generation."""
    names = [f"term/{number}.png" for number in range(count)]
    for name in names:
        deploy.upload_prompts(name)
    deploy.wait_until_quiet()
    return {name: deploy.upload(name, draw(), "image/png") for name in names}


@pytest.mark.parametrize(("batch_ms", "ends"), [("500", True), ("100000", False)], ids=["short", "endless"])
def test_sigterm_ends_or_hands_back_what_is_under_way(
    deploy: Any, draw: Callable[..., bytes], batch_ms: str, ends: bool
) -> None:
    """What the model has begun ends, if it can; the rest goes back at once."""
    deploy.bench.skip_official("does not push again what it was answered 503 if it then finds nobody listening")
    deploy.start(STAGED, BENCH_BATCH_MS=batch_ms)
    all_read = threading.Event()
    deploy.script.at("read", all_read.set, moment=ANSWERED, nth=2 * IMAGES)  # a sidecar and an image each
    uploads = upload_many(deploy, draw, IMAGES)
    results = {f"{name}.json" for name in uploads}
    assert all_read.wait(60)
    deploy.eventually(lambda: requests.get(f"{deploy.service.url}/bench/clock", timeout=30).json()["busy_s"] > 0, 60)
    deploy.service.terminate()
    assert deploy.service.wait() == 0
    done = deploy.outputs()
    assert bool(done) is ends
    assert done <= results

    deploy.start(STAGED, BENCH_BATCH_MS="1")
    deploy.settle(results)
    for name, generation in uploads.items():
        deploy.check(name, generation)
    pushed = deploy.bench.cloud.statistics()[deploy.bench.cloud.settings.uploads_subscription]
    assert pushed.dead == 0
    assert pushed.nacked >= len(results - done)
