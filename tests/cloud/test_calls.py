"""What one event costs, counted on the wire: calls to Cloud Storage and Pub/Sub, and inferences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tools.bench.server import STAGED

AT_MOST = 8


@pytest.fixture(scope="module")
def served(open_deployment: Any) -> Iterator[Any]:
    with open_deployment() as deployment:
        deployment.bench.skip_official("ignores filters: outputs come as events too")
        deployment.start(STAGED, BENCH_BATCH_MS="1")
        yield deployment


@pytest.fixture
def cost(served: Any) -> Callable[..., tuple[Counter[str], int]]:
    """Calls by kind, and prompts that the engine saw, from an upload until its event is acknowledged."""

    def cost(upload: Callable[[], Any]) -> tuple[Counter[str], int]:
        before = inferences(served)
        with served.script.counting() as calls:
            upload()
            served.wait_until_quiet()
        assert calls.pop("push") == 1
        assert calls.pop("other", 0) == 0
        return calls, inferences(served) - before

    return cost


def inferences(served: Any) -> int:
    return int(requests.get(f"{served.service.url}/bench/clock", timeout=30).json()["prompts"])


def again(served: Any, name: str) -> None:
    """The upload's event once more, as Pub/Sub delivers some."""
    blob = served.bench.clients.storage.bucket("sam3-input").get_blob(name)
    attributes = {"bucketId": "sam3-input", "objectId": name, "objectGeneration": str(blob.generation)}
    settings = served.bench.cloud.settings
    topic = f"projects/{settings.project}/topics/{settings.uploads_topic}"
    served.bench.clients.publisher.publish(topic, b"", attributes | {"eventType": "OBJECT_FINALIZE"})
    served.sent += 1


def test_new_images_and_sidecars(served: Any, cost: Any, draw: Callable[..., bytes]) -> None:
    sidecar, prompts = cost(lambda: served.upload_prompts("calls/a.png"))
    assert sidecar.total() <= AT_MOST
    assert prompts == 0
    image, prompts = cost(lambda: served.upload("calls/a.png", draw(), "image/png"))
    assert image.total() <= AT_MOST
    assert (image["write"], image["publish"], prompts) == (1, 1, 1)
    replacing, prompts = cost(lambda: served.upload("calls/a.png", draw(shift=1), "image/png"))
    assert replacing.total() <= AT_MOST
    assert (replacing["write"], replacing["publish"], prompts) == (1, 1, 1)
    changed, prompts = cost(lambda: served.upload_prompts("calls/a.png"))
    assert changed.total() <= AT_MOST
    assert prompts == 0, "the same prompts are the same job"


def test_an_image_without_prompts_and_a_late_sidecar(served: Any, cost: Any, draw: Callable[..., bytes]) -> None:
    waiting, prompts = cost(lambda: served.upload("late/a.png", draw(), "image/png"))
    assert waiting.total() <= AT_MOST
    assert set(waiting) <= {"list", "stat", "read"}
    assert prompts == 0
    done, prompts = cost(lambda: served.upload_prompts("late/a.png"))
    assert done.total() <= AT_MOST
    assert prompts == 1


def test_a_duplicate_costs_less_and_no_inference(served: Any, cost: Any, draw: Callable[..., bytes]) -> None:
    served.upload_prompts("twice/a.png")
    served.wait_until_quiet()
    image, _ = cost(lambda: served.upload("twice/a.png", draw(), "image/png"))
    duplicate, prompts = cost(lambda: again(served, "twice/a.png"))
    assert duplicate["write"] == duplicate["delete"] == 0
    assert duplicate["publish"] == 1
    assert duplicate.total() < image.total()
    assert prompts == 0
    assert served.replayed("twice/a.png") == ["false", "true"]


def test_an_event_of_a_replaced_image_costs_nothing_but_a_look(served: Any, draw: Callable[..., bytes]) -> None:
    served.upload_prompts("old/a.png")
    served.wait_until_quiet()
    served.bench.cloud.push_to("")
    for shift in (0, 1):
        served.upload("old/a.png", draw(shift=shift), "image/png")
    before = inferences(served)
    with served.script.counting() as calls:
        served.proxies.push_to(served.service.url)
        served.wait_until_quiet()
    assert inferences(served) - before == 1
    assert calls["push"] == 2
    assert calls["write"] == 1


def test_errors_and_what_puts_them_right(served: Any, cost: Any, draw: Callable[..., bytes]) -> None:
    served.upload_prompts("error/a.png")
    served.wait_until_quiet()
    steps: dict[str, tuple[str, bytes | str]] = {
        "not an image": ("error/a.png", b"text"),
        "a good image": ("error/a.png", draw()),
        "a broken sidecar": ("error/a.png.prompts.json", "{broken"),
        "a good sidecar": ("error/a.png.prompts.json", '["circle"]'),
    }
    for title, (name, data) in steps.items():
        calls, _ = cost(lambda name=name, data=data: served.upload(name, data, "application/octet-stream"))
        assert calls["write"] == 1, title
        assert calls.total() <= AT_MOST, title


def test_an_unreadable_event(served: Any, cost: Any) -> None:
    settings = served.bench.cloud.settings
    topic = f"projects/{settings.project}/topics/{settings.uploads_topic}"

    def publish() -> None:
        served.bench.clients.publisher.publish(topic, b"no notification", {"bucketId": "sam3-input"})
        served.sent += 1

    calls, prompts = cost(publish)
    assert calls == Counter(publish=1)
    assert prompts == 0
