from __future__ import annotations

import json
import os
import socket
import sys
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
    Unavailable,
    Unreachable,
)
from sam3_client.results import segmentation
from sam3_client.rle import decode_plainly
from sam3_client.transport import Transport

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
        segmentation(ANSWER).to_supervision()


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


@pytest.mark.parametrize("image", [3, np.zeros((2, 2)), np.zeros((2, 2, 2), np.uint8), None])
def test_what_is_no_image(script: Any, image: Any) -> None:
    with pytest.raises(TypeError, match="image:"):
        Sam3Client(script.url).segment(image, "cat")


def test_busy_answers_are_tried_again_after_as_long_as_they_say(script: Any) -> None:
    script.answers = [busy(429, "7"), busy(503, "11"), FOUND]
    waits: list[float] = []
    patient(script, waits).segment("gs://b/o.jpg", "cat")
    assert waits == [7, 11]
    assert len(script.ports) == 1, "one connection is used again"
    assert b'name="image_uri"' in script.seen[0][1]
    assert script.seen[0][1] == script.seen[2][1]


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
