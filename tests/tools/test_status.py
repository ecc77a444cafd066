"""`sam3 status`: every state, from real lists, and the join of two lists of any size."""

from __future__ import annotations

import gc
import json
import os
import uuid
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.events import Rules
from service.core.naming import is_image, is_sidecar, sidecar_names
from service.core.outputs import Output
from service.gcp import storage
from service.gcp.storage import ObjectInfo
from service.worker.model import ERROR_CODE, INPUT_GENERATION
from tools import cli
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.settings import LocalCloudSettings
from tools.status.command import find_place, look
from tools.status.elsewhere import Elsewhere
from tools.status.walk import walk

INPUT, OUTPUT = "sam3-input", "sam3-output"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(LocalCloudSettings(input_buckets=(INPUT, "sam3-other"))) as cloud:
        yield cloud


@dataclass(frozen=True)
class Shelf:
    """A prefix of the test's own in both buckets, and the command."""

    cloud: LocalCloud
    prefix: str
    capsys: pytest.CaptureFixture[str]

    @property
    def uri(self) -> str:
        return f"gs://{INPUT}/{self.prefix}"

    def put(self, name: str, data: str = "x", **metadata: str) -> int:
        kind = "application/json" if name.endswith((".json", ".txt")) else "image/jpeg"
        return self._put(INPUT, self.prefix + name, data, kind, metadata)

    def made(self, name: str, **metadata: str) -> None:
        marks = {key.replace("_", "-"): value for key, value in metadata.items()}
        self._put(OUTPUT, f"results/{self.prefix}{name}", "{}", "application/json", marks)

    def image(self, name: str, *, sidecar: bool = True) -> dict[str, str]:
        """Put an image and its sidecar; the metadata of a document that is made of them."""
        made = {"sam3_input_generation": str(self.put(name))}
        if sidecar:
            generation = self.put(f"{name}.prompts.json", '["cat"]')
            made |= self.source("sidecar", f"{name}.prompts.json", generation)
        return made

    def source(self, kind: str, name: str, generation: int) -> dict[str, str]:
        uri = f"gs://{INPUT}/{self.prefix}{name}"
        values = {"kind": kind, "uri": uri, "generation": str(generation)}
        return {f"sam3_prompts_{key}": value for key, value in values.items()}

    def status(self, *arguments: str) -> tuple[int, str]:
        code = cli.main(["status", self.uri, *arguments])
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def states(self, *arguments: str) -> dict[str, tuple[str, str]]:
        _, said = self.status("--json", "--list", "all", *arguments)
        lines = [json.loads(line) for line in said.splitlines()[:-1]]
        return {line["image"].removeprefix(self.uri): (line["state"], line["detail"]) for line in lines}

    def _put(self, bucket: str, name: str, data: str, kind: str, metadata: dict[str, str]) -> int:
        blob = self.cloud.storage.bucket(bucket).blob(name)
        blob.metadata = metadata
        blob.upload_from_string(data, content_type=kind)
        return int(blob.generation)


