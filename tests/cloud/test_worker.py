"""The worker on the real storage and Pub/Sub clients: what of docs/events.md goes beyond its delivery table."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from service.core.envelopes import Message
from service.core.events import Ignored, Notification
from service.core.observe import Observer
from service.errors import (
    BadEnvelope,
    BadField,
    CloudUnavailable,
    DeadlineExceeded,
    Ending,
    NotReady,
    OutOfMemory,
    QueueFull,
    ServiceError,
    UnreadableImage,
)
from service.gcp.storage import ObjectStore
from service.settings import Settings
from service.worker.surroundings import list_beside, look

PROMPTS = '["cat", "dog"]'


def raising(error: Exception, *, at: str, times: int = 1) -> Callable[[str], None]:
    """Raise at the first `times` calls of that name."""
    left = [times]

    def trouble(name: str) -> None:
        if name == at and left[0]:
            left[0] -= 1
            raise error

    return trouble


def once(action: Callable[[], Any]) -> Callable[[], None]:
    """Run the action at the first call only."""
    pending = [action]

    def act() -> None:
        if pending:
            pending.pop()()

    return act


def failing(error: Exception) -> Callable[[], None]:
    """Raise at every call."""

    def fail() -> None:
        raise error

    return fail


def replayed(bench: Any, name: str) -> list[str]:
    return [message.attributes["replayed"] for message in bench.results.about(name)]


def test_done(bench: Any, stage: Any) -> None:
    s = stage()
    sidecar = bench.upload("done/a.prompts.json", '{"prompts": ["cat"], "metadata": {"order": 7}}')
    image = bench.upload("done/a.jpg", b"image", "image/jpeg")
    assert s.handle(image) == ["succeeded"]
    document = bench.output("done/a.jpg.json")
    assert document["schema"] == "sam3.result/1"
    assert document["input"]["uri"] == "gs://sam3-input/done/a.jpg"
    assert document["input"]["generation"] == image.generation
    assert document["input"]["crc32c"]
    assert document["request"]["source"] == {
        "kind": "sidecar",
        "uri": "gs://sam3-input/done/a.prompts.json",
        "generation": sidecar.generation,
    }
    assert set(document["results"][0]) >= {"masks_rle", "contours"}
    [message] = bench.results.about("done/a.jpg")
    assert message.attributes == {
        "status": "succeeded",
        "bucket": "sam3-input",
        "object": "done/a.jpg",
        "job_id": document["job_id"],
        "replayed": "false",
    }
    assert message.data["output"] == "gs://sam3-output/done/a.jpg.json"
    assert message.data["counts"] == {"cat": 1}
    assert message.data["metadata"] == {"order": 7}


def test_at_most_eight_calls(bench: Any, stage: Any) -> None:
    for first, second in (("image", "sidecar"), ("sidecar", "image")):
        s = stage()
        bench.upload(f"calls/{first}.prompts.json", "{broken")
        bench.upload(f"calls/{first}.jpg", b"image", "image/jpeg")
        events = {
            "image": lambda name=first: bench.upload(f"calls/{name}.jpg", b"image", "image/jpeg"),
            "sidecar": lambda name=first: bench.upload(f"calls/{name}.prompts.json", PROMPTS),
        }
        events[first]()
        for each in (first, second):  # the second leaves an error or result to delete
            s.store.calls.clear(), s.publisher.calls.clear()
            s.handle(events[each]())
            assert len(s.store.calls) + len(s.publisher.calls) <= 8, s.store.calls


def test_the_same_work_is_not_done_twice(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("same/a.prompts.json", PROMPTS)
    image = bench.upload("same/a.jpg", b"image", "image/jpeg")
    assert [s.handle(image), s.handle(image), s.handle(image)] == [["succeeded"], ["replayed"], ["replayed"]]
    assert s.segmenter.calls == 1
    assert replayed(bench, "same/a.jpg") == ["false", "true", "true"]
    first, *others = bench.results.about("same/a.jpg")
    assert all(other.data == first.data for other in others)


@pytest.mark.parametrize("workers", [2, 6])
def test_workers_at_the_same_time_leave_one_result(bench: Any, stage: Any, workers: int) -> None:
    name = f"race-{workers}/a.jpg"
    bench.upload(f"race-{workers}/a.prompts.json", PROMPTS)
    image = bench.upload(name, b"image", "image/jpeg")
    stages = [stage() for _ in range(workers)]
    barrier = threading.Barrier(workers)
    for s in stages:  # all have looked and none has written
        s.segmenter.before = barrier.wait
    with ThreadPoolExecutor(workers) as pool:
        outcomes = list(pool.map(lambda s: s.handle(image), stages))
    assert sorted(outcomes) == [["replayed"]] * (workers - 1) + [["succeeded"]]
    assert sorted(replayed(bench, name)) == ["false"] + ["true"] * (workers - 1)


@pytest.mark.parametrize("first", ["image", "sidecar"])
def test_either_event_may_come_first(bench: Any, stage: Any, first: str) -> None:
    s = stage()
    uploads = {
        "image": lambda: bench.upload(f"order/{first}.jpg", b"image", "image/jpeg"),
        "sidecar": lambda: bench.upload(f"order/{first}.prompts.txt", "cat\n# no dog\n"),
    }
    second = "sidecar" if first == "image" else "image"
    assert s.handle(uploads[first]()) == ["waiting_for_prompts" if first == "image" else "waiting_for_image"]
    assert s.handle(uploads[second]()) == ["succeeded"]
    assert replayed(bench, f"order/{first}.jpg") == ["false"]


@pytest.mark.parametrize("deleted", [False, True])
def test_an_image_overwritten_or_deleted_before_it_is_read(bench: Any, stage: Any, deleted: bool) -> None:
    s = stage()
    name = f"stale/{deleted}.jpg"
    bench.upload(f"stale/{deleted}.prompts.json", PROMPTS)
    old = bench.upload(name, b"old", "image/jpeg")

    def act(call: str) -> None:
        if call == "read" and s.store.calls.count("read") == 2:  # the sidecar is read, the image is about to be
            bench.delete(name) if deleted else bench.upload(name, b"new", "image/jpeg")

    s.store.trouble = act
    assert s.handle(old) == ["stale"]
    assert bench.output(f"{name}.json") is None
    assert bench.results.about(name) == []


def test_a_sidecar_of_an_image_that_has_been_deleted(bench: Any, stage: Any) -> None:
    """The result of what was there stays."""
    s = stage()
    bench.upload("stale/d.prompts.json", PROMPTS)
    assert s.handle(bench.upload("stale/d.jpg", b"image", "image/jpeg")) == ["succeeded"]
    bench.delete("stale/d.jpg")
    assert s.handle(bench.upload("stale/d.prompts.json", '["fox"]')) == ["waiting_for_image"]
    assert bench.output("stale/d.jpg.json") is not None


@pytest.mark.parametrize(
    "output", ["itself/{0}.prompts.json", "itself/{0}.jpg", "itself/_prompts.json", "itself/{0}.error.json"]
)
def test_a_sidecar_that_points_at_itself_or_at_its_image(bench: Any, stage: Any, output: str) -> None:
    s = stage(WRITE_BUCKETS="sam3-input,sam3-output")
    stem = zlib.crc32(output.encode())
    text = json.dumps({"prompts": ["cat"], "output": f"gs://sam3-input/{output.format(stem)}"})
    bench.upload(f"itself/{stem}.jpg", b"image", "image/jpeg")
    event = bench.upload(f"itself/{stem}.prompts.json", text)
    assert [s.handle(event), s.handle(event)] == [["failed"], ["replayed"]]
    assert bench.output(f"itself/{stem}.jpg.error.json")["error"]["code"] == "bad_sidecar"
    assert bench.clients.storage.bucket("sam3-input").get_blob(event.name).generation == event.generation


def test_ten_megabytes_of_prompts_in_a_sidecar_are_not_even_read(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("fault/ten.jpg", b"image", "image/jpeg")
    bench.upload("fault/ten.prompts.json", json.dumps(["x" * 900] * 11_000))
    assert s.handle(image) == ["failed"]
    assert (
        "at most 1048576 are allowed (MAX_SIDECAR_BYTES)" in bench.output("fault/ten.jpg.error.json")["error"]["detail"]
    )
    assert "read" not in s.store.calls


def test_a_slow_worker_never_replaces_the_result_of_a_newer_upload(bench: Any, stage: Any) -> None:
    slow, fast = stage(), stage()
    bench.upload("slow/a.prompts.json", PROMPTS)
    old = bench.upload("slow/a.jpg", b"old", "image/jpeg")
    new = []

    def meanwhile() -> None:
        new.append(bench.upload("slow/a.jpg", b"new", "image/jpeg"))
        assert fast.handle(new[0]) == ["succeeded"]

    slow.segmenter.before = once(meanwhile)
    assert slow.handle(old) == ["stale"]
    assert bench.output("slow/a.jpg.json")["input"]["generation"] == new[0].generation
    assert replayed(bench, "slow/a.jpg") == ["false"]


def test_a_changed_sidecar_makes_a_new_result(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("change/a.jpg", b"image", "image/jpeg")
    assert s.handle(bench.upload("change/a.prompts.json", '["cat"]')) == ["succeeded"]
    assert s.handle(bench.upload("change/a.prompts.json", '["fox"]')) == ["succeeded"]
    assert [result["label"] for result in bench.output("change/a.jpg.json")["results"]] == ["fox"]
    assert len({message.attributes["job_id"] for message in bench.results.about("change/a.jpg")}) == 2


def test_the_rank_of_sidecars_decides_not_their_order(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("rank/a.jpg", b"image", "image/jpeg")
    names = ("a.jpg.prompts.txt", "a.prompts.txt", "a.jpg.prompts.json", "a.prompts.json")
    for name in names:
        text = f'["{name}"]' if name.endswith("json") else name
        assert s.handle(bench.upload(f"rank/{name}", text)) == ["succeeded"]
        assert bench.output("rank/a.jpg.json")["results"][0]["label"] == name
    assert s.handle(bench.upload("rank/a.jpg.prompts.txt", "late")) == ["replayed"]


def test_one_sidecar_for_all_images_of_its_stem(bench: Any, stage: Any) -> None:
    s = stage()
    for name in ("a.jpg", "a.png", "a.b.jpg", "ab.jpg"):
        bench.upload(f"stem/{name}", b"image", "image/jpeg")
    bench.upload("stem/a", b"image", "image/jpeg")
    assert s.handle(bench.upload("stem/a.prompts.json", PROMPTS)) == ["succeeded"] * 3
    written = [name for name in ("a", "a.jpg", "a.png", "a.b.jpg", "ab.jpg") if bench.output(f"stem/{name}.json")]
    assert written == ["a", "a.jpg", "a.png"]
    assert s.handle(bench.upload("stem/ab.jpg.prompts.json", PROMPTS)) == ["succeeded"]


def test_folders_that_are_called_like_a_stem_are_not_listed(bench: Any) -> None:
    """They may have a million objects."""
    rules = Settings.from_environment(bench.cloud.environment()).rules
    store = ObjectStore(bench.clients.storage)
    for bucket in ("sam3-input", "sam3-output"):
        for name in ("2024.jpg", "2024.jpg.json", "2024.01/a.jpg", "2024.01/a.jpg.json"):
            bench.upload(f"folders/{name}", b"x", bucket=bucket)
    names = ["folders/2024.jpg", "folders/2024.jpg.json"]
    around = look(store, rules, "sam3-input", "folders/2024.jpg")
    assert [[*around.inputs], [*around.outputs]] == [names, names]
    bench.upload("folders/results.json", b"x", bucket="sam3-output")
    bench.upload("folders/results.old/a.json", b"x", bucket="sam3-output")
    stem = list_beside(store, "sam3-output", "folders/results.")
    assert [*stem] == ["folders/results.json"]


def test_nothing_is_listed_beside_the_longest_name_without_a_suffix(bench: Any, stage: Any) -> None:
    """No name could begin with it and a full stop."""
    s = stage()
    name = "longest/" + "n" * 1016
    image = bench.upload(name, b"image", "image/jpeg", metadata={"prompts": PROMPTS})
    assert s.handle(image) == ["failed"]
    [message] = bench.results.about(name)
    assert message.data["error"]["code"] == "name_too_long"
    assert "list" not in s.store.calls


def test_an_image_without_a_suffix(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("bare/photo", b"image", "image/jpeg")
    assert s.handle(image) == ["waiting_for_prompts"]
    bench.upload("bare/photo.prompts.json", PROMPTS)
    assert s.handle(image) == ["succeeded"]


def test_an_image_without_a_suffix_whose_event_does_not_say_what_it_is(bench: Any, stage: Any) -> None:
    """As notifications without payload: the sidecar came first, so no other event would start the work."""
    s = stage()
    assert s.handle(bench.upload("untold/photo.prompts.json", PROMPTS)) == ["waiting_for_image"]
    image = replace(bench.upload("untold/photo", b"image", "image/jpeg"), content_type=None)
    assert s.handle(image) == ["succeeded"]
    assert s.handle(replace(bench.upload("untold/photo", b"image", "image/jpeg"), content_type=None)) == ["succeeded"]
    assert s.handle(image) == ["ignored"], "what has been overwritten cannot be asked"


def test_only_what_hangs_on_its_content_type_is_asked_for_it(bench: Any, stage: Any) -> None:
    s = stage(INPUT_PREFIX="in/")
    for name, calls in (("in/report", ["stat"]), ("out/report", []), ("in/folder/", [])):
        untold = replace(bench.upload(name, b"x", "text/plain"), content_type=None)
        assert (s.handle(untold), s.store.calls) == (["ignored"], calls)
        s.store.calls.clear()
    deleted = replace(bench.upload("in/gone", b"x", "image/png"), content_type=None, event_type="OBJECT_DELETE")
    assert (s.handle(deleted), s.store.calls) == (["ignored"], [])


@pytest.mark.parametrize(
    ("sidecar", "code"),
    [
        ("{broken", "bad_sidecar"),
        ("[]", "bad_sidecar"),
        ('{"prompts": ["cat"], "output": "gs://sam3-input/y.json"}', "bad_sidecar"),
        ("[" + '"cat",' * 20 + '"cat"' + "]", "bad_sidecar"),
        ('["' + "x" * 600 + '"]', "bad_sidecar"),
        ('[{"text": "cat", "boxes": [[4, 4, 2, 9]]}]', "bad_sidecar"),
    ],
)
def test_a_sidecar_at_fault(bench: Any, stage: Any, sidecar: str, code: str) -> None:
    s = stage(MAX_PROMPTS="10", MAX_SIDECAR_BYTES="500")
    name = f"fault/{zlib.crc32(sidecar.encode())}"
    image = bench.upload(f"{name}.jpg", b"image", "image/jpeg")
    event = bench.upload(f"{name}.prompts.json", sidecar)
    assert [s.handle(event), s.handle(event), s.handle(image)] == [["failed"], ["replayed"], ["replayed"]]
    document = bench.output(f"{name}.jpg.error.json")
    assert document["error"]["code"] == code
    assert document["error"]["retryable"] is False
    assert document["request"] is None
    messages = bench.results.about(f"{name}.jpg")
    assert [message.attributes["replayed"] for message in messages] == ["false", "true", "true"]
    assert {message.attributes["status"] for message in messages} == {"failed"}
    assert {message.attributes["job_id"] for message in messages} == {document["job_id"]}
    assert messages[0].data["error"] == document["error"]
    assert s.segmenter.calls == 0


def test_result_and_error_exclude_each_other(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("either/a.jpg", b"image", "image/jpeg")
    for sidecar, there, gone in (
        (PROMPTS, "json", "error.json"),
        ("{broken", "error.json", "json"),
        (PROMPTS, "json", "error.json"),
    ):
        s.handle(bench.upload("either/a.prompts.json", sidecar))
        assert bench.output(f"either/a.jpg.{there}") is not None
        assert bench.output(f"either/a.jpg.{gone}") is None


def test_result_and_error_written_at_the_same_time(bench: Any, stage: Any) -> None:
    """Each is a new object, so no precondition meets: the later writer sees the other one and looks again."""
    slow, fast = stage(), stage()
    bench.upload("both/a.prompts.json", PROMPTS)
    image = bench.upload("both/a.jpg", b"image", "image/jpeg")

    def meanwhile() -> None:
        assert fast.handle(bench.upload("both/a.prompts.json", "{broken")) == ["failed"]

    slow.segmenter.before = once(meanwhile)
    assert slow.handle(image) == ["replayed"]
    assert bench.output("both/a.jpg.json") is None
    assert bench.output("both/a.jpg.error.json") is not None


def test_a_crash_between_writing_and_cleaning_up_is_finished_by_the_redelivery(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("crash/a.jpg", b"image", "image/jpeg")
    s.handle(bench.upload("crash/a.prompts.json", "{broken"))
    event = bench.upload("crash/a.prompts.json", PROMPTS)
    s.store.trouble = raising(CloudUnavailable("gone"), at="delete")
    with pytest.raises(CloudUnavailable):
        s.handle(event)
    assert bench.output("crash/a.jpg.error.json") is not None
    assert s.handle(event) == ["replayed"]
    assert bench.output("crash/a.jpg.error.json") is None
    assert bench.output("crash/a.jpg.json") is not None


@pytest.mark.parametrize("size", ["object", "name"])
def test_inputs_that_are_too_large(bench: Any, stage: Any, size: str) -> None:
    s = stage(MAX_OBJECT_BYTES="1024")
    stem = "large/" + ("n" * 1005 if size == "name" else "a")
    bench.upload(f"{stem}.prompts.json", PROMPTS)
    image = bench.upload(f"{stem}.jpg", b"x" * 2000, "image/jpeg")
    assert s.handle(image) == ["failed"]
    [message] = bench.results.about(f"{stem}.jpg")
    assert message.data["error"]["code"] == ("name_too_long" if size == "name" else "too_large")
    assert message.data["output"] == (None if size == "name" else "gs://sam3-output/large/a.jpg.error.json")


@pytest.mark.parametrize("bomb", ["image", "sidecar"])
def test_inputs_that_are_too_large_when_they_are_unpacked(bench: Any, stage: Any, bomb: str) -> None:
    s = stage(MAX_OBJECT_BYTES="1024", MAX_SIDECAR_BYTES="2000")
    for kind, name, text in (("sidecar", "prompts.json", PROMPTS), ("image", "jpg", "image")):
        data = text + " " * (1_000_000 if kind == bomb else 0)
        blob = bench.clients.storage.bucket("sam3-input").blob(f"packed/{bomb}.{name}")
        blob.content_encoding = "gzip"
        blob.upload_from_string(gzip.compress(data.encode()), content_type="image/jpeg")
    image = Notification("OBJECT_FINALIZE", "sam3-input", blob.name, int(blob.generation), "image/jpeg", "1", None)
    assert s.handle(image) == ["failed"]
    error = bench.output(f"{blob.name}.error.json")["error"]
    assert error["code"] == ("too_large" if bomb == "image" else "bad_sidecar")
    assert "unpacked" in error["detail"]
    assert s.segmenter.calls == 0


def test_an_image_at_fault_is_tried_again_when_the_limits_have_changed(bench: Any, stage: Any) -> None:
    bench.upload("limits/a.prompts.json", PROMPTS)
    image = bench.upload("limits/a.jpg", b"x" * 2000, "image/jpeg")
    assert stage(MAX_OBJECT_BYTES="1024").handle(image) == ["failed"]
    assert stage().handle(image) == ["succeeded"]
    assert bench.output("limits/a.jpg.error.json") is None


def test_a_field_that_only_the_image_shows_to_be_bad_is_the_inputs_fault(bench: Any, stage: Any) -> None:
    """An exemplar box is found to lie outside when the image has been decoded."""
    s = stage()
    bench.upload("field/a.prompts.json", '[{"text": "cat", "boxes": [[0, 0, 9, 9]]}]')
    image = bench.upload("field/a.jpg", b"image", "image/jpeg")

    def fail() -> None:
        raise BadField("prompts[0].boxes[0]", [0.0, 0.0, 9.0, 9.0], "it lies outside the image")

    s.segmenter.before = fail
    assert [s.handle(image), s.handle(image)] == [["failed"], ["replayed"]]
    assert bench.output("field/a.jpg.error.json")["error"] == {
        "code": "bad_field",
        "detail": "prompts[0].boxes[0]: [0.0, 0.0, 9.0, 9.0] is not allowed; it lies outside the image",
        "retryable": False,
    }


def test_an_unreadable_image_in_the_middle_of_a_stem_stops_no_other(bench: Any, stage: Any) -> None:
    s = stage()
    for name in ("a.gif", "a.jpg", "a.png"):
        bench.upload(f"mixed/{name}", b"image", "image/jpeg")

    def fail() -> None:
        raise UnreadableImage("truncated")

    s.segmenter.before = once(fail)
    assert s.handle(bench.upload("mixed/a.prompts.json", PROMPTS)) == ["failed", "succeeded", "succeeded"]


@pytest.mark.parametrize("error", [OutOfMemory("none is left"), ValueError("a shape that no model should have")])
def test_an_image_that_keeps_failing_does_not_starve_the_others_of_its_stem(
    bench: Any, stage: Any, error: Exception
) -> None:
    """Its event is given back once each of them has had its turn."""
    s = stage()
    folder = f"starve-{type(error).__name__}"
    for name in ("a.gif", "a.jpg", "a.png"):
        bench.upload(f"{folder}/{name}", b"image", "image/jpeg")
    sidecar = bench.upload(f"{folder}/a.prompts.json", PROMPTS)
    s.segmenter.before = once(failing(error))
    with pytest.raises(type(error)):
        s.handle(sidecar)
    assert [bool(bench.output(f"{folder}/a.{suffix}.json")) for suffix in ("gif", "jpg", "png")] == [False, True, True]
    assert s.handle(sidecar) == ["succeeded", "replayed", "replayed"]


@pytest.mark.parametrize("error", [QueueFull("full"), Ending(), CloudUnavailable("gone"), DeadlineExceeded("late")])
def test_a_service_that_cannot_work_now_does_not_try_the_others_of_a_stem(
    bench: Any, stage: Any, error: ServiceError
) -> None:
    s = stage()
    for name in ("a.jpg", "a.png"):
        bench.upload(f"{error.code}/{name}", b"image", "image/jpeg")
    s.segmenter.before = failing(error)
    with pytest.raises(type(error)):
        s.handle(bench.upload(f"{error.code}/a.prompts.json", PROMPTS))
    assert s.segmenter.calls == 1


class Heard(Observer):
    """What a worker tells of events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, outcome: str) -> None:
        self.events.append(outcome)


