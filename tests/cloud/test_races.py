"""Two workers on one output, staged step by step: whoever is slower, the one right result is left."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from service.core.events import Notification
from service.errors import OutOfMemory, UnreadableImage

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


# A place that a sidecar names is looked at after the inputs: whoever has written there may have known newer ones


def at_third_list(s: Any, action: Callable[[], Any]) -> None:
    """Outputs and inputs have been listed, the sidecar has been read, and its place is about to be looked at."""

    def act(call: str) -> None:
        if call == "list" and s.store.calls.count("list") == 3:
            action()

    s.store.trouble = act


def named(prompts: str, name: str) -> str:
    return json.dumps({"prompts": json.loads(prompts), "output": f"gs://sam3-output/races/places/{name}.json"})


def at_place(bench: Any, name: str) -> tuple[Any, Any]:
    return bench.output(f"races/places/{name}.json"), bench.output(f"races/places/{name}.error.json")


@pytest.mark.parametrize("newer", ["image", "sidecar", "image at fault"])
def test_what_newer_inputs_have_left_at_a_named_place_stays(bench: Any, stage: Any, newer: str) -> None:
    old, new = stage(), stage()
    name = f"newer {newer}"
    bench.upload(f"races/{name}.jpg.prompts.json", named(OLD, name))
    image = bench.upload(f"races/{name}.jpg", b"old", "image/jpeg")

    def refuse() -> None:
        raise UnreadableImage("truncated")

    def meanwhile() -> None:
        if newer == "sidecar":
            assert new.handle(bench.upload(f"races/{name}.jpg.prompts.json", named(NEW, name))) == ["succeeded"]
            return
        new.segmenter.before = refuse if newer == "image at fault" else lambda: None
        event = bench.upload(f"races/{name}.jpg", b"new", "image/jpeg")
        assert new.handle(event) == ["failed" if newer == "image at fault" else "succeeded"]

    at_third_list(old, meanwhile)
    assert old.handle(image) == ["replayed" if newer == "sidecar" else "stale"]
    assert old.store.calls[:5] == ["list", "list", "read", "list", "list"], "its place, and then the inputs again"
    result, error = at_place(bench, name)
    assert (result is None, error is None) == (newer == "image at fault", newer != "image at fault")
    assert (result or error)["request"]["prompts"] == [{"text": "fox" if newer == "sidecar" else "cat"}]
    assert ((result or error)["input"]["generation"] > image.generation) is (newer != "sidecar")
    assert old.segmenter.calls == 0


def test_a_picture_without_a_result_at_a_named_place_is_of_a_job_under_way(bench: Any, stage: Any) -> None:
    """Or it was left by one that has been cut off: then it goes."""
    s = stage()
    bench.upload("races/picture.jpg.prompts.json", named(OLD, "picture"))
    image = bench.upload("races/picture.jpg", b"old", "image/jpeg")
    bench.upload("races/places/picture.overlay.webp", b"x", metadata={"sam3-job-id": "other"}, bucket="sam3-output")
    assert s.handle(image) == ["succeeded"]
    assert s.store.calls[:6] == ["list", "list", "read", "list", "list", "read"], "its place, and then the inputs again"
    assert bench.clients.storage.bucket("sam3-output").get_blob("races/places/picture.overlay.webp") is None


def test_a_named_place_with_a_result_of_other_prompts_is_looked_at_before_the_inputs(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("races/other.jpg", b"old", "image/jpeg")
    for sidecar, looks in (("other.jpg.prompts.json", 3), ("other.prompts.json", 4)):
        bench.upload(f"races/{sidecar}", named(f'["{sidecar}"]', "other"))
        s.store.calls.clear()
        assert s.handle(image) == ["succeeded"]
        assert s.store.calls.count("list") == looks
        assert labels(at_place(bench, "other")[0]) == [sidecar]
