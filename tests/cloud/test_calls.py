"""What one event costs, counted on the wire: calls to Cloud Storage and Pub/Sub, and inferences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tools.staged import STAGED

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


def sidecar(prompts: list[str], **more: Any) -> str:
    return json.dumps({"prompts": prompts, **more})


def test_a_sidecar_that_names_its_own_output(served: Any, cost: Any, draw: Callable[..., bytes]) -> None:
    """One that speaks for a whole stem costs one more: an image that is called like the stem is looked for by name."""
    output = {"output": "gs://sam3-output/calls/of its own.json"}
    served.upload("named/a.png.prompts.json", sidecar(["cat"], **output), "application/json")
    served.wait_until_quiet()
    steps: dict[str, Callable[[], Any]] = {
        "a new image": lambda: served.upload("named/a.png", draw(), "image/png"),
        "another image": lambda: served.upload("named/a.png", draw(shift=1), "image/png"),
        "a changed sidecar": lambda: served.upload(
            "named/a.png.prompts.json", sidecar(["dog"], **output), "application/json"
        ),
        "an image at fault": lambda: served.upload("named/a.png", b"text", "image/png"),
        "a good image": lambda: served.upload("named/a.png", draw(), "image/png"),
    }
    for title, step in steps.items():
        calls, _ = cost(step)
        assert calls["write"] == 1, title
        assert calls.total() <= AT_MOST, (title, calls)
    duplicate, prompts = cost(lambda: again(served, "named/a.png"))
    assert duplicate.total() < AT_MOST
    assert prompts == 0
    served.upload("named/b.png", draw(), "image/png")
    served.wait_until_quiet()
    place = {"output": "gs://sam3-output/calls/b.json"}
    stem, prompts = cost(lambda: served.upload("named/b.prompts.json", sidecar(["cat"], **place), "application/json"))
    assert (stem.total(), prompts) == (AT_MOST + 1, 1)
    image, prompts = cost(lambda: served.upload("named/b.png", draw(shift=1), "image/png"))
    assert (image.total(), prompts) == (AT_MOST, 1), "its prompts have been read before"


def test_a_named_output_with_a_result_of_other_prompts(served: Any, cost: Any, draw: Callable[..., bytes]) -> None:
    """The inputs are looked at again, as what lies there does not show whether it was made from older ones."""
    place = {"output": "gs://sam3-output/calls/other.json"}
    served.upload("other/a.png.prompts.txt", "cat", "text/plain")
    for rank in ("a.png.prompts.json", "a.prompts.json"):
        served.wait_until_quiet()
        served.upload(f"other/{rank}", sidecar([rank], **place), "application/json")
        if rank == "a.png.prompts.json":
            served.upload("other/a.png", draw(), "image/png")
    served.wait_until_quiet()
    served.bench.delete("other/a.prompts.json")
    calls, prompts = cost(
        lambda: served.upload("other/a.png.prompts.json", sidecar(["dog"], **place), "application/json")
    )
    assert prompts == 1
    assert AT_MOST < calls.total() <= 12


@pytest.mark.parametrize("more", [{}, {"output": "gs://sam3-output/calls/pictures.json"}], ids=["", "named"])
def test_each_picture_beside_a_result_is_one_more(
    served: Any, cost: Any, draw: Callable[..., bytes], more: dict[str, str]
) -> None:
    folder = f"pictures/{len(more)}"
    options = {"overlay": True, "mask_png": True}
    served.upload(f"{folder}/a.png.prompts.json", sidecar(["cat"], options=options, **more), "application/json")
    served.wait_until_quiet()
    for shift in (0, 1):
        calls, prompts = cost(lambda shift=shift: served.upload(f"{folder}/a.png", draw(shift=shift), "image/png"))
        assert (calls["write"], prompts) == (3, 1)
        assert calls.total() <= AT_MOST + len(options), calls


@pytest.mark.parametrize("name", ["a.png", "bare"])
def test_prompts_of_a_folder(served: Any, cost: Any, draw: Callable[..., bytes], name: str) -> None:
    """One request for all its folders."""
    folder = f"deep/{name}/in/folders"
    served.upload(f"{folder}/_prompts.json", sidecar(["cat"]), "application/json")
    served.wait_until_quiet()
    calls, prompts = cost(lambda: served.upload(f"{folder}/{name}", draw(), "image/png"))
    assert (calls["write"], prompts) == (1, 1)
    assert calls.total() <= AT_MOST, calls
    assert calls["read"] == 2
    another, _ = cost(lambda: served.upload(f"{folder}/another {name}", draw(), "image/png"))
    assert another["read"] == 1, "the prompts are known by their generation"


def test_an_unreadable_event(served: Any, cost: Any) -> None:
    settings = served.bench.cloud.settings
    topic = f"projects/{settings.project}/topics/{settings.uploads_topic}"

    def publish() -> None:
        served.bench.clients.publisher.publish(topic, b"no notification", {"bucketId": "sam3-input"})
        served.sent += 1

    calls, prompts = cost(publish)
    assert calls == Counter(publish=1)
    assert prompts == 0