@pytest.mark.parametrize(
    ("last", "events", "logged"),
    [
        (ValueError("last"), ["succeeded", "internal", "out_of_memory"], ["succeeded a.jpg", "internal a.png"]),
        (QueueFull("last"), ["succeeded", "out_of_memory", "queue_full"], ["succeeded a.jpg", "out_of_memory a.gif"]),
    ],
    ids=["another failure", "the service cannot work now"],
)
def test_every_image_of_a_stem_is_told_whatever_becomes_of_the_others(
    bench: Any,
    stage: Any,
    caplog: pytest.LogCaptureFixture,
    last: Exception,
    events: list[str],
    logged: list[str],
) -> None:
    """One failure is raised, for whoever answers the push to log; the others and all outcomes are told here."""
    heard = Heard()
    s = stage(observer=heard)
    folder = f"told-{type(last).__name__}"
    for name in ("a.gif", "a.jpg", "a.png"):
        bench.upload(f"{folder}/{name}", b"image", "image/jpeg")
    first = OutOfMemory("first")
    steps = iter([failing(first), lambda: None, failing(last)])
    s.segmenter.before = lambda: next(steps)()
    sidecar = bench.upload(f"{folder}/a.prompts.json", PROMPTS)
    with caplog.at_level("INFO", "service.worker"), pytest.raises((OutOfMemory, QueueFull)) as raised:
        s.handle(sidecar)
    assert heard.events == events
    hidden = last if raised.value is first else first
    records = [record for record in caplog.records if record.name.startswith("service.worker")]
    assert [f"{record.getMessage()} {vars(record)['subject'].rpartition('/')[2]}" for record in records] == logged
    assert [record.exc_info and record.exc_info[1] for record in records] == [None, hidden]


