"""Uploads with the real storage client → push → gunicorn → embedded model → results and messages."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast

import numpy as np
import pycocotools.mask
import pytest
import requests
import urllib3
from PIL import Image

from service.core.naming import MAX_NAME_BYTES
from tools.localcloud import stats
from tools.localcloud.settings import LocalCloudSettings

IMAGES = 200
DUPLICATE_RATE = 0.2
PROMPT_SETS = (["red square"], ["blue circle", "square"], ["circle"], ["red square", "nothing like it"])


@dataclass(frozen=True)
class Deployment:
    """A local cloud that delivers every fifth message twice, and the service that it pushes to."""

    bench: Any
    service: Any
    eventually: Callable[..., None]

    def upload(self, name: str, data: bytes | str, kind: str = "application/octet-stream") -> None:
        self.bench.upload(name, data, kind)

    def upload_image(self, name: str, data: bytes) -> None:
        self.upload(name, data, "image/png")

    def upload_prompts(self, image: str, prompts: list[str]) -> None:
        self.upload(f"{image}.prompts.json", json.dumps({"prompts": prompts, "options": {"threshold": 0.3}}))

    def output(self, name: str) -> dict[str, Any]:
        document = self.bench.output(name)
        assert document is not None, name
        return cast(dict[str, Any], document)

    def outputs(self, prefix: str) -> set[str]:
        return {blob.name for blob in self.bench.clients.storage.list_blobs("sam3-output", prefix=prefix)}

    def settle(self, prefix: str, names: set[str], timeout_s: float = 120) -> None:
        """Until these outputs are there and every message has been acknowledged."""

        def written() -> bool:
            self.service.check()
            return self.outputs(prefix) >= names

        self.eventually(written, timeout_s, lambda: self.service.output()[-4000:])
        self.bench.wait_until_quiet(timeout_s)
        assert self.outputs(prefix) == names

    def segment(self, data: bytes, prompts: list[str]) -> dict[str, Any]:
        parts: list[tuple[str, Any]] = [("image", ("x.png", data)), ("threshold", (None, "0.3"))]
        parts += [("prompts", (None, prompt)) for prompt in prompts]
        parts += [(field, (None, "true")) for field in ("return_masks", "return_contours")]
        answer = requests.post(f"{self.service.url}/segment", files=parts, timeout=120)
        assert answer.status_code == 200, answer.text
        return cast(dict[str, Any], answer.json())


@pytest.fixture(scope="module")
def deployment(
    open_bench: Callable[..., Any], start_service: Callable[..., Any], eventually: Callable[..., None]
) -> Iterator[Deployment]:
    bench = open_bench(LocalCloudSettings(duplicate_rate=DUPLICATE_RATE))
    service = start_service(bench.cloud.environment()).wait_until_ready()
    bench.cloud.push_to(f"{service.url}/events")
    yield Deployment(bench, service, eventually)
    service.__exit__()  # before the cloud, so that nothing is cut off in the middle


def check_messages(messages: list[Any], status: str) -> None:
    """Per job exactly one message of its own, and replays besides."""
    own = Counter(m.attributes["job_id"] for m in messages if m.attributes["replayed"] == "false")
    assert set(own.values()) == {1}
    assert set(own) == {m.attributes["job_id"] for m in messages}
    assert {m.attributes["status"] for m in messages} == {status}


@pytest.mark.timeout(1200)
def test_two_hundred_uploads_with_sidecars_before_after_and_meanwhile(
    deployment: Deployment, draw: Callable[..., bytes]
) -> None:
    def size_of(number: int) -> tuple[int, int]:
        return 80 + number % 20, 70 + number // 20

    def upload(number: int) -> None:
        name, data = f"many/{number}.png", draw(*size_of(number), shift=number % 8)
        steps: list[Callable[[], None]] = [
            lambda: deployment.upload_image(name, data),
            lambda: deployment.upload_prompts(name, PROMPT_SETS[number % 4]),
        ]
        if number % 3 == 0:
            steps.reverse()
        if number % 3 < 2:
            for step in steps:
                step()
        else:
            with ThreadPoolExecutor(2) as pair:
                list(pair.map(lambda step: step(), steps))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, range(IMAGES)))
    names = {f"many/{number}.png.json" for number in range(IMAGES)}
    deployment.settle("many/", names, 900)

    for number in range(IMAGES):
        document = deployment.output(f"many/{number}.png.json")
        width, height = size_of(number)
        assert document["input"]["uri"] == f"gs://sam3-input/many/{number}.png"
        assert document["image"] == {"width": width, "height": height, "exif_orientation": 1}
        assert [result["label"] for result in document["results"]] == PROMPT_SETS[number % 4]
        if number % 10 == 0:
            direct = deployment.segment(draw(width, height, shift=number % 8), PROMPT_SETS[number % 4])
            assert document["results"] == direct["results"]
            assert document["model"] == direct["model"]

    messages = [m for m in deployment.bench.results.all() if m.attributes["object"].startswith("many/")]
    check_messages(messages, "succeeded")
    assert len({m.attributes["job_id"] for m in messages}) == IMAGES
    if deployment.bench.official:
        return
    with urllib3.PoolManager() as http:
        statistics = stats.fetch(http, deployment.bench.cloud.admin_url)
    assert statistics[deployment.bench.cloud.settings.uploads_subscription].duplicated > 0


def test_a_photograph_gives_the_same_answer_through_both_doors(deployment: Deployment) -> None:
    photo = files("skimage").joinpath("data/coffee.png").read_bytes()
    deployment.upload_prompts("photo/coffee.png", ["cup"])
    deployment.upload_image("photo/coffee.png", photo)
    deployment.settle("photo/", {"photo/coffee.png.json"})
    document = deployment.output("photo/coffee.png.json")
    assert document["image"]["width"] == 600
    assert document["results"] == deployment.segment(photo, ["cup"])["results"]


def test_exemplar_boxes_in_a_sidecar(deployment: Deployment) -> None:
    """The result shows them as understood; a box that is not on the image is the input's fault."""
    scene = files("service").joinpath("models/demo/scene.png").read_bytes()
    shown, outside = [472, 275, 699, 521], [960, 0, 999, 9]
    for name, box in (("good", shown), ("outside", outside)):
        deployment.upload(f"boxes/{name}.prompts.json", json.dumps(["frog", {"boxes": [box]}]))
        deployment.upload_image(f"boxes/{name}.png", scene)
    deployment.settle("boxes/", {"boxes/good.png.json", "boxes/outside.png.error.json"})
    document = deployment.output("boxes/good.png.json")
    exemplar = {"text": "visual", "boxes": [[472.0, 275.0, 699.0, 521.0]], "box_labels": [1]}
    assert document["request"]["prompts"] == [{"text": "frog"}, exemplar]
    assert [result["label"] for result in document["results"]] == ["frog", "visual"]
    assert len(document["results"][1]["boxes"]) == 2
    error = deployment.output("boxes/outside.png.error.json")
    assert error["error"]["code"] == "bad_field"
    assert error["error"]["detail"].startswith("prompts[1].boxes[0]: [960.0, 0.0, 999.0, 9.0] is not allowed")
    assert error["request"]["prompts"][1]["boxes"] == [[960.0, 0.0, 999.0, 9.0]]
    check_messages(deployment.bench.results.about("boxes/outside.png"), "failed")


