"""Jobs of the jobs topic: where their results go, what they echo, and what is left behind when they cannot be done."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import requests

from service.core.envelopes import Message
from service.errors import BadField, CloudUnavailable, NotReady


def uri(notification: Any) -> str:
    return f"gs://{notification.bucket}/{notification.name}"


def deliver(stage: Any, **fields: Any) -> list[str]:
    message = Message(json.dumps(fields).encode(), {"sender": "test"}, "1", "projects/p/subscriptions/jobs")
    return [outcome.status for outcome in stage.worker.deliver(message)]


def outputs(bench: Any, prefix: str) -> list[str]:
    return [blob.name for blob in bench.clients.storage.list_blobs("sam3-output", prefix=prefix)]


def put(bench: Any, name: str, text: str) -> None:
    bench.clients.storage.bucket("sam3-output").blob(name).upload_from_string(text)


def test_a_job_with_prompts_has_a_result_of_its_own(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("job/a.jpg", b"image", "image/jpeg")
    job = {"image": uri(image), "prompts": ["cat"], "options": {"threshold": 0.3}, "id": "o-7", "metadata": {"o": 7}}
    assert deliver(s, **job) == ["succeeded"]
    [message] = bench.results.about("job/a.jpg")
    [name] = outputs(bench, "job/a.jpg")
    assert name == f"job/a.jpg.{message.attributes['job_id'][:12]}.json"
    assert message.data["output"] == f"gs://sam3-output/{name}"
    assert (message.data["id"], message.data["metadata"]) == ("o-7", {"o": 7})
    document = bench.output(name)
    assert document["input"]["generation"] == image.generation
    assert document["request"] == {
        "prompts": [{"text": "cat"}],
        "options": {"threshold": 0.3, "mask_threshold": 0.5, "max_instances": 200},
        "source": None,
        "metadata": {"o": 7},
    }


def test_a_job_done_twice_is_a_replay_with_its_own_id(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("job/twice.jpg", b"image", "image/jpeg")
    statuses = [deliver(s, image=uri(image), prompts=["cat"], id=each) for each in ("first", "second")]
    assert statuses == [["succeeded"], ["replayed"]]
    assert s.segmenter.calls == 1
    messages = bench.results.about("job/twice.jpg")
    assert [(m.data["id"], m.attributes["replayed"]) for m in messages] == [("first", "false"), ("second", "true")]
    assert len(outputs(bench, "job/twice.jpg")) == 1


def test_two_jobs_on_one_image_leave_two_results_beside_that_of_the_upload(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("job/two.prompts.json", '["cat"]')
    image = bench.upload("job/two.jpg", b"image", "image/jpeg")
    assert s.handle(image) == ["succeeded"]
    assert [deliver(s, image=uri(image), prompts=[prompt]) for prompt in ("cat", "dog")] == [["succeeded"]] * 2
    assert len(outputs(bench, "job/two.jpg")) == 3
    assert bench.output("job/two.jpg.json")["request"]["source"]["uri"].endswith("two.prompts.json")


def test_jobs_with_equal_prompts_and_different_outputs_are_both_written(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("job/places.jpg", b"image", "image/jpeg")
    for name in ("orders/1.json", "orders/2.json"):
        assert deliver(s, image=uri(image), prompts=["cat"], output=f"gs://sam3-output/{name}") == ["succeeded"]
        assert deliver(s, image=uri(image), prompts=["cat"], output=f"gs://sam3-output/{name}") == ["replayed"]
    assert bench.output("orders/1.json")["job_id"] == bench.output("orders/2.json")["job_id"]
    assert outputs(bench, "job/places") == []


def test_a_job_without_prompts_finds_them_as_an_upload_does(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("job/found.jpg", b"image", "image/jpeg")
    assert deliver(s, image=uri(image)) == ["waiting_for_prompts"]
    bench.upload("job/found.prompts.json", '{"prompts": ["cat"], "metadata": {"from": "sidecar"}}')
    assert deliver(s, image=f"{uri(image)}#{image.generation}") == ["succeeded"]
    assert s.handle(image) == ["replayed"]
    output = "gs://sam3-output/orders/found.json"
    assert deliver(s, image=uri(image), output=output, metadata={"from": "job"}) == ["succeeded"]
    assert bench.output("orders/found.json")["request"]["metadata"] == {"from": "job"}
    metadata = [message.data["metadata"]["from"] for message in bench.results.about("job/found.jpg")]
    assert metadata == ["sidecar", "sidecar", "job"]


def test_a_sidecar_may_say_where_its_result_goes(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("job/side.jpg", b"image", "image/jpeg")
    sidecar = '{"prompts": ["cat"], "output": "gs://sam3-output/orders/side.json"}'
    assert s.handle(bench.upload("job/side.prompts.json", sidecar)) == ["succeeded"]
    assert s.handle(image) == ["replayed"]
    assert (outputs(bench, "job/side"), outputs(bench, "orders/side")) == ([], ["orders/side.json"])
    output = "gs://sam3-output/orders/side-job.json"
    assert deliver(s, image=uri(image), output=output) == ["succeeded"], "the job's own word counts more"
    assert outputs(bench, "orders/side-job") == ["orders/side-job.json"]
    assert s.handle(bench.upload("job/side.prompts.json", "{broken")) == ["failed"]
    assert outputs(bench, "job/side") == ["job/side.jpg.error.json"]
    assert s.handle(bench.upload("job/side.prompts.json", sidecar)) == ["replayed"]
    assert outputs(bench, "job/side") == [], "the error of the broken sidecar is not true any more"


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("a.jpg", "a"), ("a", "a.jpg"), ("a.jpg", "a.jpg.png")])
@pytest.mark.parametrize("sidecar", ["stem first", "stem last", "folder"])
def test_an_output_for_several_images_is_refused(bench: Any, stage: Any, names: tuple[str, str], sidecar: str) -> None:
    """Their results would replace each other, and each delivery would do the work again."""
    s = stage()
    folder = f"several-{sidecar}-{'-'.join(names)}"
    stem = "a.jpg" if names[1] == "a.jpg.png" else "a"
    file = "_prompts.json" if sidecar == "folder" else f"{stem}.prompts.json"
    text = json.dumps({"prompts": ["cat"], "output": f"gs://sam3-output/{folder}/all.json"})

    def prompts() -> Any:
        return bench.upload(f"{folder}/{file}", text)

    if sidecar != "stem last":
        prompts()
    events = [bench.upload(f"{folder}/{name}", b"image", "image/png") for name in names]
    if sidecar == "stem last":
        assert s.handle(prompts()) == ["failed"] * 2
    else:
        assert [s.handle(event) for event in events] == [["failed"]] * 2
    assert [s.handle(event) for event in events] == [["replayed"]] * 2
    assert outputs(bench, f"{folder}/") == sorted(f"{folder}/{name}.error.json" for name in names)
    error = bench.output(f"{folder}/{names[0]}.error.json")["error"]
    assert error["code"] == "bad_sidecar"
    assert error["detail"].startswith(f"{folder}/{file}: output: 'gs://sam3-output/{folder}/all.json' is not allowed")
    assert s.segmenter.calls == 0


def test_an_output_of_one_image_is_taken_whatever_else_is_called_like_it(bench: Any, stage: Any) -> None:
    """What has a sidecar of a higher rank, is no image, or has been written by this service is no second one."""
    s = stage()
    text = json.dumps({"prompts": ["cat"], "output": "gs://sam3-output/orders/one.json"})
    bench.upload("one/a.png", b"picture", "image/png", metadata={"sam3-job-id": "x"})
    bench.upload("one/a", b"text", "text/plain")
    image = bench.upload("one/a.jpg", b"image", "image/jpeg")
    assert s.handle(bench.upload("one/a.prompts.json", text)) == ["succeeded", "ignored"]
    assert s.handle(image) == ["replayed"]
    bench.upload("one/b.prompts.txt", "dog")
    bench.upload("one/b.png", b"image", "image/png")
    own = bench.upload("one/b.jpg", b"image", "image/jpeg")
    bench.upload("one/b.jpg.prompts.json", text.replace("one.json", "b.json"))
    assert s.handle(own) == ["succeeded"]


def test_an_image_that_is_left_alone_has_the_output_again(bench: Any, stage: Any) -> None:
    s = stage()
    text = json.dumps({"prompts": ["cat"], "output": "gs://sam3-output/orders/alone.json"})
    bench.upload("alone/a.prompts.json", text)
    bench.upload("alone/a.png", b"image", "image/png")
    image = bench.upload("alone/a.jpg", b"image", "image/jpeg")
    assert s.handle(image) == ["failed"]
    bench.delete("alone/a.png")
    assert s.handle(image) == ["succeeded"]
    assert outputs(bench, "alone/a") == []


def test_an_error_is_outdated_also_when_the_place_must_be_looked_at_twice(bench: Any, stage: Any) -> None:
    """What lies there was made of a newer image, and so may know newer inputs."""
    s = stage()
    bench.upload("job/twice-a.jpg", b"image", "image/jpeg")
    assert s.handle(bench.upload("job/twice-a.prompts.json", "{broken")) == ["failed"]
    newer = bench.upload("job/twice-b.jpg", b"image", "image/jpeg")
    output = "gs://sam3-output/orders/twice.json"
    assert deliver(s, image=uri(newer), prompts=["cat"], output=output) == ["succeeded"]
    sidecar = bench.upload("job/twice-a.prompts.json", json.dumps({"prompts": ["cat"], "output": output}))
    assert s.handle(sidecar) == ["succeeded"]
    assert outputs(bench, "job/twice-a") == []


def test_an_outdated_error_that_a_crash_has_left_goes_with_the_redelivery(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("job/left.jpg", b"image", "image/jpeg")
    s.handle(bench.upload("job/left.prompts.json", "{broken"))
    output = "gs://sam3-output/orders/left.json"
    sidecar = bench.upload("job/left.prompts.json", json.dumps({"prompts": ["cat"], "output": output}))

    def down(call: str) -> None:
        if call == "delete":
            raise CloudUnavailable("down")

    s.store.trouble = down
    with pytest.raises(CloudUnavailable):
        s.handle(sidecar)
    assert outputs(bench, "job/left") == ["job/left.jpg.error.json"]
    s.store.trouble = lambda call: None
    assert s.handle(sidecar) == ["replayed"]
    assert outputs(bench, "job/left") == []


@pytest.mark.parametrize("by", ["job", "somebody else"])
def test_what_no_prompts_have_outdated_stays(bench: Any, stage: Any, by: str) -> None:
    """An error while another job says itself where its result goes, and an object that only is called like one."""
    s = stage()
    name = f"job/stays-{by}"
    image = bench.upload(f"{name}.jpg", b"image", "image/jpeg")
    bench.upload(f"{name}.prompts.json", "{broken")
    output = f"gs://sam3-output/orders/{by}.json"
    if by == "job":
        assert s.handle(image) == ["failed"]
        assert deliver(s, image=uri(image), prompts=["cat"], output=output) == ["succeeded"]
        bench.upload(f"{name}.prompts.json", '["dog"]')
        assert deliver(s, image=uri(image), output=output) == ["succeeded"]
    else:
        put(bench, f"{name}.jpg.error.json", '"precious"')
        sidecar = json.dumps({"prompts": ["cat"], "output": output})
        assert s.handle(bench.upload(f"{name}.prompts.json", sidecar)) == ["succeeded"]
    assert outputs(bench, name) == [f"{name}.jpg.error.json"]


@pytest.mark.parametrize("taken", ["mine.json", "mine.error.json"])
@pytest.mark.parametrize("by", ["job", "sidecar", "job with unreadable prompts"])
def test_what_somebody_else_has_written_is_never_replaced(bench: Any, stage: Any, taken: str, by: str) -> None:
    s = stage()
    folder = f"taken-{by}-{taken}"
    put(bench, f"{folder}/{taken}", '"precious"')
    image = bench.upload(f"{folder}/a.jpg", b"image", "image/jpeg")
    output = f"gs://sam3-output/{folder}/mine.json"
    if by == "job":
        assert deliver(s, image=uri(image), prompts=["cat"], output=output) == ["failed"]
    elif by == "job with unreadable prompts":
        bench.upload(f"{folder}/a.prompts.json", "{broken")
        assert deliver(s, image=uri(image), output=output) == ["failed"]
    else:
        bench.upload(f"{folder}/a.prompts.json", json.dumps({"prompts": ["cat"], "output": output}))
        assert s.handle(image) == ["failed"]
    [message] = bench.results.about(f"{folder}/a.jpg")
    assert message.data["error"]["code"] == "output_taken"
    assert f"gs://sam3-output/{folder}/{taken}" in message.data["error"]["detail"]
    assert message.data["output"] is None
    assert outputs(bench, folder) == [f"{folder}/{taken}"]
    assert bench.output(f"{folder}/{taken}") == "precious"
    assert s.segmenter.calls == 0


def test_an_output_that_comes_to_be_meanwhile_is_not_replaced_either(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("job/meanwhile.jpg", b"image", "image/jpeg")
    s.segmenter.before = lambda: put(bench, "orders/meanwhile.json", '"precious"')
    output = "gs://sam3-output/orders/meanwhile.json"
    assert deliver(s, image=uri(image), prompts=["cat"], output=output) == ["failed"]
    assert bench.output("orders/meanwhile.json") == "precious"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("prompts", [["cat"], None])
def test_a_job_whose_image_is_gone_or_replaced(bench: Any, stage: Any, named: bool, prompts: Any) -> None:
    s = stage()
    name = f"job/gone-{named}-{prompts is None}.jpg"
    rest = {"prompts": prompts, "id": "o-8", "output": f"gs://sam3-output/gone/{named}.json" if named else None}
    old = bench.upload(name, b"old", "image/jpeg")
    bench.upload(name, b"new", "image/jpeg")
    bench.upload(name.replace(".jpg", ".prompts.json"), '["cat"]')
    assert deliver(s, image=f"{uri(old)}#{old.generation}", **rest) == ["failed"]
    bench.delete(name)
    assert deliver(s, image=f"{uri(old)}#{old.generation}", **rest) == ["failed"]
    assert deliver(s, image=uri(old), **rest) == ["failed"]
    messages = bench.results.about(name)
    assert [message.data["error"]["code"] for message in messages] == ["stale_input", "input_gone", "input_gone"]
    assert {message.data["id"] for message in messages} == {"o-8"}
    assert {message.data["output"] for message in messages} == {None}
    assert messages[0].data["input"] == {"uri": uri(old), "generation": old.generation, "crc32c": None}
    assert outputs(bench, "gone/") == outputs(bench, name) == []


def test_an_image_replaced_while_its_job_is_done(bench: Any, stage: Any) -> None:
    """A job that is not pinned is for whatever is live when its result is written; one that is pinned fails."""
    for pinned, expected in ((False, ["succeeded"]), (True, ["failed"])):
        s = stage()
        name = f"job/replaced-{pinned}.jpg"
        image = bench.upload(name, b"old", "image/jpeg")
        image_uri = f"{uri(image)}#{image.generation}" if pinned else uri(image)
        looks: list[Any] = []

        def replace(call: str, name: str = name, looks: list[Any] = looks) -> None:
            if call == "read":
                looks.append(bench.upload(name, b"new", "image/jpeg") if not looks else None)

        s.store.trouble = replace
        assert deliver(s, image=image_uri, prompts=["cat"]) == expected
        found = outputs(bench, name)
        assert [bench.output(each)["input"]["generation"] for each in found] == (
            [] if pinned else [looks[0].generation]
        )


def test_the_name_of_a_result_is_that_of_its_own_key(bench: Any, stage: Any) -> None:
    """Also when the image is replaced after the name has been made of its generation."""
    s = stage()
    image = bench.upload("job/named.jpg", b"old", "image/jpeg")
    new: list[Any] = []

    def replace(call: str) -> None:
        if call == "list" and not new:
            new.append(bench.upload("job/named.jpg", b"new", "image/jpeg"))

    s.store.trouble = replace
    assert deliver(s, image=uri(image), prompts=["cat"]) == ["succeeded"]
    [name] = outputs(bench, "job/named.jpg")
    document = bench.output(name)
    assert document["input"]["generation"] == new[0].generation
    assert name == f"job/named.jpg.{document['job_id'][:12]}.json"


def test_a_fault_of_a_job_is_written_beside_its_own_output(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("job/fault.jpg", b"image", "image/jpeg")

    def fail() -> None:
        raise BadField("prompts[0].boxes[0]", [0.0, 0.0, 9.0, 9.0], "it lies outside the image")

    s.segmenter.before = fail
    for output in (None, "gs://sam3-output/orders/fault.json"):
        job = {"image": uri(image), "prompts": ["cat"], "output": output}
        assert [deliver(s, **job), deliver(s, **job)] == [["failed"], ["replayed"]]
    [keyed] = outputs(bench, "job/fault.jpg")
    assert keyed.endswith(".error.json")
    assert len(keyed) == len("job/fault.jpg..error.json") + 12
    assert bench.output("orders/fault.error.json")["error"]["code"] == "bad_field"
    s.segmenter.before = lambda: None
    assert deliver(s, image=uri(image), prompts=["cat"], output=output) == ["succeeded"]
    assert outputs(bench, "orders/fault") == ["orders/fault.json"]


def test_a_name_that_leaves_no_room_for_the_key(bench: Any, stage: Any) -> None:
    image = bench.upload("job/" + "n" * 1000 + ".jpg", b"image", "image/jpeg")
    assert deliver(stage(), image=uri(image), prompts=["cat"]) == ["failed"]
    [message] = bench.results.about(image.name)
    assert message.data["error"]["code"] == "name_too_long"
    assert message.data["input"]["generation"] == image.generation
    assert deliver(stage(), image=uri(image), prompts=["cat"], output="gs://sam3-output/short.json") == ["succeeded"]


def test_images_of_other_buckets_must_be_allowed_and_need_a_place(bench: Any, stage: Any) -> None:
    put(bench, "elsewhere/a.jpg", "image")
    image = "gs://sam3-output/elsewhere/a.jpg"
    assert deliver(stage(READ_BUCKETS="sam3-input"), image=image, prompts=["cat"]) == ["dead_lettered"]
    assert "READ_BUCKETS" in bench.dead_letters.all()[-1].attributes["reason"]
    s = stage()
    assert deliver(s, image=image, prompts=["cat"]) == ["succeeded"]
    put(bench, "elsewhere/a.prompts.json", '["cat"]')
    assert deliver(s, image=image) == ["failed"], "its result would have the name of another image's result"
    assert deliver(s, image=image, output="gs://sam3-output/elsewhere/x.json") == ["succeeded"]


@pytest.mark.parametrize("bare", [False, True])
def test_a_job_finds_the_folder_prompts_of_an_image_that_is_no_input(bench: Any, stage: Any, bare: bool) -> None:
    """As an upload does, up to the top of its bucket; its upload and theirs start nothing."""
    s = stage(INPUT_PREFIX="in/")
    folder = f"folders-{bare}"
    prompts = bench.upload(f"{folder}/_prompts.json", '["cat"]')
    image = bench.upload(f"{folder}/deep/a" + ("" if bare else ".jpg"), b"image", "image/jpeg")
    assert [s.handle(image), s.handle(prompts)] == [["ignored"], ["ignored"]]
    assert deliver(s, image=uri(image)) == ["succeeded"]
    source = bench.output(f"{image.name}.json")["request"]["source"]
    assert source == {"kind": "folder", "uri": uri(prompts), "generation": prompts.generation}
    put(bench, f"{folder}/b/_prompts.txt", "dog")
    put(bench, f"{folder}/b/a.jpg", "image")
    output = f"gs://sam3-output/{folder}/there.json"
    assert deliver(s, image=f"gs://sam3-output/{folder}/b/a.jpg", output=output) == ["succeeded"]
    assert bench.output(f"{folder}/there.json")["request"]["source"]["uri"].endswith("/b/_prompts.txt")


@pytest.mark.parametrize("output", ["gs://sam3-input/x.json", "gs://sam3-output/x.prompts.json"])
def test_a_job_that_wants_a_forbidden_output_is_a_dead_letter(bench: Any, stage: Any, output: str) -> None:
    image = bench.upload("job/forbidden.jpg", b"image", "image/jpeg")
    assert deliver(stage(), image=uri(image), prompts=["cat"], output=output) == ["dead_lettered"]
    letter = bench.dead_letters.all()[-1]
    assert letter.data["output"] == output
    assert letter.attributes["reason"].startswith(f"not a job: output: '{output}' is not allowed")
    assert (letter.attributes["sender"], letter.attributes["subscription"]) == ("test", "projects/p/subscriptions/jobs")


def test_an_output_in_an_input_bucket_starts_no_work(bench: Any, stage: Any) -> None:
    s = stage(WRITE_BUCKETS="sam3-input,sam3-output")
    image = bench.upload("job/loop.jpg", b"image", "image/jpeg")
    assert deliver(s, image=uri(image), prompts=["cat"], output="gs://sam3-input/job/loop.json") == ["succeeded"]
    written = bench.clients.storage.bucket("sam3-input").get_blob("job/loop.json")
    assert json.loads(written.download_as_bytes())["results"]
    again = bench.upload("job/loop.json", written.download_as_bytes(), "application/json")
    assert s.handle(again) == ["ignored"]


def test_at_most_eight_calls_for_a_job(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("job/calls.prompts.json", '["cat"]')
    image = bench.upload("job/calls.jpg", b"image", "image/jpeg")
    for prompts in (["cat"], None):
        for output in (None, f"gs://sam3-output/calls/{prompts is None}.json"):
            s.store.calls.clear(), s.publisher.calls.clear()
            deliver(s, image=uri(image), prompts=prompts, output=output)
            assert len(s.store.calls) + len(s.publisher.calls) <= 8, s.store.calls


def test_a_job_waits_for_the_model_and_survives_trouble(bench: Any, stage: Any) -> None:
    s = stage()
    image = bench.upload("job/trouble.jpg", b"image", "image/jpeg")
    s.segmenter.phase = "loading"
    with pytest.raises(NotReady):
        deliver(s, image=uri(image), prompts=["cat"])
    assert s.store.calls == []
    s.segmenter.phase = "ready"

    def down(call: str) -> None:
        if call == "write_json":
            raise CloudUnavailable("down")

    s.store.trouble = down
    with pytest.raises(CloudUnavailable):
        deliver(s, image=uri(image), prompts=["cat"])
    assert bench.results.about("job/trouble.jpg") == []
    s.store.trouble = lambda call: None
    assert deliver(s, image=uri(image), prompts=["cat"]) == ["succeeded"]


def in_push(**job: Any) -> bytes:
    return json.dumps({"message": {"data": base64.b64encode(json.dumps(job).encode()).decode()}}).encode()


BAD_REQUESTS: list[tuple[dict[str, str], bytes, str]] = [
    ({}, b"", "not a Pub/Sub push"),
    ({}, b'"no push"', "not a Pub/Sub push"),
    ({"Content-Type": "application/cloudevents-batch+json"}, b"[]", "a batch of CloudEvents"),
    ({"Content-Type": "application/cloudevents+json; charset=utf-8"}, b"{}", "specversion: Field required"),
    ({"ce-type": "google.cloud.storage.object.v1.finalized"}, b"{}", "specversion: Field required"),
    ({}, b'{"message": {"data": "%%%"}}', "not base64"),
    ({}, b'{"message": {"data": "YmFkIGpvYg=="}}', "not JSON"),
    ({}, b'{"message": {"attributes": {"a": "b"}}}', "no notification"),
    ({}, b'{"message": {"attributes": {"eventType": "x", "bucketId": "b", "objectId": "o"}}}', "objectGeneration"),
    (
        {},
        b'{"message": {"attributes": {"eventType": "x", "bucketId": "b", "objectId": "o", "objectGeneration": "new"}}}',
        "attributes.objectGeneration: Input should be a valid integer",
    ),
    ({}, in_push(image="gs://sam3-input/a.jpg", prompts=["cat"], output="gs://strangers/a.json"), "(WRITE_BUCKETS)"),
    ({}, in_push(image="gs://sam3-input/a.jpg", prompts=["x" * 900] * 11_000), "11000 prompts"),
    ({}, b'{"message": {"data": "eyJpbWFnZSI6ICJnczovL3N0cmFuZ2Vycy9hLmpwZyJ9"}}', "READ_BUCKETS"),
]


@pytest.fixture(scope="module")
def url(bench: Any, start_service: Callable[..., Any]) -> str:
    address: str = start_service(bench.cloud.environment()).wait_until_ready().url
    return f"{address}/events"


@pytest.mark.parametrize(("headers", "body", "reason"), BAD_REQUESTS, ids=[reason for _, _, reason in BAD_REQUESTS])
def test_what_cannot_be_read_is_answered_204_and_kept(
    bench: Any, url: str, headers: dict[str, str], body: bytes, reason: str
) -> None:
    before = len(bench.dead_letters.all())
    assert requests.post(url, body, headers=headers, timeout=30).status_code == 204
    [letter] = bench.dead_letters.all()[before:]
    assert reason in letter.attributes["reason"]


def test_cloud_events_through_the_door(bench: Any, url: str) -> None:
    """A finalized object, a job in a message, and a type that is none of ours; header names in odd cases."""
    image = bench.upload("door/a.jpg", b"no image", "image/jpeg")
    bench.upload("door/a.prompts.json", '["cat"]')
    head = {"CE-SpecVersion": "1.0", "ce-ID": "7", "Ce-Source": "//x", "content-type": "application/json"}
    data: dict[str, Any] = {"bucket": image.bucket, "name": image.name, "generation": str(image.generation)}
    job = {"image": uri(image), "prompts": ["dog"], "id": "by event"}
    published = {"message": {"data": base64.b64encode(json.dumps(job).encode()).decode()}}
    for event_type, body in (
        ("google.cloud.storage.object.v1.finalized", data | {"contentType": "image/jpeg"}),
        ("google.cloud.pubsub.topic.v1.messagePublished", published),
        ("com.example.other", {}),
    ):
        answer = requests.post(url, json.dumps(body), headers=head | {"ce-type": event_type}, timeout=60)
        assert answer.status_code == 204, answer.text
    messages = bench.results.about("door/a.jpg")
    assert [message.data["id"] for message in messages] == [None, "by event"]
    assert {message.data["error"]["code"] for message in messages} == {"not_an_image"}
