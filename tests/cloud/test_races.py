"""Two workers on one output, staged step by step: whoever is slower, the one right result is left."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from service.core.events import Notification
from service.errors import OutOfMemory

OLD, NEW = '["cat"]', '["fox"]'


@dataclass
class Hold:
    """Keeps a worker's model busy, from its first call until the test lets it go."""

    entered: threading.Event
    release: threading.Event
    outcome: Future[list[str]]

    def go(self) -> list[str]:
        self.release.set()
        return self.outcome.result(60)


@contextmanager
def held(stage: Any, notification: Notification, fault: Exception | None = None) -> Iterator[Hold]:
    """The worker has looked and read everything, and computes."""
    entered, release = threading.Event(), threading.Event()

    def before() -> None:
        first = not entered.is_set()
        entered.set()
        assert release.wait(60)
        if first and fault:
            raise fault

    stage.segmenter.before = before
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(stage.handle, notification)
        try:
            assert entered.wait(60)
            yield Hold(entered, release, outcome)
        finally:
            release.set()


def check_single(bench: Any, name: str) -> Any:
    """One document, no error beside it; each job announced once as its own, and the document's among them."""
    document = bench.output(f"{name}.json")
    assert document is not None
    assert bench.output(f"{name}.error.json") is None
    messages = bench.results.about(name)
    own = Counter(m.attributes["job_id"] for m in messages if m.attributes["replayed"] == "false")
    assert set(own.values()) == {1}
    assert own[document["job_id"]] == 1
    return document


def labels(document: Any) -> list[str]:
    return [result["label"] for result in document["results"]]


@pytest.mark.parametrize("by", ["image", "sidecar"])
def test_an_old_worker_against_newer_prompts(bench: Any, stage: Any, by: str) -> None:
    old, new = stage(), stage()
    sidecar = bench.upload(f"races/prompts-{by}.prompts.json", OLD)
    image = bench.upload(f"races/prompts-{by}.jpg", b"image", "image/jpeg")
    with held(old, image if by == "image" else sidecar) as hold:
        assert new.handle(bench.upload(f"races/prompts-{by}.prompts.json", NEW)) == ["succeeded"]
        assert hold.go() == ["replayed"]
    document = check_single(bench, f"races/prompts-{by}.jpg")
    assert labels(document) == ["fox"]
    assert {m.attributes["job_id"] for m in bench.results.about(f"races/prompts-{by}.jpg")} == {document["job_id"]}
    assert old.segmenter.calls == 1


def test_newer_prompts_against_an_old_worker_that_is_faster(bench: Any, stage: Any) -> None:
    old, new = stage(), stage()
    bench.upload("races/faster.prompts.json", OLD)
    image = bench.upload("races/faster.jpg", b"image", "image/jpeg")
    with held(old, image) as hold_old, held(new, bench.upload("races/faster.prompts.json", NEW)) as hold_new:
        assert hold_old.go() == ["succeeded"]
        assert hold_new.go() == ["succeeded"]
    assert labels(check_single(bench, "races/faster.jpg")) == ["fox"]
    assert new.segmenter.calls == 2


def test_an_old_worker_against_a_newer_image(bench: Any, stage: Any) -> None:
    old, new = stage(), stage()
    bench.upload("races/image.prompts.json", OLD)
    with held(old, bench.upload("races/image.jpg", b"old", "image/jpeg")) as hold:
        newer = bench.upload("races/image.jpg", b"new", "image/jpeg")
        assert new.handle(newer) == ["succeeded"]
        assert hold.go() == ["stale"]
    assert check_single(bench, "races/image.jpg")["input"]["generation"] == newer.generation


def test_a_newer_image_against_an_old_worker_that_is_faster(bench: Any, stage: Any) -> None:
    old, new = stage(), stage()
    bench.upload("races/image2.prompts.json", OLD)
    with held(old, bench.upload("races/image2.jpg", b"old", "image/jpeg")) as hold_old:
        newer = bench.upload("races/image2.jpg", b"new", "image/jpeg")
        with held(new, newer) as hold_new:
            assert hold_old.go() == ["succeeded"]
            assert hold_new.go() == ["succeeded"]
    assert check_single(bench, "races/image2.jpg")["input"]["generation"] == newer.generation


def two_models(stage: Any) -> tuple[Any, Any]:
    old = stage()
    new = stage()
    new.segmenter.revision = "2"
    return old, new


def test_an_old_worker_against_a_newer_model(bench: Any, stage: Any) -> None:
    """In the middle of a deployment both revisions get the event."""
    old, new = two_models(stage)
    bench.upload("races/model.prompts.json", OLD)
    image = bench.upload("races/model.jpg", b"image", "image/jpeg")
    with held(old, image) as hold:
        assert new.handle(image) == ["succeeded"]
        assert hold.go() == ["replayed"]
    assert old.handle(image) == ["replayed"]
    assert old.segmenter.calls == 1
    document = check_single(bench, "races/model.jpg")
    assert document["model"]["revision"] == "2"
    assert {m.attributes["job_id"] for m in bench.results.about("races/model.jpg")} == {document["job_id"]}


