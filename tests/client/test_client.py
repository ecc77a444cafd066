from __future__ import annotations

import io
import json
import os
import socket
import sys
from email.parser import BytesParser
from email.policy import HTTP
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from sam3_client import (
    Backoff,
    BadRequest,
    Forbidden,
    NotFound,
    Problem,
    Prompt,
    Sam3Client,
    Segmentation,
    Unavailable,
    Unreachable,
)
from sam3_client.rle import decode_plainly
from sam3_client.transport import Transport
from service.engine.images import ImageLimits, decode

DEMO = files("service").joinpath("models/demo/scene.png")
TRUTH = json.loads(files("service").joinpath("models/demo/scene.truth.json").read_text())
FROGS = sum("frog" in item["phrases"] for item in TRUTH["objects"])
ANSWER = {
    "image": {"width": 4, "height": 2, "exif_orientation": 1},
    "model": {"id": "m", "revision": "1", "device": "cpu", "dtype": "float32"},
    "results": [{"label": "cat", "boxes": [], "scores": [], "mask_shape": [0, 1, 2, 4]}],
    "timing_ms": {},
}
FOUND = (200, {"Content-Type": "application/json"}, json.dumps(ANSWER).encode())


def busy(status: int = 429, retry_after: str | None = None, **more: Any) -> Any:
    problem = {"status": status, "code": "queue_full", "detail": "full", "retryable": True, **more}
    headers = {"X-Request-Id": "abc"} | ({} if retry_after is None else {"Retry-After": retry_after})
    return status, headers, json.dumps(problem).encode()


def patient(script: Any, waits: list[float], **backoff: Any) -> Sam3Client:
    return Sam3Client(script.url, transport=Transport(script.url, 30, Backoff(**backoff), waits.append))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own decode
def test_the_demo_scene(service: Any) -> None:
    with Sam3Client(service.url) as client:
        assert client.ready()
        found = client.segment(str(DEMO), ["frog", Prompt(boxes=((472, 275, 699, 521),)), "{"], return_contours=True)
    frog, alike, nothing = found.results
    assert (frog.label, len(frog), alike.label, len(alike)) == ("frog", FROGS, "visual", 2)
    assert frog.boxes_xyxy.shape == (FROGS, 4)
    assert nothing.label == "{"
    masks = alike.masks()
    assert masks.shape == (2, 640, 960)
    assert masks.dtype == np.bool_
    for mask, rle in zip(masks, alike.masks_rle or (), strict=True):
        np.testing.assert_array_equal(mask, coco.decode(rle))
    assert alike.contours is not None
    assert len(alike.contours) == 2


def test_boxes_of_a_result_are_a_prompt(service: Any) -> None:
    with Sam3Client(service.url) as client:
        frogs = client.segment(str(DEMO), "frog", return_masks=False).results[0].boxes_xyxy
        like = frogs[:1].astype(np.float32)
        prompts: list[Prompt | dict[str, Any]] = [
            Prompt(boxes=frogs[:1]),
            Prompt(boxes=tuple(like), box_labels=np.ones(1, np.int64)),
            {"boxes": like},
            Prompt("frog", boxes=frogs[:0]),
        ]
        found = client.segment(str(DEMO), prompts, return_masks=False)
    assert [len(result) > 0 for result in found.results] == [True] * 4
    assert [result.label for result in found.results] == ["visual"] * 3 + ["frog"]


def test_arrays_are_sent_as_what_they_hold(script: Any) -> None:
    script.answers = [FOUND] * 2
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    with Sam3Client(script.url) as client:
        client.segment(b"x", Prompt(boxes=boxes, box_labels=np.ones(1, np.int64)))
        client.segment(b"x", {"text": "cat", "boxes": tuple(boxes)})
    assert b'{"boxes": [[1.0, 2.0, 3.0, 4.0]], "box_labels": [1]}' in script.seen[0][1]
    assert b'{"text": "cat", "boxes": [[1.0, 2.0, 3.0, 4.0]]}' in script.seen[1][1]