def test_a_folders_prompts_reach_the_images_before_and_after_them(
    deployment: Deployment, draw: Callable[..., bytes]
) -> None:
    names = [f"folder/{number % 2}/{number}.png" for number in range(30)]
    for name in names[:20]:
        deployment.upload_image(name, draw())
    deployment.bench.wait_until_quiet(120)
    assert deployment.outputs("folder/") == set()
    deployment.upload("folder/_prompts.json", '["red square"]')
    for name in names[20:]:
        deployment.upload_image(name, draw())
    deployment.settle("folder/", {f"{name}.json" for name in names})
    deployment.upload("folder/1/_prompts.txt", "blue circle")

    def done_again() -> bool:
        documents = [deployment.output(f"{name}.json") for name in names[1::2]]
        return all(document["request"]["source"]["uri"].endswith("folder/1/_prompts.txt") for document in documents)

    deployment.eventually(done_again, 120, lambda: deployment.service.output()[-4000:])
    deployment.bench.wait_until_quiet(120)
    for name in names:
        document = deployment.output(f"{name}.json")
        near = "/1/" in name
        assert [result["label"] for result in document["results"]] == ["blue circle" if near else "red square"]
        messages = deployment.bench.results.about(name)
        check_messages(messages, "succeeded")
        assert len({message.attributes["job_id"] for message in messages}) == (2 if near else 1)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_pictures_beside_a_result(deployment: Deployment) -> None:
    scene = files("service").joinpath("models/demo/scene.png").read_bytes()
    asked = {"prompts": ["frog", "strawberry"], "options": {"overlay": True, "mask_png": True}}
    deployment.upload("pictures/scene.prompts.json", json.dumps(asked))
    deployment.upload_image("pictures/scene.png", scene)
    names = {f"pictures/scene.png.{suffix}" for suffix in ("json", "overlay.webp", "masks.png")}
    deployment.settle("pictures/", names)
    document = deployment.output("pictures/scene.png.json")
    bucket = deployment.bench.clients.storage.bucket("sam3-output")
    assert set(document["renditions"].values()) == {
        f"gs://{bucket.name}/{name}" for name in names if ".json" not in name
    }
    size = (document["image"]["width"], document["image"]["height"])
    for name in names - {"pictures/scene.png.json"}:
        with Image.open(io.BytesIO(bucket.blob(name).download_as_bytes())) as picture:
            assert picture.size == size
            if picture.format == "PNG":
                index = np.asarray(picture)
    masks = [pycocotools.mask.decode(rle) for result in document["results"] for rle in result["masks_rle"]]
    assert len(masks) >= 2
    assert ((index > 0) == np.any(masks, axis=0)).all()
    for number, mask in enumerate(masks, start=1):
        assert not (mask[index == number] == 0).any()
        assert (index == number).any()