def test_a_newer_model_against_an_old_worker_that_is_faster(bench: Any, stage: Any) -> None:
    old, new = two_models(stage)
    bench.upload("races/model2.prompts.json", OLD)
    image = bench.upload("races/model2.jpg", b"image", "image/jpeg")
    with held(new, image) as hold:
        assert old.handle(image) == ["succeeded"]
        assert hold.go() == ["succeeded"]
    assert check_single(bench, "races/model2.jpg")["model"]["revision"] == "2"


def test_going_back_to_an_older_model_is_a_newer_deployment(bench: Any, stage: Any) -> None:
    _, new = two_models(stage)
    bench.upload("races/back.prompts.json", OLD)
    image = bench.upload("races/back.jpg", b"image", "image/jpeg")
    assert new.handle(image) == ["succeeded"]
    assert stage().handle(image) == ["succeeded"]
    assert check_single(bench, "races/back.jpg")["model"]["revision"] == "1"


def test_replays_and_stale_events_change_nothing(bench: Any, stage: Any) -> None:
    s = stage()
    old_sidecar = bench.upload("races/late.prompts.json", OLD)
    old_image = bench.upload("races/late.jpg", b"old", "image/jpeg")
    assert s.handle(old_image) == ["succeeded"]
    sidecar = bench.upload("races/late.prompts.json", NEW)
    image = bench.upload("races/late.jpg", b"new", "image/jpeg")
    assert s.handle(sidecar) == ["succeeded"]
    blob = bench.clients.storage.bucket("sam3-output").get_blob("races/late.jpg.json")
    for event, status in ((old_image, "stale"), (old_sidecar, "stale"), (image, "replayed"), (sidecar, "replayed")):
        assert s.handle(event) == [status]
    assert bench.clients.storage.bucket("sam3-output").get_blob("races/late.jpg.json").generation == blob.generation
    assert labels(check_single(bench, "races/late.jpg")) == ["fox"]
    assert s.segmenter.calls == 2


def test_a_message_that_comes_twice_waits_for_the_job_in_this_process(bench: Any, stage: Any, eventually: Any) -> None:
    s = stage()
    bench.upload("races/twice.prompts.json", OLD)
    image = bench.upload("races/twice.jpg", b"image", "image/jpeg")
    with held(s, image) as hold, ThreadPoolExecutor(2) as pool:
        others = [pool.submit(s.handle, image) for _ in range(2)]
        eventually(lambda: s.waiting == 2, 30)
        s.store.calls.clear()
        assert hold.go() == ["succeeded"]
        assert [other.result(30) for other in others] == [["replayed"]] * 2
    assert s.segmenter.calls == 1
    assert s.store.calls == ["write_json", "stat"], "who waited reads nothing more"
    assert [m.attributes["replayed"] for m in bench.results.about("races/twice.jpg")].count("true") == 2
    check_single(bench, "races/twice.jpg")


def test_who_waits_for_a_job_that_fails_is_delivered_again_with_it(bench: Any, stage: Any, eventually: Any) -> None:
    s = stage()
    bench.upload("races/memory.prompts.json", OLD)
    image = bench.upload("races/memory.jpg", b"image", "image/jpeg")
    with held(s, image, OutOfMemory("full")) as hold, ThreadPoolExecutor(1) as pool:
        other = pool.submit(s.handle, image)
        eventually(lambda: s.waiting == 1, 30)
        with pytest.raises(OutOfMemory):
            hold.go()
        with pytest.raises(OutOfMemory):
            other.result(30)
    assert s.segmenter.calls == 1
    assert s.handle(image) == ["succeeded"]
    check_single(bench, "races/memory.jpg")


def test_who_waits_for_a_job_that_is_too_late_looks_again_with_it(bench: Any, stage: Any, eventually: Any) -> None:
    s, other_process = stage(), stage()
    bench.upload("races/both.prompts.json", OLD)
    image = bench.upload("races/both.jpg", b"image", "image/jpeg")
    with held(s, image) as hold, ThreadPoolExecutor(1) as pool:
        other = pool.submit(s.handle, image)
        eventually(lambda: s.waiting == 1, 30)
        assert other_process.handle(image) == ["succeeded"]
        assert hold.go() == ["replayed"]
        assert other.result(30) == ["replayed"]
    assert s.segmenter.calls == 1
    check_single(bench, "races/both.jpg")


def test_different_jobs_run_side_by_side(bench: Any, stage: Any) -> None:
    s = stage()
    barrier = threading.Barrier(2)
    s.segmenter.before = lambda: barrier.wait(60)
    images = []
    for name in ("a", "b"):
        bench.upload(f"races/side-{name}.prompts.json", json.dumps([name]))
        images.append(bench.upload(f"races/side-{name}.jpg", b"image", "image/jpeg"))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(s.handle, images)) == [["succeeded"]] * 2