def test_what_is_ignored_is_told_too(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    with caplog.at_level("INFO", "service.worker"):
        assert stage(observer=heard).handle(Ignored("CloudEvent type x")) == ["ignored"]
    assert heard.events == ["ignored"]
    assert [vars(record)["reason"] for record in caplog.records] == ["CloudEvent type x"]


def test_an_object_that_keeps_changing_is_given_back(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("busy/a.prompts.json", PROMPTS)
    image = bench.upload("busy/a.jpg", b"image", "image/jpeg")
    output = bench.clients.storage.bucket("sam3-output").blob("busy/a.jpg.json")
    s.segmenter.before = lambda: output.upload_from_string("{}")
    with pytest.raises(CloudUnavailable, match="kept changing"):
        s.handle(image)


def test_nothing_is_read_while_the_model_loads(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("loading/a.jpg", b"image", "image/jpeg")
    s.segmenter.phase = "loading"
    with pytest.raises(NotReady):
        s.handle(image)
    assert s.store.calls == []


def test_ignored_events_cost_nothing(bench: Any, stage: Any) -> None:
    s = stage(INPUT_PREFIX="in/")
    for name, kind in (
        ("elsewhere/a.jpg", "image/jpeg"),
        ("in/a.pdf", "application/pdf"),
        ("in/x_prompts.json", "x/y"),
    ):
        assert s.handle(bench.upload(name, b"x", kind)) == ["ignored"]
    assert s.store.calls == []


def test_outputs_beside_inputs_are_no_inputs(bench: Any, stage: Any) -> None:
    s = stage(OUTPUT_BUCKET="sam3-input", OUTPUT_PREFIX="results/")
    bench.upload("beside/a.prompts.json", PROMPTS)
    assert s.handle(bench.upload("beside/a.jpg", b"image", "image/jpeg")) == ["succeeded"]
    assert s.handle(bench.upload("results/beside/a.jpg", b"image", "image/jpeg")) == ["ignored"]


def test_an_unreadable_push_is_kept_whole(bench: Any, stage: Any) -> None:
    s = stage()
    outcome = s.worker.reject(b'{"message": "nonsense"}', BadEnvelope("no message " + "x" * 2000))
    assert outcome.status == "dead_lettered"
    message = bench.dead_letters.all()[-1]
    assert message.data == {"message": "nonsense"}
    assert message.attributes["reason"].startswith("no message")
    assert set(message.attributes) == {"reason"}


def test_an_unreadable_message_is_kept_as_it_was(bench: Any, stage: Any) -> None:
    """Also with attributes that are called like the arguments of Google's client."""
    attributes = {"data": "1", "topic": "2", "timeout": "3", "ordering_key": "4", "self": "5"}
    subscription = "projects/local-project/subscriptions/jobs"
    unread = Message(b'{"image": 7}', attributes, "1", subscription, 3)
    assert [outcome.status for outcome in stage().worker.deliver(unread)] == ["dead_lettered"]
    message = bench.dead_letters.all()[-1]
    assert message.data == {"image": 7}
    reason = "not a job: image: 7 is not allowed; it must be gs://bucket/object or gs://bucket/object#generation"
    assert message.attributes == attributes | {"reason": reason, "subscription": subscription}


def test_a_message_with_names_that_nobody_may_publish_is_kept(bench: Any, stage: Any) -> None:
    """Google's own clients add such names, and Pub/Sub refuses them from anybody else."""
    unread = Message(b'"traced"', {"googclient_traceparent": "00-ab-cd-01"}, subscription="s")
    assert [outcome.status for outcome in stage().worker.deliver(unread)] == ["dead_lettered"]
    message = bench.dead_letters.all()[-1]
    assert message.data == "traced"
    assert message.attributes["original-googclient_traceparent"] == "00-ab-cd-01"


def test_a_message_as_large_as_there_may_be_is_kept(bench: Any, stage: Any) -> None:
    """Ten megabytes of prompts."""
    prompts = json.dumps(["x" * 900] * 11_000)
    job = f'{{"image": "gs://sam3-input/a.jpg", "prompts": {prompts}}}'.encode()
    job += b" " * (9_999_000 - len(job))
    assert [outcome.status for outcome in stage().worker.deliver(Message(job, {"a": "b"}))] == ["dead_lettered"]
    message = bench.dead_letters.all()[-1]
    assert message.data == json.loads(job)
    assert message.attributes == {"a": "b"}


def test_a_message_with_as_many_attributes_as_there_may_be_is_kept(bench: Any, stage: Any) -> None:
    attributes = {f"a{number}": "x" for number in range(100)}
    stage().worker.deliver(Message(b'"full"', attributes, subscription="s"))
    message = bench.dead_letters.all()[-1]
    assert (message.data, message.attributes) == ("full", attributes)


def test_a_list_of_the_outputs_tells_what_they_were_made_of(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("listed/a.prompts.json", PROMPTS)
    bench.upload("listed/b.prompts.json", '["cat", ""]')
    image = bench.upload("listed/a.jpg", b"image", "image/jpeg")
    bad = bench.upload("listed/b.jpg", b"image", "image/jpeg")
    assert s.handle(image) + s.handle(bad) == ["succeeded", "failed"]
    listed = {blob.name: blob.metadata for blob in bench.clients.storage.list_blobs("sam3-output", prefix="listed/")}
    assert listed["listed/a.jpg.json"]["sam3-input-generation"] == str(image.generation)
    assert "sam3-error-code" not in listed["listed/a.jpg.json"]
    assert listed["listed/b.jpg.error.json"]["sam3-input-generation"] == str(bad.generation)
    assert listed["listed/b.jpg.error.json"]["sam3-error-code"] == "bad_sidecar"


def test_a_stored_result_is_not_bound_by_what_an_answer_may_have(bench: Any, stage: Any) -> None:
    s = stage(MAX_TOTAL_INSTANCES="1", MAX_RESPONSE_BYTES="1024")
    bench.upload("bound/a.prompts.json", '["cat", "dog", "cow", "hen", "pig", "ant", "bee", "fox"]')
    assert s.handle(bench.upload("bound/a.jpg", b"image")) == ["succeeded"]
    document = bench.output("bound/a.jpg.json")
    assert sum(len(result["scores"]) for result in document["results"]) == 8
    assert len(json.dumps(document)) > 1024


def test_options_of_the_answer_are_options_of_the_result(bench: Any, stage: Any) -> None:
    options = {"nms_iou": 0.5, "simplify": 2, "contour_holes": True}
    s = stage()
    bench.upload("options/a.prompts.json", json.dumps({"prompts": ["cat"], "options": options}))
    assert s.handle(bench.upload("options/a.jpg", b"image")) == ["succeeded"]
    document = bench.output("options/a.jpg.json")
    assert document["request"]["options"].items() >= options.items()
    assert document["results"][0]["holes"] == [[]]
