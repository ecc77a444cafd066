"""Prompts from metadata, folders and the defaults, and what a folder's prompts set in motion."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from service.core.folders import FolderPage, image_job
from service.core.naming import parse_image_uri
from service.errors import CloudUnavailable, EventsOff
from tools.localcloud.settings import LocalCloudSettings

CAT, DOG, FOX = '["cat"]', '["dog"]', '["fox"]'


@dataclass
class Jobs:
    """What comes from the jobs topic, message by message, to a staged worker."""

    bench: Any
    mailbox: Any
    read: int = 0

    def new(self) -> list[dict[str, str]]:
        return [message.data for message in self._new()]

    def _new(self) -> list[Any]:
        messages: list[Any] = self.mailbox.all()[self.read :]
        self.read += len(messages)
        return messages

    def work(self, s: Any) -> tuple[list[str], Counter[str]]:
        """Deliver everything until nothing more comes; the images that were asked for, and all outcomes."""
        images: list[str] = []
        outcomes: Counter[str] = Counter()
        while messages := self._new():
            for message in messages:
                if "image" in message.data:
                    images.append(parse_image_uri(message.data["image"], "image")[1])
                outcomes.update(s.deliver(message.data, message.attributes))
        return sorted(images), outcomes


@pytest.fixture(scope="module")
def bench(open_bench: Callable[..., Any]) -> Any:
    """Of its own, as a folder may be the whole bucket."""
    return open_bench(LocalCloudSettings())


@pytest.fixture(scope="module")
def mailbox(bench: Any) -> Any:
    return type(bench.results)(bench.clients.subscriber, bench.cloud.settings.jobs_subscription)


@pytest.fixture
def jobs(bench: Any, mailbox: Any) -> Jobs:
    jobs = Jobs(bench, mailbox)
    jobs.new()
    return jobs


def image(bench: Any, name: str, **options: Any) -> Any:
    return bench.upload(name, b"image", "image/jpeg", **options)


def as_in(name: str, prompts: str) -> str:
    """The one phrase of a JSON list as a sidecar of that name has it."""
    return str(json.loads(prompts)[0]) if name.endswith(".txt") else prompts


def labels(bench: Any, name: str) -> list[str]:
    return [result["label"] for result in bench.output(f"{name}.json")["results"]]


def made_from(bench: Any, name: str) -> str:
    """The name of the object that the prompts came from, or the kind of a source that is none."""
    source = bench.output(f"{name}.json")["request"]["source"]
    return str(source["uri"].removeprefix("gs://sam3-input/") if "uri" in source else source["kind"])


def set_metadata(bench: Any, name: str, metadata: dict[str, str]) -> None:
    """As a person does later: this makes no generation, and no event that we listen to."""
    blob = bench.clients.storage.bucket("sam3-input").get_blob(name)
    blob.metadata = metadata
    blob.update()


# Which source counts


def test_the_first_source_that_exists(bench: Any, stage: Any) -> None:
    s = stage(DEFAULT_PROMPTS='["default"]')
    name = "order/x/a.jpg"
    event = image(bench, name, metadata={"prompts": '["metadata"]', "options": '{"threshold": 0.25}'})
    files = [
        ("order/x/a.prompts.json", "sidecar"),
        ("order/x/_prompts.json", "folder"),
        ("order/x/_prompts.txt", "folder"),
        ("order/_prompts.json", "folder"),
        ("_prompts.txt", "folder"),
    ]
    generations = {
        file: bench.upload(file, json.dumps([file]) if file.endswith("json") else file).generation for file, _ in files
    }

    def check(label: str, source: dict[str, Any]) -> None:
        assert s.handle(event) == ["succeeded"]
        document = bench.output(f"{name}.json")
        assert [result["label"] for result in document["results"]] == [label]
        assert document["request"]["source"] == source

    for file, kind in files:
        check(file, {"kind": kind, "uri": f"gs://sam3-input/{file}", "generation": generations[file]})
        bench.delete(file)
        if kind == "sidecar":
            check("metadata", {"kind": "metadata", "uri": f"gs://sam3-input/{name}", "generation": event.generation})
            assert bench.output(f"{name}.json")["request"]["options"]["threshold"] == 0.25
            set_metadata(bench, name, {})
    check("default", {"kind": "default"})
    assert stage().handle(event) == ["waiting_for_prompts"]


def test_that_a_source_is_missing_is_not_remembered(bench: Any, stage: Any) -> None:
    s = stage()
    event = image(bench, "later/x/a.jpg")
    assert s.handle(event) == ["waiting_for_prompts"]
    bench.upload("later/_prompts.json", CAT)
    assert s.handle(event) == ["succeeded"]
    bench.upload("later/x/_prompts.json", DOG)
    assert s.handle(event) == ["succeeded"]
    assert labels(bench, "later/x/a.jpg") == ["dog"]


@pytest.mark.parametrize("prefix", ["up/in/", "up/in", "up/i"])
def test_parents_count_up_to_the_input_prefix(bench: Any, stage: Any, prefix: str) -> None:
    name = f"up/in/{len(prefix)}/a.jpg"
    s = stage(INPUT_PREFIX=prefix)
    event = image(bench, name)
    bench.upload("up/_prompts.json", CAT)
    assert s.handle(event) == ["waiting_for_prompts"]
    bench.upload("up/in/_prompts.json", DOG)
    assert s.handle(event) == ["succeeded"]
    assert labels(bench, name) == ["dog"]
    bench.delete("up/in/_prompts.json")


@pytest.mark.parametrize("kind", ["metadata", "folder"])
def test_a_source_that_cannot_be_read_is_the_inputs_fault_and_hides_the_lower_ones(
    bench: Any, stage: Any, kind: str
) -> None:
    s = stage(DEFAULT_PROMPTS="cat")
    name = f"broken/{kind}/a.jpg"
    bench.upload("broken/_prompts.json", CAT)
    bench.upload(f"broken/{kind}/_prompts.json", "{broken" if kind == "folder" else DOG)
    event = image(bench, name, metadata={"prompts": "{broken"} if kind == "metadata" else None)
    assert [s.handle(event), s.handle(event)] == [["failed"], ["replayed"]]
    assert bench.output(f"{name}.error.json")["error"]["code"] == "bad_sidecar"
    assert bench.output(f"{name}.json") is None


def test_corrected_metadata_is_other_work_although_it_is_no_new_generation(bench: Any, stage: Any) -> None:
    s = stage()
    event = image(bench, "patch/a.jpg", metadata={"prompts": "{"})
    assert s.handle(event) == ["failed"]
    set_metadata(bench, "patch/a.jpg", {"prompts": "[]"})
    assert s.handle(event) == ["failed"]
    assert "give 1 to 64" in bench.output("patch/a.jpg.error.json")["error"]["detail"]
    set_metadata(bench, "patch/a.jpg", {"prompts": CAT})
    assert s.handle(event) == ["succeeded"]


@pytest.mark.parametrize("name", ["photo.jpg", "photo"])
@pytest.mark.parametrize("depth", [0, 3, 40])
def test_at_most_eight_calls_at_any_depth(bench: Any, stage: Any, name: str, depth: int) -> None:
    s = stage()
    bench.upload("calls/_prompts.json", "{broken")
    event = image(bench, f"calls/{'d/' * depth}{name}")
    assert s.handle(event) == ["failed"]
    bench.upload("calls/_prompts.json", CAT)
    s.store.calls.clear(), s.publisher.calls.clear()
    assert s.handle(event) == ["succeeded"]
    assert len(s.store.calls) + len(s.publisher.calls) <= 8, s.store.calls
    order = [call for call in s.store.calls if call in ("list", "stat_all", "read", "write_json")]
    assert order == ["list", "list", "stat_all", "read", "read", "write_json"]


def test_folders_are_looked_at_only_when_nothing_nearer_is_there(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("near/a.prompts.json", CAT)
    for event in (image(bench, "near/a.jpg"), image(bench, "near/b.jpg", metadata={"prompts": CAT})):
        assert s.handle(event) == ["succeeded"]
    assert "stat_all" not in s.store.calls


def test_folder_prompts_replaced_while_they_are_read(bench: Any, stage: Any) -> None:
    s = stage()
    bench.upload("swap/_prompts.json", CAT)
    event = image(bench, "swap/a.jpg")

    def replace(name: str) -> None:
        if name == "read" and s.store.calls.count("read") == 1:
            bench.upload("swap/_prompts.json", DOG)

    s.store.trouble = replace
    assert s.handle(event) == ["succeeded"]
    assert labels(bench, "swap/a.jpg") == ["dog"]


# What a folder's prompts set in motion


def test_sixty_images_seven_objects_at_a_time(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage(folder_page_size=7)
    names = [f"sixty/{number % 3}/{number:02d}.jpg" for number in range(60)]
    for name in names:
        assert s.handle(image(bench, name)) == ["waiting_for_prompts"]
    event = bench.upload("sixty/_prompts.json", CAT)
    assert s.handle(event) == ["fanned_out"]
    assert len(jobs.mailbox.all()) - jobs.read == 8, "seven jobs and the continuation"
    asked, outcomes = jobs.work(s)
    assert asked == sorted(names)
    assert outcomes == {"succeeded": 60, "fanned_out": 8}  # the ninth page was the first
    assert s.segmenter.calls == 60
    for name in names:
        assert made_from(bench, name) == "sixty/_prompts.json"

    another = stage(folder_page_size=7)
    assert another.handle(event) == ["fanned_out"]
    assert jobs.work(another) == ([], {"fanned_out": 8}), "a second delivery, to another instance, asks for nothing"
    assert s.handle(bench.upload("sixty/_prompts.json", DOG)) == ["fanned_out"]
    assert jobs.work(s)[0] == sorted(names)
    assert {labels(bench, name)[0] for name in names} == {"dog"}


def test_exactly_the_images_that_depend_on_it_are_done_again(bench: Any, stage: Any, jobs: Jobs) -> None:
    """Several levels, sidecars, metadata, results and errors, in pages of three."""
    s = stage(folder_page_size=3)
    own = {"levels/own.jpg": "levels/own.prompts.json", "levels/x/Own.jpg": "levels/x/Own.jpg.prompts.txt"}
    texts = {
        "levels/_prompts.json": CAT,
        "levels/x/y/_prompts.txt": "fox",
        **{name: as_in(name, DOG) for name in own.values()},
    }
    for name, text in texts.items():
        bench.upload(name, text)
    bench.upload("outside/_prompts.json", CAT)
    events = [
        image(bench, "levels/meta.jpg", metadata={"prompts": DOG}),
        *(image(bench, name) for name in (*own, "levels/a.jpg", "levels/x/b.jpg", "levels/z.jpg")),
        *(image(bench, name) for name in ("levels/x/y/c.jpg", "levels/x/y/z/d.jpg", "outside/e.jpg")),
    ]
    for event in events:
        assert s.handle(event) == ["succeeded"]
    jobs.work(s)

    def change(name: str, text: str) -> list[str]:
        before = s.segmenter.calls
        assert s.handle(bench.upload(name, text)) == ["fanned_out"]
        asked, outcomes = jobs.work(s)
        assert s.segmenter.calls - before == outcomes["succeeded"]
        assert len(asked) == outcomes["succeeded"] + outcomes["failed"], "no replays"
        return asked

    assert change("levels/_prompts.json", FOX) == ["levels/a.jpg", "levels/x/b.jpg", "levels/z.jpg"]
    assert change("levels/x/y/_prompts.txt", "cat") == ["levels/x/y/c.jpg", "levels/x/y/z/d.jpg"]
    assert change("levels/x/y/_prompts.json", DOG) == ["levels/x/y/c.jpg", "levels/x/y/z/d.jpg"]
    assert s.handle(bench.upload("levels/x/y/_prompts.txt", "fox")) == ["ignored"], "outranked by the JSON beside it"
    assert change("levels/x/_prompts.json", CAT) == ["levels/x/b.jpg"]
    assert change("levels/_prompts.json", "{broken") == ["levels/a.jpg", "levels/z.jpg"]
    assert bench.output("levels/a.jpg.json") is None
    assert bench.output("levels/a.jpg.error.json")["error"]["code"] == "bad_sidecar"
    assert change("levels/_prompts.json", DOG) == ["levels/a.jpg", "levels/z.jpg"]
    assert bench.output("levels/a.jpg.error.json") is None


def test_an_error_of_these_prompts_is_not_done_again(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage()
    for name in ("a.jpg", "b.jpg"):
        image(bench, f"errors/{name}")
    event = bench.upload("errors/_prompts.json", "{broken")
    assert s.handle(event) == ["fanned_out"]
    assert jobs.work(s) == (["errors/a.jpg", "errors/b.jpg"], {"failed": 2})
    assert s.handle(event) == ["fanned_out"]
    assert jobs.new() == []


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_an_image_depends_on_its_folder_again_when_what_ranked_higher_is_gone(
    bench: Any, stage: Any, jobs: Jobs, page_size: int
) -> None:
    """On small pages the higher-ranked source lies beyond their ends."""
    s = stage(folder_page_size=page_size)
    root = f"gone{page_size}"
    higher = {
        f"{root}/a.jpg": f"{root}/a.prompts.json",
        f"{root}/b.jpg": f"{root}/b.jpg.prompts.txt",
        f"{root}/x/A.jpg": f"{root}/x/_prompts.json",
        f"{root}/x/c.jpg": f"{root}/x/_prompts.json",
    }
    for name in higher.values():
        bench.upload(name, as_in(name, CAT))
    for name in higher:
        assert s.handle(image(bench, name)) == ["succeeded"]
    assert s.handle(image(bench, f"{root}/m.jpg", metadata={"prompts": CAT})) == ["succeeded"]
    assert s.handle(bench.upload(f"{root}/_prompts.json", DOG)) == ["fanned_out"]
    assert jobs.work(s)[0] == []
    for name in set(higher.values()):
        bench.delete(name)
    set_metadata(bench, f"{root}/m.jpg", {})
    assert s.handle(bench.upload(f"{root}/_prompts.json", FOX)) == ["fanned_out"]
    assert jobs.work(s)[0] == sorted([*higher, f"{root}/m.jpg"])
    assert made_from(bench, f"{root}/x/c.jpg") == f"{root}/_prompts.json"


def test_metadata_that_came_without_an_event_is_found_by_the_fan_out(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage()
    assert s.handle(image(bench, "patched/a.jpg")) == ["waiting_for_prompts"]
    set_metadata(bench, "patched/a.jpg", {"prompts": DOG})
    s.handle(bench.upload("patched/_prompts.json", CAT))
    assert jobs.work(s) == (["patched/a.jpg"], {"succeeded": 1})
    assert labels(bench, "patched/a.jpg") == ["dog"]


def test_results_of_defaults_and_of_parents_are_replaced(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage(DEFAULT_PROMPTS="cat")
    assert s.handle(image(bench, "lower/x/a.jpg")) == ["succeeded"]
    for name, text in (("lower/_prompts.json", DOG), ("lower/x/_prompts.txt", "fox")):
        s.handle(bench.upload(name, text))
        assert jobs.work(s)[0] == ["lower/x/a.jpg"]
        assert made_from(bench, "lower/x/a.jpg") == name


def test_a_sidecar_that_comes_after_its_image_replaces_the_folders_result(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage()
    bench.upload("twice/_prompts.json", CAT)
    assert s.handle(image(bench, "twice/a.jpg")) == ["succeeded"]
    assert s.handle(bench.upload("twice/a.prompts.json", DOG)) == ["succeeded"]
    assert labels(bench, "twice/a.jpg") == ["dog"]
    assert s.segmenter.calls == 2


def test_an_image_whose_sidecar_is_on_its_way_is_left_to_its_own_event(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage()
    image(bench, "way/a.jpg")
    bench.upload("way/a.prompts.json", DOG)
    assert s.handle(bench.upload("way/_prompts.json", CAT)) == ["fanned_out"]
    assert jobs.new() == []


# What is dropped, kept and delivered again


@pytest.mark.parametrize("deleted", [False, True])
def test_an_image_replaced_or_deleted_after_the_fan_out_is_left_to_the_newer_event(
    bench: Any, stage: Any, jobs: Jobs, deleted: bool
) -> None:
    s = stage()
    old = image(bench, f"after/{deleted}/a.jpg")
    assert s.handle(bench.upload(f"after/{deleted}/_prompts.json", CAT)) == ["fanned_out"]
    if deleted:
        bench.delete(old.name)
    else:
        image(bench, old.name)
    assert jobs.work(s) == ([old.name], {"stale": 1})
    assert bench.results.about(old.name) == []
    bare = {"image": f"gs://{old.bucket}/{old.name}#{old.generation}"}
    assert s.deliver(bare) == ["failed"], "whoever else has published such a job waits for an answer"
    [message] = bench.results.about(old.name)
    assert message.data["error"]["code"] == ("input_gone" if deleted else "stale_input")


def test_replaced_or_deleted_prompts_are_left_to_the_newer_event(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage(folder_page_size=1)
    for name in ("a.jpg", "b.jpg"):
        image(bench, f"old/{name}")
    old = bench.upload("old/_prompts.json", CAT)
    assert s.handle(old) == ["fanned_out"]
    new = bench.upload("old/_prompts.json", DOG)
    assert s.handle(old) == ["stale"]
    assert s.handle(FolderPage(old.bucket, old.name, old.generation, "old/a.jpg")) == ["stale"]
    bench.delete("old/_prompts.json")
    assert s.handle(new) == ["stale"]
    assert s.handle(FolderPage(new.bucket, new.name, new.generation, "old/a.jpg")) == ["stale"]


@pytest.mark.parametrize(
    ("bucket", "name"),
    [("strangers", "_prompts.json"), ("sam3-input", "elsewhere/_prompts.json"), ("sam3-input", "in/a.jpg")],
)
def test_a_page_of_what_is_no_folder_of_ours_is_ignored(stage: Any, jobs: Jobs, bucket: str, name: str) -> None:
    s = stage(INPUT_PREFIX="in/")
    assert s.handle(FolderPage(bucket, name, 1)) == ["ignored"]
    assert s.store.calls == []


def test_without_a_jobs_topic_the_event_is_kept(bench: Any, stage: Any, jobs: Jobs) -> None:
    event = bench.upload("topic/_prompts.json", CAT)
    image(bench, "topic/a.jpg")
    with pytest.raises(EventsOff, match="JOBS_TOPIC is not set") as caught:
        stage(JOBS_TOPIC="").handle(event)
    assert (caught.value.retryable, caught.value.status) == (True, 503)
    s = stage()
    assert s.handle(event) == ["fanned_out"]
    assert jobs.work(s)[0] == ["topic/a.jpg"]


@pytest.mark.parametrize("at", ["publish_all", "publish", "list_range", "stat_all"])
def test_trouble_in_the_middle_of_a_page(bench: Any, stage: Any, jobs: Jobs, at: str) -> None:
    """The redelivery publishes the page's jobs again; that costs replays, and no image is left out."""
    s = stage(folder_page_size=2)
    names = [f"trouble-{at}/{number}.jpg" for number in range(5)]
    for name in names:
        image(bench, name)
    event = bench.upload(f"trouble-{at}/_prompts.json", CAT)
    failed: list[str] = []

    def trouble(call: str) -> None:
        if call == at and not failed:
            failed.append(call)
            raise CloudUnavailable("down")

    s.publisher.trouble = s.store.trouble = trouble
    with pytest.raises(CloudUnavailable):
        s.handle(event)
    assert s.handle(event) == ["fanned_out"]
    asked, outcomes = jobs.work(s)
    assert set(asked) == set(names)
    assert outcomes["replayed"] == (2 if at == "publish" else 0)
    assert s.segmenter.calls == 5


