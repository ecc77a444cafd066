"""What lies beside a result: written before it, named in it, and gone with it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import ExifTags, Image

from service.errors import CloudUnavailable

BOTH = '{"prompts": ["cat"], "options": {"overlay": true, "mask_png": true}}'
NEITHER = '{"prompts": ["cat"]}'
OUT = "sam3-output"


@pytest.fixture
def photo(encode: Callable[..., bytes]) -> bytes:
    """A photo of 20 × 10 pixels that a camera has stored lying on its side."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encode(Image.new("RGB", (20, 10), "red"), "JPEG", exif=exif)


def blob(bench: Any, name: str) -> Any:
    return bench.clients.storage.bucket(OUT).get_blob(name)


def beside(bench: Any, image: str) -> list[str]:
    names = (f"{image}.overlay.webp", f"{image}.masks.png")
    return [name for name in names if blob(bench, name) is not None]


def upload(bench: Any, name: str, photo: bytes, sidecar: str) -> Any:
    bench.upload(f"{name}.prompts.json", sidecar)
    return bench.upload(name, photo, "image/jpeg")


def test_both_are_written_and_named(bench: Any, stage: Any, photo: bytes) -> None:
    s = stage()
    assert s.handle(upload(bench, "rendition/a.jpg", photo, BOTH)) == ["succeeded"]
    assert s.store.calls == ["list", "list", "read", "read", "write", "write", "write_json", "stat"]
    document = bench.output("rendition/a.jpg.json")
    assert document["renditions"] == {
        "overlay": f"gs://{OUT}/rendition/a.jpg.overlay.webp",
        "mask_png": f"gs://{OUT}/rendition/a.jpg.masks.png",
    }
    assert document["request"]["options"]["overlay"] is True
    overlay, masks = blob(bench, "rendition/a.jpg.overlay.webp"), blob(bench, "rendition/a.jpg.masks.png")
    assert [each.content_type for each in (overlay, masks)] == ["image/webp", "image/png"]
    assert {each.metadata["sam3-job-id"] for each in (overlay, masks)} == {document["job_id"]}
    with Image.open(io.BytesIO(overlay.download_as_bytes())) as picture:
        assert (picture.format, picture.size) == ("WEBP", (10, 20)), "upright"
    with Image.open(io.BytesIO(masks.download_as_bytes())) as index:
        assert index.getpixel((0, 0)) == 1
        assert index.getpixel((1, 0)) == 0


def test_without_the_options_there_is_nothing_beside_and_the_job_is_the_one_it_has_always_been(
    bench: Any, stage: Any, photo: bytes
) -> None:
    s = stage()
    image = upload(bench, "rendition/none.jpg", photo, NEITHER)
    assert s.handle(image) == ["succeeded"]
    assert beside(bench, "rendition/none.jpg") == []
    assert "renditions" not in bench.output("rendition/none.jpg.json")
    without = '{"prompts": ["cat"], "options": {"overlay": false, "mask_png": false}}'
    assert s.handle(bench.upload("rendition/none.jpg.prompts.json", without)) == ["replayed"]
    assert s.handle(bench.upload("rendition/none.jpg.prompts.json", BOTH)) == ["succeeded"]


@pytest.mark.parametrize("sidecar", [NEITHER, "{broken"], ids=["result", "error"])
def test_they_go_with_the_result_that_they_belong_to(bench: Any, stage: Any, photo: bytes, sidecar: str) -> None:
    s = stage()
    name = f"rendition/gone-{len(sidecar)}.jpg"
    s.handle(upload(bench, name, photo, BOTH))
    assert len(beside(bench, name)) == 2
    s.handle(bench.upload(f"{name}.prompts.json", sidecar))
    assert beside(bench, name) == []


def test_what_is_not_ours_stays(bench: Any, stage: Any, photo: bytes) -> None:
    own = bench.clients.storage.bucket(OUT).blob("rendition/own.jpg.overlay.webp")
    own.upload_from_string("somebody's")
    assert stage().handle(upload(bench, "rendition/own.jpg", photo, NEITHER)) == ["succeeded"]
    assert own.exists()


@pytest.mark.parametrize("at", ["write", "write_json"])
def test_a_crash_before_the_result_is_finished_by_the_redelivery(bench: Any, stage: Any, photo: bytes, at: str) -> None:
    s = stage()
    image = upload(bench, f"rendition/crash-{at}.jpg", photo, BOTH)

    def crash(name: str) -> None:
        if name == at and s.store.calls.count(at) == (2 if at == "write" else 1):
            raise CloudUnavailable("gone")

    s.store.trouble = crash
    with pytest.raises(CloudUnavailable):
        s.handle(image)
    assert bench.output(f"rendition/crash-{at}.jpg.json") is None
    assert beside(bench, f"rendition/crash-{at}.jpg")
    s.store.trouble = lambda name: None
    assert s.handle(image) == ["succeeded"]
    assert len(beside(bench, f"rendition/crash-{at}.jpg")) == 2


def test_a_crash_before_the_clean_up_is_finished_by_the_redelivery(bench: Any, stage: Any, photo: bytes) -> None:
    s = stage()
    s.handle(upload(bench, "rendition/clean.jpg", photo, BOTH))
    event = bench.upload("rendition/clean.jpg.prompts.json", NEITHER)

    def crash(name: str) -> None:
        if name == "delete":
            raise CloudUnavailable("gone")

    s.store.trouble = crash
    with pytest.raises(CloudUnavailable):
        s.handle(event)
    assert len(beside(bench, "rendition/clean.jpg")) == 2
    s.store.trouble = lambda name: None
    assert s.handle(event) == ["replayed"]
    assert beside(bench, "rendition/clean.jpg") == []