def test_what_is_no_json(script: Any) -> None:
    with pytest.raises(TypeError, match="object is not JSON"):
        Sam3Client(script.url).segment(b"x", {"boxes": object()})


def test_contours_and_holes_of_a_ring(script: Any) -> None:
    outer, inner = [[0, 0], [9, 0], [9, 9], [0, 9]], [[3, 3], [6, 3], [6, 6], [3, 6]]
    found = {"label": "ring", "boxes": [[0, 0, 9, 9]], "scores": [0.9], "mask_shape": [1, 1, 10, 10]}
    for more in ({}, {"contours": [[outer]]}, {"contours": [[outer]], "holes": [[inner]]}):
        script.answers.append((200, FOUND[1], json.dumps(ANSWER | {"results": [found | more]}).encode()))
    with Sam3Client(script.url) as client:
        neither, plain, both = (client.segment(b"image", "ring").results[0] for _ in range(3))
    assert (neither.contours, neither.holes) == (None, None)
    assert (plain.contours, plain.holes) == (([outer],), None)
    assert (both.contours, both.holes) == (([outer],), ([inner],))


def test_holes_come_where_they_are_asked_for(service: Any) -> None:
    with Sam3Client(service.url) as client:
        found = client.segment(str(DEMO), "frog", return_masks=False, contour_holes=True).results[0]
    assert found.contours is None
    assert found.holes is not None
    assert len(found.holes) == FROGS


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_coco_data_set_that_pycocotools_reads(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Sam3Client(service.url) as client:
        found = client.segment(str(DEMO), ["frog", "strawberry"])
    data = COCO()
    data.dataset = found.to_coco(image_id=7, file_name="scene.png")
    data.createIndex()
    assert [category["name"] for category in data.loadCats([1, 2])] == ["frog", "strawberry"]
    for annotation in data.loadAnns(data.getAnnIds([7])):
        assert annotation["area"] == data.annToMask(annotation).sum()
    assert data.loadRes(data.dataset["annotations"]).getAnnIds([7]) == data.getAnnIds([7])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_detections_of_supervision(service: Any) -> None:
    supervision = pytest.importorskip("supervision", reason="to_supervision() needs supervision")
    with Sam3Client(service.url) as client:
        found = client.segment(str(DEMO), ["frog", "strawberry"])
        bare = client.segment(str(DEMO), ["frog"], return_masks=False).to_supervision()
        nothing = client.segment(str(DEMO), ["rocket"]).to_supervision()
    detections = found.to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.class_id.tolist() == [0] * FROGS + [1] * 2
    assert detections.data["class_name"].tolist() == ["frog"] * FROGS + ["strawberry"] * 2
    np.testing.assert_allclose(detections.confidence, np.concatenate([r.scores for r in found.results]))
    np.testing.assert_array_equal(detections.mask, np.concatenate([r.masks() for r in found.results]))
    np.testing.assert_allclose(detections.area, [a["area"] for a in found.to_coco()["annotations"]])
    assert (bare.mask, len(bare)) == (None, FROGS)
    assert len(nothing) == 0


def test_without_supervision_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        Segmentation.from_document(ANSWER).to_supervision()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_result_document_is_a_segmentation_and_an_error_document_is_not() -> None:
    mask = {"size": [2, 4], "counts": "08"}
    ring = {"label": "cat", "boxes": [[0, 0, 4, 2]], "scores": [0.9], "mask_shape": [1, 1, 2, 4], "masks_rle": [mask]}
    head = {"schema": "sam3.result/1", "input": {"uri": "gs://in/x.jpg"}, "request": None}
    found = Segmentation.from_document(head | ANSWER | {"results": [ring]})
    assert found.results[0].masks().all()
    assert (found.results[0].label, found.image.width) == ("cat", 4)
    with pytest.raises(ValueError, match="an error document: not_an_image: it is text"):
        Segmentation.from_document(head | {"error": {"code": "not_an_image", "detail": "it is text"}})


def test_every_kind_of_image_gives_the_same(service: Any) -> None:
    picture, data = Image.open(str(DEMO)).convert("RGB"), DEMO.read_bytes()
    with Sam3Client(service.url) as client:
        answers = [
            client.segment(image, "frog", return_masks=False).results[0].boxes_xyxy
            for image in (str(DEMO), data, bytearray(data), memoryview(data), picture, np.asarray(picture))
        ]
        with pytest.raises(ValueError, match="return_masks=True"):
            client.segment(picture, "frog", return_masks=False).results[0].masks()
    for boxes in answers:
        np.testing.assert_array_equal(boxes, answers[0])
        assert len(boxes) == FROGS


WIDE = np.outer(np.linspace(0, 1, 64), np.ones(80))


@pytest.mark.parametrize(
    "values",
    [WIDE.astype(np.float32), (WIDE * 900 - 70).astype(np.int32), (WIDE * 4095).astype(np.uint16)],
    ids=["F", "I", "I;16"],
)
@pytest.mark.parametrize(("kind", "orientation"), [("TIFF", 1), ("TIFF", 6), ("PNG", 1)])
def test_wide_grey_values_are_the_same_by_path_and_by_pil(
    script: Any, tmp_path: Path, values: Any, kind: str, orientation: int
) -> None:
    """By the pixels that the service's own decoder makes of what was sent."""
    if kind == "PNG" and values.dtype != np.uint16:
        pytest.skip("a PNG has no such values")
    path = tmp_path / "x"
    Image.fromarray(values).save(path, kind, **({"tiffinfo": {274: orientation}} if kind == "TIFF" else {}))
    # Opened by its path, a file with that tag is mapped into memory by Pillow, which then does not turn it.
    by_path, by_pil = sent_pixels(script, path), sent_pixels(script, Image.open(io.BytesIO(path.read_bytes())))
    np.testing.assert_array_equal(by_pil, by_path)
    assert by_path.shape == ((64, 80, 3) if orientation == 1 else (80, 64, 3))
    if kind == "TIFF":
        assert (by_path.min(), by_path.max()) == (0, 255)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_all_orders_of_bytes_are_the_same_values(script: Any, mode: str) -> None:
    values = (WIDE * 4095).astype(">u2" if mode == "I;16B" else "<u2")
    same = sent_pixels(script, Image.fromarray(WIDE.astype(np.float32)))
    made = sent_pixels(script, Image.frombytes(mode, (80, 64), values.tobytes()))
    np.testing.assert_allclose(made.astype(int), same.astype(int), atol=1)


def test_wide_grey_values_are_segmented_as_their_file_is(service: Any, tmp_path: Path) -> None:
    grey = np.asarray(Image.open(str(DEMO)).convert("L")).astype(np.float32) / 255
    path = tmp_path / "scene.tif"
    Image.fromarray(grey).save(path)
    with Sam3Client(service.url) as client:
        of_file, of_image = (
            client.segment(one, "frog", threshold=0, max_instances=5).results[0] for one in (path, Image.open(path))
        )
    assert len(of_file) == 5
    np.testing.assert_array_equal(of_image.scores, of_file.scores)
    assert of_image.masks_rle == of_file.masks_rle


def sent_pixels(script: Any, image: Any) -> Any:
    script.answers.append(FOUND)
    with Sam3Client(script.url) as client:
        client.segment(image, "cat")
    headers, body = script.seen[-1]
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    part = next(
        part for part in message.iter_parts() if part.get_param("name", header="content-disposition") == "image"
    )
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return decode(content, ImageLimits()).rgb


def test_a_file_that_is_open(script: Any, tmp_path: Path) -> None:
    script.answers = [FOUND] * 2
    (tmp_path / "x").write_bytes(b"an image")
    with Sam3Client(script.url) as client:
        with (tmp_path / "x").open("rb") as file:
            client.segment(file, "cat")
        client.segment(io.BytesIO(b"an image"), "cat")
        with (tmp_path / "x").open() as text, pytest.raises(TypeError, match="gives str; open it in binary mode"):
            client.segment(text, "cat")
    assert [b"\r\n\r\nan image\r\n" in body for _, body in script.seen] == [True, True]


@pytest.mark.parametrize("url", ["https://example.com/cat.jpg", "HTTP://example.com", "s3://b/o", "file:///cat.jpg"])
def test_addresses_are_not_fetched(script: Any, url: str) -> None:
    with pytest.raises(ValueError, match=f"{url!r}: URLs are not fetched; give a path, bytes or a gs:// URI"):
        Sam3Client(script.url).segment(url, "cat")


def test_options_that_are_none_are_left_out(service: Any) -> None:
    with Sam3Client(service.url) as client:
        found = client.segment(str(DEMO), "frog", nms_iou=None, threshold=None, return_masks=None)
    assert len(found.results[0].masks_rle or ()) == FROGS


def test_options_may_be_numbers_of_numpy(service: Any) -> None:
    numbers: dict[str, Any] = {"threshold": np.float32(0.5), "max_instances": np.int64(1), "return_masks": np.True_}
    with Sam3Client(service.url) as client:
        found = client.segment(str(DEMO), "frog", **numbers)
    assert len(found.results[0].masks_rle or ()) == 1


def test_a_file_name_in_no_encoding(script: Any, tmp_path: Path) -> None:
    script.answers = [FOUND]
    image = tmp_path / os.fsdecode(b"\xff.jpg")
    image.write_bytes(b"image")
    with Sam3Client(script.url) as client:
        client.segment(image, "cat")
    assert b'filename="image"' in script.seen[0][1]


def test_errors_are_typed(service: Any) -> None:
    with Sam3Client(service.url) as client, pytest.raises(BadRequest, match="threshold") as caught:
        client.segment(str(DEMO), "frog", threshold=2)
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (400, "bad_field", False)


@pytest.mark.parametrize(
    "image", [3, np.zeros((2, 2)), np.zeros((2, 2, 2), np.uint8), None, Image.frombytes("La", (1, 1), b"ab")]
)
def test_what_is_no_image(script: Any, image: Any) -> None:
    with pytest.raises(TypeError, match="image:"):
        Sam3Client(script.url).segment(image, "cat")


def test_busy_answers_are_tried_again_after_as_long_as_they_say(script: Any) -> None:
    script.answers = [busy(429, "7"), busy(503, "11"), (504, {"Retry-After": "13"}, b"upstream request timeout"), FOUND]
    waits: list[float] = []
    patient(script, waits).segment("gs://b/o.jpg", "cat")
    assert waits == [7, 11, 13]
    assert len(script.ports) == 1, "one connection is used again"
    assert b'name="image_uri"' in script.seen[0][1]
    assert script.seen[0][1] == script.seen[3][1]


def test_what_stands_in_front_may_say_that_there_was_no_answer(script: Any) -> None:
    script.answers = [(504, {}, b"upstream request timeout")]
    with pytest.raises(Unavailable, match="504 http_504") as caught:
        patient(script, [], attempts=1).segment(b"x", "cat")
    assert caught.value.retryable


def test_waits_grow_and_tries_end(script: Any) -> None:
    script.answers = [busy()] * 4
    waits: list[float] = []
    with pytest.raises(Unavailable) as caught:
        patient(script, waits, attempts=4, first_s=1, most_s=2).segment(b"x", "cat")
    assert [0.5 <= waits[0] <= 1, 1 <= waits[1] <= 2, 1 <= waits[2] <= 2, len(waits)] == [True, True, True, 3]
    assert (caught.value.request_id, caught.value.retryable) == ("abc", True)


def test_a_body_that_came_too_slowly_is_sent_again(script: Any) -> None:
    script.answers = [busy(408, "1", code="request_timeout"), FOUND, busy(408)]
    waits: list[float] = []
    patient(script, waits).segment(b"x", "cat")
    assert waits == [1]
    with pytest.raises(Unavailable, match="408"):
        patient(script, waits, attempts=1).segment(b"x", "cat")


def test_a_connection_that_breaks_is_made_anew(script: Any) -> None:
    script.answers = [FOUND, None, FOUND, None, None]
    waits: list[float] = []
    client = patient(script, waits, attempts=2)
    for _ in range(2):
        client.segment(b"x", "cat")
    assert (len(waits), len(script.seen)) == (1, 3)
    with pytest.raises(Unreachable):
        client.segment(b"x", "cat")
    assert len(script.seen) == 5


def test_an_answer_that_does_not_come_is_not_asked_for_again() -> None:
    waits: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = Transport(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2, Backoff(), waits.append)
        with Sam3Client("", transport=transport) as client, pytest.raises(Unreachable, match="timed out"):
            client.segment(b"x", "cat")
    assert waits == []


def test_no_try_begins_after_the_limit_of_the_whole_call(script: Any) -> None:
    script.answers = [busy(503, "40")] * 4
    waits: list[float] = []
    transport = Transport(script.url, 30, Backoff(total_s=100), waits.append, lambda: sum(waits))
    with pytest.raises(Unavailable):
        Sam3Client("", transport=transport).segment(b"x", "cat")
    assert waits == [40, 40]


def test_what_the_service_gave_up_is_not_handed_to_it_again(script: Any) -> None:
    script.answers = [busy(503, "5", code="deadline_exceeded")]
    times = iter((1000.0, 1300.0))
    transport = Transport(script.url, 330, Backoff(), lambda _: None, lambda: next(times))
    with pytest.raises(Unavailable, match="deadline_exceeded"):
        Sam3Client("", transport=transport).segment(b"x", "cat")


def test_ready_waits_for_nothing_that_does_not_come(script: Any) -> None:
    script.answers = [(status, {}, b"") for status in (503, 200, 401, 403, 404, 500)]
    with Sam3Client(script.url) as client:
        assert [client.ready(), client.ready()] == [False, True]
        for error in (Forbidden, Forbidden, NotFound, Problem):
            with pytest.raises(error):
                client.ready()
    assert set(script.paths) == {"/ready"}


@pytest.mark.parametrize("answer", [busy(429, "61"), busy(503, "1", retryable=False), (500, {}, b""), (502, {}, b"")])
def test_what_is_not_tried_again(script: Any, answer: Any) -> None:
    script.answers = [answer]
    waits: list[float] = []
    with pytest.raises(Problem):
        patient(script, waits).segment(b"x", "cat")
    assert waits == []


def test_an_answer_of_something_in_front_of_the_service(script: Any) -> None:
    script.answers = [(503, {}, b"<html>"), (403, {}, b"[]")]
    waits: list[float] = []
    with pytest.raises(Forbidden) as caught:
        patient(script, waits).segment(b"x", "cat")
    assert (caught.value.code, len(waits)) == ("http_403", 1)


def test_tokens_are_asked_for_at_each_try(script: Any) -> None:
    script.answers = [busy(), FOUND]
    tokens = iter("ab")
    transport = Transport(script.url, 30, Backoff(), lambda _: None)
    Sam3Client(script.url, token=lambda: next(tokens), transport=transport).segment(b"x", "cat")
    assert [headers["Authorization"] for headers, _ in script.seen] == ["Bearer a", "Bearer b"]


def test_nobody_listens() -> None:
    waits: list[float] = []
    transport = Transport("http://127.0.0.1:9", 30, Backoff(attempts=3), waits.append)
    with pytest.raises(Unreachable):
        Sam3Client("", transport=transport).segment(b"x", "cat")
    assert len(waits) == 2


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)))
def test_our_decoder_is_pycocotools(mask: Any) -> None:
    rle = coco.encode(np.asfortranarray(mask))
    plain = {"size": rle["size"], "counts": rle["counts"].decode()}
    np.testing.assert_array_equal(decode_plainly(plain), mask.astype(bool))


def test_runs_that_do_not_fill_the_frame() -> None:
    with pytest.raises(ValueError, match="2 × 2"):
        decode_plainly({"size": [2, 2], "counts": "1"})