def test_the_continuation_follows_the_jobs(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage(folder_page_size=2)
    for number in range(3):
        image(bench, f"follow/{number}.jpg")
    assert s.handle(bench.upload("follow/_prompts.json", CAT)) == ["fanned_out"]
    assert s.publisher.calls == ["publish_all", "publish"]


def test_pages_that_all_come_twice_stay_one_chain(bench: Any, stage: Any, jobs: Jobs) -> None:
    """Else there were as many as two to the power of the pages."""
    s = stage(folder_page_size=2)
    names = [f"chain/{number}.jpg" for number in range(9)]
    for name in names:
        image(bench, name)
    event = bench.upload("chain/_prompts.json", CAT)
    assert [s.handle(event), s.handle(event)] == [["fanned_out"]] * 2
    asked: list[str] = []
    continuations = 0
    while messages := jobs.new():
        asked += [message["image"].partition("#")[0] for message in messages if "image" in message]
        pages = [message for message in messages if "folder" in message]
        assert len(pages) <= 1
        for page in pages * 2:
            assert s.deliver(page) == ["fanned_out"]
        continuations += len(pages)
    assert continuations == 4
    assert {name.removeprefix("gs://sam3-input/") for name in asked} == set(names)


def test_a_page_that_comes_twice_at_the_same_time_is_continued_once(
    bench: Any, stage: Any, jobs: Jobs, eventually: Callable[..., None]
) -> None:
    s = stage(folder_page_size=2)
    for number in range(3):
        image(bench, f"together/{number}.jpg")
    event = bench.upload("together/_prompts.json", CAT)

    def wait_for_the_other(call: str) -> None:
        if call == "publish_all":
            eventually(lambda: s.worker._folders.waiting == 1, 60)

    s.publisher.trouble = wait_for_the_other
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(s.handle, [event, event])) == [["fanned_out"]] * 2
    assert s.publisher.calls == ["publish_all", "publish"]
    assert sum("folder" in message for message in jobs.new()) == 1