@pytest.fixture
def shelf(cloud: LocalCloud, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shelf:
    here = {"OUTPUT_PREFIX": "results/", "INPUT_BUCKETS": INPUT, "INPUT_PREFIX": "", "DEFAULT_PROMPTS": ""}
    for name, value in (cloud.environment() | here).items():
        monkeypatch.setenv(name, value)
    return Shelf(cloud, f"{uuid.uuid4().hex}/", capsys)


def test_the_names_of_the_metadata_are_those_that_the_worker_writes() -> None:
    assert (INPUT_GENERATION, ERROR_CODE) == ("sam3-input-generation", "sam3-error-code")


def test_each_state_is_told(shelf: Shelf) -> None:
    shelf.made("done.jpg.json", **shelf.image("done.jpg"))
    shelf.made("bad.jpg.error.json", sam3_error_code="not_an_image", **shelf.image("bad.jpg"))
    shelf.made("old-bad.jpg.error.json", **shelf.image("old-bad.jpg"))
    shelf.made("new.jpg.json", **shelf.image("new.jpg"))
    shelf.put("new.jpg", "another")
    shelf.made("asked.jpg.json", **shelf.image("asked.jpg"))
    shelf.put("asked.jpg.prompts.json", '["dog"]')
    shelf.image("missing.jpg")
    shelf.image("waiting.jpg", sidecar=False)
    shelf.put("notes.json")
    shelf.made("deleted.jpg.json")
    assert shelf.states() == {
        "done.jpg": ("done", ""),
        "bad.jpg": ("failed", "not_an_image"),
        "old-bad.jpg": ("failed", "unknown"),
        "new.jpg": ("outdated", "the image is newer"),
        "asked.jpg": ("outdated", "the prompts are newer"),
        "missing.jpg": ("missing", ""),
        "waiting.jpg": ("waiting", ""),
    }
    code, said = shelf.status("--list", "missing", "--list", "failed")
    assert code == 1
    assert said.splitlines() == [
        f"failed\t{shelf.uri}bad.jpg\tnot_an_image",
        f"missing\t{shelf.uri}missing.jpg",
        f"failed\t{shelf.uri}old-bad.jpg\tunknown",
        f"{shelf.uri}: 7 images",
        "  done                        1",
        "  failed                      2  not_an_image 1, unknown 1",
        "  missing                     1",
        "  outdated                    2",
        "  waiting for prompts         1",
    ]


def test_done_and_waiting_is_a_good_end(shelf: Shelf) -> None:
    shelf.made("done.jpg.json", **shelf.image("done.jpg"))
    shelf.image("waiting.jpg", sidecar=False)
    code, said = shelf.status("--json", "--wait", "60")
    assert code == 0
    assert json.loads(said) == {
        "uri": shelf.uri,
        "images": 2,
        "done": 1,
        "failed": 0,
        "missing": 0,
        "outdated": 0,
        "waiting": 1,
        "failed_codes": {},
    }


def test_prompts_come_from_metadata_folders_and_defaults(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put("own.jpg", prompts='["cat"]')
    shelf.put("deep/er/there.jpg")
    shelf.put("deep/er/sidecar.jpg")
    sidecar = shelf.put("deep/er/sidecar.prompts.json", "[]")
    shelf.put("bare.jpg")
    assert set(shelf.states().values()) == {("missing", ""), ("waiting", "")}
    assert shelf.states()["deep/er/there.jpg"] == ("waiting", "")
    folder = shelf.put("deep/_prompts.txt", "cat")
    assert shelf.states()["deep/er/there.jpg"] == ("missing", "")
    shelf.made("deep/er/there.jpg.json", **shelf.source("folder", "deep/_prompts.txt", folder))
    shelf.made("deep/er/sidecar.jpg.json", **shelf.source("sidecar", "deep/er/sidecar.prompts.json", sidecar))
    assert shelf.states()["deep/er/there.jpg"] == ("done", "")
    shelf.put("deep/_prompts.json", '["cat"]')  # ranks above the text, not above the sidecar
    assert shelf.states()["deep/er/there.jpg"] == ("outdated", "the prompts are newer")
    assert shelf.states()["deep/er/sidecar.jpg"] == ("done", "")
    assert shelf.states()["bare.jpg"] == ("waiting", "")
    monkeypatch.setenv("DEFAULT_PROMPTS", '["cat"]')
    assert shelf.states()["bare.jpg"] == ("missing", "")
    shelf.made("bare.jpg.json", sam3_prompts_kind="default")
    assert shelf.states()["bare.jpg"] == ("done", "")


def test_a_deleted_prompt_source_does_not_make_a_result_outdated(shelf: Shelf) -> None:
    """Its deletion starts no work, so that nobody would ever make it current again."""
    shelf.made("a.jpg.json", **shelf.image("a.jpg"))
    shelf.put("_prompts.json", '["dog"]')
    shelf.cloud.storage.bucket(INPUT).blob(f"{shelf.prefix}a.jpg.prompts.json").delete()
    assert shelf.states() == {"a.jpg": ("done", "")}


def test_a_name_without_room_for_its_documents_has_failed(shelf: Shelf) -> None:
    name = "x" * (1020 - len(shelf.prefix)) + ".jpg"
    shelf.put(name)
    assert shelf.states() == {name: ("failed", "name_too_long")}


def test_results_elsewhere_are_found_by_reading_sidecars(shelf: Shelf) -> None:
    def sidecar(name: str, output: str = "") -> dict[str, str]:
        place = f"gs://{OUTPUT}/orders/{shelf.prefix}{output or name}.json"
        text = json.dumps({"prompts": ["cat"], "output": place})
        generation = str(shelf.put(name))
        recorded = shelf.source("sidecar", f"{name}.prompts.json", shelf.put(f"{name}.prompts.json", text))
        marks = {"sam3_input_generation": generation, "sam3_job_id": "x"} | recorded
        return {key.replace("_", "-"): value for key, value in marks.items()}

    def order(name: str, metadata: dict[str, str]) -> None:
        shelf._put(OUTPUT, f"orders/{shelf.prefix}{name}", "{}", "application/json", metadata)

    order("done.jpg.json", sidecar("done.jpg"))
    order("failed.jpg.error.json", sidecar("failed.jpg") | {"sam3-error-code": "not_an_image"})
    order("old.jpg.json", sidecar("old.jpg") | {"sam3-input-generation": "1"})
    sidecar("taken.jpg")
    order("taken.jpg.json", {})
    sidecar("missing.jpg")
    shelf.made("moved.jpg.json", **shelf.image("moved.jpg"))
    order("moved.jpg.json", sidecar("moved.jpg"))
    shelf.image("plain.jpg")
    shelf.put("broken.jpg")
    shelf.put("broken.jpg.prompts.json", "{broken")
    assert set(shelf.states().values()) == {("missing", ""), ("outdated", "the image is newer")}
    assert shelf.states("--read-sidecars") == {
        "done.jpg": ("done", ""),
        "failed.jpg": ("failed", "not_an_image"),
        "old.jpg": ("outdated", "the image is newer"),
        "taken.jpg": ("failed", "output_taken"),
        "missing.jpg": ("missing", ""),
        "moved.jpg": ("done", ""),
        "plain.jpg": ("missing", ""),
        "broken.jpg": ("missing", ""),
    }
    lines = shelf.status("--json", "--list", "failed", "--read-sidecars")[1].splitlines()[:-1]
    orders = f"gs://{OUTPUT}/orders/{shelf.prefix}"
    assert {json.loads(line)["documents"][0] for line in lines} == {
        f"{orders}failed.jpg.error.json",
        f"{orders}taken.jpg.json",
    }


def test_of_sidecars_no_more_are_remembered_than_said(shelf: Shelf) -> None:
    for number in range(4):
        shelf.put(f"{number}.jpg")
        output = f"gs://{OUTPUT}/orders/{shelf.prefix}{number}.json"
        shelf.put(f"{number}.prompts.json", json.dumps({"prompts": ["cat"], "output": output}))
    place = replace(find_place(shelf.uri, None, os.environ), read_sidecars=True)
    with closing(storage.connect(connections=1)) as store:
        elsewhere = Elsewhere(store, place.bucket, place.settings, remembered=2)
        before = outputs_alive()
        assert [verdict.state for _, verdict in look(store, place, elsewhere)] == ["missing"] * 4
        assert outputs_alive() - before == 2


def outputs_alive() -> int:
    return sum(isinstance(each, Output) for each in gc.get_objects())


@pytest.mark.parametrize("end", [".prompts.json", ".prompts.txt", ".jpg.prompts.json", ".jpg.prompts.txt"])
def test_an_image_that_is_asked_for_by_its_name_has_its_sidecar(shelf: Shelf, end: str) -> None:
    shelf.put("7.jpg")
    shelf.put(f"7{end}", '["cat"]')
    for asked in ("7.jpg", "7.j", "7.", "7"):
        named = replace(shelf, prefix=shelf.prefix + asked)
        assert list(named.states().values()) == [("missing", "")], asked


def test_only_what_is_asked_for_is_shown(shelf: Shelf) -> None:
    for name in ("7.jpg", "7.png", "7.tiff", "7.jpg.png"):
        shelf.put(name)
    for stem in ("7", "7.jpg"):
        shelf.put(f"{stem}.prompts.json", '["cat"]')
    named = replace(shelf, prefix=f"{shelf.prefix}7.jpg")
    assert named.states() == {"": ("missing", ""), ".png": ("missing", "")}
    named = replace(shelf, prefix=f"{shelf.prefix}7.t")  # comes after the sidecar
    assert named.states() == {"iff": ("missing", "")}


def test_no_name_reaches_the_terminal_as_a_command(shelf: Shelf) -> None:
    shelf.put("odd\tname\x1b[2J\x9b.jpg")
    shelf.made("bad.jpg.error.json", sam3_error_code="a\tb", **shelf.image("bad.jpg"))
    _, said = shelf.status("--list", "all")
    assert f"waiting\t{shelf.uri}odd·name·[2J·.jpg" in said.splitlines()
    assert f"failed\t{shelf.uri}bad.jpg\ta·b" in said.splitlines()
    assert "  failed                      1  a·b 1" in said.splitlines()
    _, said = shelf.status("--json", "--list", "waiting")
    assert said.replace("\n", "").isprintable()
    assert json.loads(said.splitlines()[0])["image"] == f"{shelf.uri}odd\tname\x1b[2J\x9b.jpg"


def test_what_the_service_has_written_is_no_image(shelf: Shelf) -> None:
    """A picture beside a result that lies in the input bucket."""
    shelf.put("mine.overlay.webp")
    shelf.put("a.overlay.webp", **{"sam3-job-id": "x"})
    assert shelf.states() == {"mine.overlay.webp": ("waiting", "")}


def test_settings_decide_what_is_an_input_and_where_its_outputs_are(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.made("a.jpg.json", **shelf.image("a.jpg"))
    shelf.image("other/b.jpg")
    assert shelf.states("--output", f"gs://{OUTPUT}/elsewhere/")["a.jpg"] == ("missing", "")
    monkeypatch.setenv("INPUT_PREFIX", f"{shelf.prefix}other/")
    assert shelf.states() == {"other/b.jpg": ("missing", "")}
    monkeypatch.setenv("INPUT_BUCKETS", f"{INPUT},sam3-other")
    monkeypatch.setenv("OUTPUT_PREFIX", "{bucket}/")
    monkeypatch.setenv("INPUT_PREFIX", "")
    shelf._put(OUTPUT, f"{INPUT}/{shelf.prefix}other/b.jpg.json", "{}", "application/json", {})
    assert shelf.states() == {"a.jpg": ("missing", ""), "other/b.jpg": ("done", "")}


@pytest.mark.parametrize(
    ("uri", "change", "code", "message"),
    [
        ("s3://x/y", {}, 2, "the address: 's3://x/y' is not allowed; allowed: gs://bucket or gs://bucket/prefix"),
        ("gs://elsewhere/x", {}, 2, f"'elsewhere' is not allowed; allowed: one of INPUT_BUCKETS ({INPUT})"),
        (f"gs://{INPUT}", {"OUTPUT_BUCKET": ""}, 2, "OUTPUT_BUCKET is not set"),
        (f"gs://{INPUT}", {"OUTPUT_BUCKET": "no-such-bucket"}, 1, "there is no such bucket"),
        (f"gs://{INPUT}", {"PORT": "none"}, 2, "PORT: 'none' is not allowed"),
    ],
)
def test_what_cannot_be_told_is_one_line(
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    uri: str,
    change: dict[str, str],
    code: int,
    message: str,
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["status", uri]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


RULES = Rules((INPUT,), "", OUTPUT, "out/")
STEMS = st.sampled_from(["a", "a-", "a.a", "a~", "a/a", "a.jpg", "b", ".prompts.txt"])
ENDS = st.sampled_from(["", ".jpg", ".tiff", "-1.png", "/", ".prompts.json", ".prompts.txt", ".jpg.prompts.json"])
NAMES = st.builds(lambda stem, end: stem + end, STEMS, ENDS)


def info(name: str, kind: str | None = None) -> ObjectInfo:
    return ObjectInfo(name, 1, 1, kind)


def joined(inputs: list[ObjectInfo], outputs: list[ObjectInfo]) -> dict[str, tuple[set[str], set[str]]]:
    found = walk(inputs, outputs, INPUT, RULES)
    return {
        around.image.name: ({each.name for each in around.sidecars}, {each.name for each in around.documents})
        for around in found
    }


@settings(deadline=None)
@given(st.sets(NAMES), st.data())
def test_the_join_finds_what_belongs_together(names: set[str], data: Any) -> None:
    """Against a search through everything."""
    inputs = [info(name, "image/x") for name in sorted(names)]
    made = {
        f"out/{name}{end}" for name in sorted(names) for end in (".json", ".error.json") if data.draw(st.booleans())
    }
    images = [name for name in names if is_image(name, "image/x") and not name.endswith("/")]
    expected = {
        name: (
            {each for each in sidecar_names(name) if each in names and is_sidecar(each)},
            made & {f"out/{name}.json", f"out/{name}.error.json"},
        )
        for name in images
    }
    assert joined(inputs, [info(name) for name in sorted(made)]) == expected


def test_the_join_remembers_a_handful() -> None:
    alive: list[weakref.ref[ObjectInfo]] = []

    def inputs() -> Iterator[ObjectInfo]:
        for number in range(20_000):
            for end in (".jpg", ".prompts.json"):
                one = info(f"shelf-{number:06}{end}")
                alive.append(weakref.ref(one))
                yield one

    most = 0
    outputs = (info(f"out/shelf-{number:06}.jpg.json") for number in range(20_000))
    for count, around in enumerate(walk(inputs(), outputs, INPUT, RULES)):
        assert len(around.sidecars) == len(around.documents) == 1
        if count % 500 == 0:
            most = max(most, sum(each() is not None for each in alive))
    assert most < 20