ODD_NAMES = (
    "odd/with space.png",
    "odd/a#b.png",
    "odd/a?b=c&d.png",
    "odd/100%25.png",
    "odd/a+b.png",
    "odd/Küche/Äpfel.png",
    "odd/😀.png",
    "odd/'\"<b>.png",
    "odd/a\\b.png",
    "odd/..png",
    "odd/" + "ü" * 440 + ".png",
    "odd/no suffix",
    "odd/UPPER.PNG",
)


def test_odd_object_names(deployment: Deployment, draw: Callable[..., bytes]) -> None:
    assert max(len(name.encode()) for name in ODD_NAMES) < MAX_NAME_BYTES
    for name in ODD_NAMES:
        deployment.upload_image(name, draw())
        deployment.upload_prompts(name, ["square"])
    deployment.settle("odd/", {f"{name}.json" for name in ODD_NAMES})
    for name in ODD_NAMES:
        assert deployment.output(f"{name}.json")["input"]["uri"] == f"gs://sam3-input/{name}"
        check_messages(deployment.bench.results.about(name), "succeeded")


def test_bad_images_are_answered_once_and_not_delivered_for_ever(deployment: Deployment) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    bad = {
        "text": (b"just text", "not_an_image"),
        "cut": (buffer.getvalue()[:60], "unreadable_image"),
        "empty": (b"", ""),
    }
    for name, (data, _) in bad.items():
        deployment.upload_prompts(f"bad/{name}.png", ["square"])
        deployment.upload_image(f"bad/{name}.png", data)
    deployment.upload_image("bad/sidecar.png", buffer.getvalue())
    deployment.upload("bad/sidecar.png.prompts.json", '["cat", ""]')
    deployment.settle("bad/", {f"bad/{name}.png.error.json" for name in (*bad, "sidecar")})
    for name, (_, code) in (bad | {"sidecar": (b"", "bad_sidecar")}).items():
        error = deployment.output(f"bad/{name}.png.error.json")["error"]
        assert error["code"] == (code or "not_an_image")
        assert error["detail"]
        check_messages(deployment.bench.results.about(f"bad/{name}.png"), "failed")