def test_a_slow_worker_takes_back_what_its_result_would_have_named(bench: Any, stage: Any, photo: bytes) -> None:
    slow, fast = stage(), stage()
    image = upload(bench, "rendition/slow.jpg", photo, BOTH)

    def meanwhile() -> None:
        if slow.segmenter.calls == 1:
            assert fast.handle(bench.upload("rendition/slow.jpg.prompts.json", NEITHER)) == ["succeeded"]

    slow.segmenter.before = meanwhile
    assert slow.handle(image) == ["replayed"]
    assert slow.store.calls.count("write") == 2
    assert beside(bench, "rendition/slow.jpg") == []


@pytest.mark.parametrize("step", ["write", "write_json"])
def test_the_same_job_in_another_process_loses_nothing(bench: Any, stage: Any, photo: bytes, step: str) -> None:
    """The other process is done when this one has computed, or when it has written everything but the result."""
    slow, fast = stage(), stage()
    image = upload(bench, f"rendition/same-{step}.jpg", photo, BOTH)
    done: list[str] = []

    def meanwhile(name: str) -> None:
        if name == step and not done:
            done.append(name)
            assert fast.handle(image) == ["succeeded"]

    slow.store.trouble = meanwhile
    assert slow.handle(image) == ["replayed"]
    document = bench.output(f"rendition/same-{step}.jpg.json")
    for uri in document["renditions"].values():
        assert blob(bench, uri.removeprefix(f"gs://{OUT}/")).metadata["sam3-job-id"] == document["job_id"]


def test_newer_prompts_replace_them(bench: Any, stage: Any, photo: bytes) -> None:
    slow, fast = stage(), stage()
    image = upload(bench, "rendition/newer.jpg", photo, BOTH)
    newer = json.dumps(json.loads(BOTH) | {"prompts": ["fox"]})

    def meanwhile(name: str) -> None:
        if name == "write_json" and slow.store.calls.count("write_json") == 1:
            assert fast.handle(bench.upload("rendition/newer.jpg.prompts.json", newer)) == ["succeeded"]

    slow.store.trouble = meanwhile
    assert slow.handle(image) == ["replayed"]
    document = bench.output("rendition/newer.jpg.json")
    assert [result["label"] for result in document["results"]] == ["fox"]
    assert len(beside(bench, "rendition/newer.jpg")) == 2
    for name in beside(bench, "rendition/newer.jpg"):
        assert blob(bench, name).metadata["sam3-job-id"] == document["job_id"]


def test_a_name_that_leaves_no_room_is_the_inputs_fault(bench: Any, stage: Any, photo: bytes) -> None:
    """`….error.json` still fits into 1024 bytes, `….overlay.webp` does not."""
    name = "rendition/" + "n" * (1024 - len("rendition/.jpg.error.json")) + ".jpg"
    s = stage()
    bench.upload(f"{name.removesuffix('.jpg')}.prompts.txt", "cat")
    image = bench.upload(name, photo, "image/jpeg")
    assert s.handle(image) == ["succeeded"]
    bench.delete(f"{name.removesuffix('.jpg')}.prompts.txt")
    assert s.handle(bench.upload(f"{name.removesuffix('.jpg')}.prompts.json", BOTH)) == ["failed"]
    error = bench.output(f"{name}.error.json")["error"]
    assert error["code"] == "name_too_long"
    assert error["detail"].startswith("overlay: its name would have 1026 bytes, at most 1024 are allowed")


def test_what_the_service_wrote_is_no_input(bench: Any, stage: Any, photo: bytes) -> None:
    """A copy keeps the metadata of what it was copied from."""
    s = stage()
    s.handle(upload(bench, "rendition/copy.jpg", photo, BOTH))
    source = blob(bench, "rendition/copy.jpg.overlay.webp")
    bucket = bench.clients.storage.bucket("sam3-input")
    bench.upload("rendition/copied.prompts.json", NEITHER)
    copied = bench.upload("rendition/copied.webp", source.download_as_bytes(), "image/webp")
    assert s.handle(copied) == ["succeeded"], "an upload of the same bytes is an input as any other"
    again = bucket.blob("rendition/copied.webp")
    again.metadata = dict(source.metadata)
    again.upload_from_string(source.download_as_bytes(), content_type="image/webp")
    event = type(copied)("OBJECT_FINALIZE", bucket.name, again.name, int(again.generation), "image/webp", "1", None)
    assert s.handle(event) == ["ignored"]


def test_who_loses_to_the_same_job_leaves_what_its_result_names(bench: Any, stage: Any, photo: bytes) -> None:
    """Both have written, this one last; then the other writes the result, which names this one's."""
    other, this = stage(), stage()
    image = upload(bench, "rendition/twin.jpg", photo, BOTH)
    written, settled = threading.Event(), threading.Event()

    def this_waits(name: str) -> None:
        if name == "write_json":
            written.set()
            assert settled.wait(60)

    this.store.trouble = this_waits
    with ThreadPoolExecutor(1) as pool:
        outcomes = []

        def other_waits(name: str) -> None:
            if name == "write_json":
                outcomes.append(pool.submit(this.handle, image))
                assert written.wait(60)

        other.store.trouble = other_waits
        assert other.handle(image) == ["succeeded"]
        settled.set()
        assert outcomes[0].result(60) == ["replayed"]
    assert this.store.calls.count("write") == 2
    assert len(beside(bench, "rendition/twin.jpg")) == 2