def test_no_model_is_needed_to_fan_out(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage()
    image(bench, "asleep/a.jpg")
    s.segmenter.phase = "loading"
    assert s.handle(bench.upload("asleep/_prompts.json", CAT)) == ["fanned_out"]
    assert len(jobs.new()) == 1


def test_a_page_reads_no_documents_and_makes_few_calls(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage()
    bench.upload("few/_prompts.json", CAT)
    for number in range(30):
        assert s.handle(image(bench, f"few/{number}.jpg")) == ["succeeded"]
    event = bench.upload("few/_prompts.json", DOG)
    s.store.calls.clear(), s.publisher.calls.clear()
    assert s.handle(event) == ["fanned_out"]
    assert "read" not in s.store.calls
    assert len(s.store.calls) + len(s.publisher.calls) <= 8
    assert len(jobs.new()) == 30


# Names, prefixes, buckets


def test_documents_of_images_that_are_gone_do_not_hide_those_of_the_others(bench: Any, stage: Any, jobs: Jobs) -> None:
    """More of them than a page lists, between two images whose results are there."""
    s = stage(folder_page_size=2)
    bench.upload("orphans/_prompts.json", CAT)
    for name in ("a.jpg", "c.jpg", "d.jpg"):
        assert s.handle(image(bench, f"orphans/{name}")) == ["succeeded"]
    for number in range(20):
        s.store.write_json("sam3-output", f"orphans/b{number}.jpg.json", b"{}", if_generation=0, metadata={})
    event = bench.upload("orphans/_prompts.json", DOG)
    s.handle(event)
    assert jobs.work(s)[0] == ["orphans/a.jpg", "orphans/c.jpg", "orphans/d.jpg"]
    s = stage(folder_page_size=2)
    s.handle(event)
    assert jobs.work(s)[0] == []


def test_a_page_is_cut_where_too_many_images_would_be_looked_at_one_by_one(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage(folder_page_size=60)
    names = [f"cut/b{number:02d}.jpg" for number in range(58)]
    for name in names:
        image(bench, name)
    image(bench, "cut/_.jpg")
    for number in range(250):
        s.store.write_json("sam3-output", f"cut/a{number:03d}.json", b"{}", if_generation=0, metadata={})
    event = bench.upload("cut/_prompts.json", CAT)
    s.handle(event)
    asked, outcomes = jobs.work(s)
    assert asked == ["cut/_.jpg", *names]
    assert outcomes == {"succeeded": 59, "fanned_out": 1}
    s = stage(folder_page_size=60)
    s.handle(event)
    assert jobs.work(s)[0] == []


ALIKE = ["a", "a b.jpg", "a!.jpg", "a.jpg", "a.jpg (1).jpg", "a.jpg-2.jpg", "a/b.jpg"]


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
def test_names_of_which_one_begins_like_the_other(bench: Any, stage: Any, jobs: Jobs, page_size: int) -> None:
    """`a.jpg` comes before `a.jpg (1).jpg`, but `a.jpg.json` after `a.jpg (1).jpg.json`."""
    s = stage(folder_page_size=page_size)
    root = f"alike{page_size}"
    names = [
        f"{root}/{name}" for name in ("a", "a b.jpg", "a!.jpg", "a.jpg", "a.jpg (1).jpg", "a.jpg-2.jpg", "a/b.jpg")
    ]
    for name in names:
        image(bench, name)
    event = bench.upload(f"{root}/_prompts.json", CAT)
    s.handle(event)
    assert jobs.work(s)[0] == sorted(names)
    s = stage(folder_page_size=page_size)
    s.handle(event)
    assert jobs.work(s)[0] == []


ODD_FOLDERS = [
    "with space",
    "a#1",
    "[x]*",
    "{a,b}",
    "Küche/Äpfel",
    "😀",
    "100%25",
    "a?b=c&d",
    "a+b",
    "//",
]


@pytest.mark.parametrize("folder", ODD_FOLDERS)
def test_odd_folder_names(bench: Any, stage: Any, jobs: Jobs, folder: str) -> None:
    s = stage(folder_page_size=1)
    names = [f"odd/{folder}/{name}" for name in ("a #1.jpg", "[b]*.jpg", "ü.jpg")]
    events = [image(bench, name) for name in names]
    event = bench.upload(f"odd/{folder}/_prompts.json", CAT)
    s.handle(event)
    assert jobs.work(s)[0] == sorted(names)
    assert [s.handle(each) for each in events] == [["replayed"]] * 3
    assert {made_from(bench, name) for name in names} == {f"odd/{folder}/_prompts.json"}
    s = stage(folder_page_size=1)
    s.handle(event)
    assert jobs.work(s)[0] == []


def test_an_image_whose_name_leaves_no_room_for_its_result(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage()
    names = ["long/" + "n" * 1008 + ".jpg", "long/z.jpg"]
    for name in names:
        image(bench, name)
    s.handle(bench.upload("long/_prompts.json", CAT))
    assert jobs.work(s) == (names, {"failed": 1, "succeeded": 1})


@pytest.mark.parametrize("prefix", ["loop/results/", "loop/r"])
def test_outputs_inside_the_input_prefix_do_not_loop(bench: Any, stage: Any, jobs: Jobs, prefix: str) -> None:
    settings = {"OUTPUT_BUCKET": "sam3-input", "OUTPUT_PREFIX": prefix, "INPUT_PREFIX": "loop/"}
    s = stage(folder_page_size=2, **settings)
    name = f"loop/{len(prefix)}/a.jpg"
    image(bench, name)
    for beside in ("overlay.webp", "_prompts.json"):
        image(bench, f"{prefix}{beside}")
    assert s.handle(bench.upload(f"{prefix}x/_prompts.json", DOG)) == ["ignored"]
    event = bench.upload(f"loop/{len(prefix)}/_prompts.json", CAT)
    s.handle(event)
    assert jobs.work(s)[0] == [name]
    s.handle(bench.upload("loop/_prompts.json", DOG))
    assert jobs.work(s)[0] == []
    s = stage(folder_page_size=2, **settings)
    s.handle(event)
    assert jobs.work(s)[0] == []
    bench.delete("loop/_prompts.json")


def test_several_input_buckets_keep_their_folders_apart(open_bench: Callable[..., Any], stage: Any) -> None:
    own = open_bench(LocalCloudSettings(input_buckets=("first-in", "second-in")))
    jobs = Jobs(own, type(own.results)(own.clients.subscriber, own.cloud.settings.jobs_subscription))
    s = stage(bench=own, OUTPUT_PREFIX="results/{bucket}/", folder_page_size=2)
    for bucket in ("first-in", "second-in"):
        for number in range(3):
            image(own, f"in/{number}.jpg", bucket=bucket)
    s.handle(own.upload("_prompts.json", CAT, bucket="second-in"))
    assert jobs.work(s) == ([f"in/{number}.jpg" for number in range(3)], {"succeeded": 3, "fanned_out": 1})
    assert own.output("results/first-in/in/0.jpg.json") is None
    document = own.output("results/second-in/in/0.jpg.json")
    assert document["request"]["source"]["uri"] == "gs://second-in/_prompts.json"


def test_the_messages_are_those_of_the_documentation(bench: Any, stage: Any, jobs: Jobs) -> None:
    s = stage(folder_page_size=1)
    event = image(bench, "docs/a.jpg")
    image(bench, "docs/b.jpg")
    prompts = bench.upload("docs/_prompts.json", CAT)
    s.handle(prompts)
    messages = jobs.new()
    assert sorted(messages, key=lambda message: "after" in message) == [
        {"folder": f"gs://sam3-input/docs/_prompts.json#{prompts.generation}", "after": "docs/_prompts.json"}
    ]
    s.deliver(messages[0])
    assert {json.dumps(message) for message in jobs.new()} == {
        image_job("sam3-input", "docs/a.jpg", event.generation).decode(),
        json.dumps({**messages[0], "after": "docs/a.jpg"}),
    }