def test_an_unreadable_event_is_dead_lettered_whole(deployment: Deployment) -> None:
    settings = deployment.bench.cloud.settings
    topic = f"projects/{settings.project}/topics/{settings.uploads_topic}"
    deployment.bench.clients.publisher.publish(topic, b"no notification", {"bucketId": "sam3-input", "x": "y"})
    deployment.eventually(lambda: bool(deployment.bench.dead_letters.all()), 60, deployment.service.output)
    message = deployment.bench.dead_letters.all()[0]
    assert message.data == b"no notification"
    assert message.attributes.items() >= {"bucketId": "sam3-input", "x": "y"}.items()
    assert message.attributes["subscription"] == settings.uploads_subscription
    assert "eventType" in message.attributes["reason"]


def test_jobs_from_the_jobs_topic(deployment: Deployment, draw: Callable[..., bytes]) -> None:
    """Two on one image, one of them with a place of its own."""
    settings, publisher = deployment.bench.cloud.settings, deployment.bench.clients.publisher
    topic = f"projects/{settings.project}/topics/{settings.jobs_topic}"
    deployment.upload_image("jobs/a.png", draw())
    job = {"image": "gs://sam3-input/jobs/a.png", "prompts": ["blue circle"], "id": "o-1", "metadata": {"order": 1}}
    named = {"output": "gs://sam3-output/jobs/orders/2.json", "id": "o-2"}
    for message in (job, job | named):
        publisher.publish(topic, json.dumps(message).encode(), {"sender": "shop"})
    deployment.eventually(lambda: len(deployment.outputs("jobs/")) == 2, 120, deployment.service.output)
    deployment.bench.wait_until_quiet(120)
    messages = deployment.bench.results.about("jobs/a.png")
    assert {message.data["id"] for message in messages} == {"o-1", "o-2"}
    assert {json.dumps(message.data["metadata"]) for message in messages} == {'{"order": 1}'}
    keyed, place = sorted(deployment.outputs("jobs/"))
    assert keyed == f"jobs/a.png.{messages[0].attributes['job_id'][:12]}.json"
    assert place == "jobs/orders/2.json"
    assert deployment.output(keyed)["results"] == deployment.output(place)["results"]


def test_a_kill_in_the_middle_is_finished_by_the_redelivery(
    deployment: Deployment, start_service: Callable[..., Any], draw: Callable[..., bytes]
) -> None:
    names = [f"kill/{number}.png" for number in range(12)]
    victim = start_service(deployment.bench.cloud.environment()).wait_until_ready()
    deployment.bench.cloud.push_to(f"{victim.url}/events")
    for name in names:
        deployment.upload_prompts(name, ["square"])
        deployment.upload_image(name, draw())
    deployment.eventually(lambda: bool(deployment.outputs("kill/")), 120, victim.output)
    victim.kill()
    deployment.bench.cloud.push_to(f"{deployment.service.url}/events")
    deployment.settle("kill/", {f"{name}.json" for name in names})
    for name in names:
        replayed = [m.attributes["replayed"] for m in deployment.bench.results.about(name)]
        assert replayed, "announced at least once"
        assert replayed.count("false") <= 1
