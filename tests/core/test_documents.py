from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from service.core.documents import (
    RequestRecord,
    SourceRecord,
    error_document,
    rendered,
    result_document,
    segmentation_document,
    summary,
)
from service.core.exemplars import ExemplarBox
from service.core.masks import Mask
from service.core.options import Options
from service.core.prompts import Prompt, PromptSet
from service.core.results import ImageInfo, Instance, ModelInfo, PromptResult, Segmentation
from service.core.sources import PromptSource
from service.errors import NotAnImage

SQUARE = Mask.of(np.ones((2, 2), np.uint8), top=1, left=2, size_hw=(4, 6))
EMPTY = Mask.of(np.zeros((0, 0), np.uint8), top=0, left=0, size_hw=(4, 6))
FOUND = Segmentation(
    image=ImageInfo(width=6, height=4, exif_orientation=6),
    model=ModelInfo("facebook/sam3", "abc123", "cuda", "bfloat16"),
    results=(
        PromptResult(
            "mug cup",
            (
                Instance(0.71561, (1.996, 0.004, 4.0, 3.0), SQUARE),
                Instance(0.5, (-0.001, 0.0, 1.0, 1.0), EMPTY),
            ),
        ),
        PromptResult("plate", ()),
    ),
    timing_ms={"decode": 6.123, "queue": 0.04},
)
SOURCE = SourceRecord("gs://photos-in/in/kitchen.jpg", 1700000000000001, "4waSgw==")
REQUEST = RequestRecord(
    PromptSet((Prompt("mug cup"), Prompt("plate")), Options(threshold=0.4, return_masks=True), {"order": 7}),
    PromptSource("sidecar", "gs://photos-in/in/kitchen.prompts.json", 1700000000000000),
)
CREATED = datetime(2025, 5, 20, 10, 12, 13, 141592, tzinfo=UTC)


def test_the_plain_answer_has_boxes_scores_and_shapes() -> None:
    assert segmentation_document(FOUND, Options()) == {
        "image": {"width": 6, "height": 4, "exif_orientation": 6},
        "model": {"id": "facebook/sam3", "revision": "abc123", "device": "cuda", "dtype": "bfloat16"},
        "results": [
            {
                "label": "mug cup",
                "boxes": [[2.0, 0.0, 4.0, 3.0], [0.0, 0.0, 1.0, 1.0]],
                "scores": [0.7156, 0.5],
                "mask_shape": [2, 1, 4, 6],
            },
            {"label": "plate", "boxes": [], "scores": [], "mask_shape": [0, 1, 4, 6]},
        ],
        "timing_ms": {"decode": 6.1, "queue": 0.0},
    }


def read(document: dict[str, Any]) -> Any:
    return json.loads(rendered(document))


def test_masks_and_contours_come_where_asked_for() -> None:
    mugs, plates = segmentation_document(FOUND, Options(return_masks=True))["results"]
    assert mugs["masks_rle"] == [{"size": [4, 6], "counts": "92207"}, {"size": [4, 6], "counts": "h0"}]
    assert plates["masks_rle"] == []
    assert "contours" not in mugs
    mugs, plates = read(segmentation_document(FOUND, Options(return_contours=True)))["results"]
    assert mugs["contours"] == [[[[2, 1], [2, 2], [3, 2], [3, 1]]], []]
    assert plates["contours"] == []
    assert "masks_rle" not in mugs


@pytest.mark.parametrize("bad", [math.nan, math.inf, float(np.float32("nan"))])
def test_a_number_that_json_cannot_say_stops_the_answer(bad: float) -> None:
    broken = Segmentation(FOUND.image, FOUND.model, (PromptResult("a", (Instance(0.5, (0, bad, 1, 1), EMPTY),)),))
    with pytest.raises(ValueError, match="JSON"):
        segmentation_document(broken, Options())


def test_numpy_scalars_become_plain_json_numbers() -> None:
    edges = np.array([0.1, -0.0, 3, 4], np.float32)
    instance = Instance(np.float32(0.9), (edges[0], edges[1], edges[2], edges[3]), EMPTY)  # type: ignore[arg-type]
    found = Segmentation(FOUND.image, FOUND.model, (PromptResult("a", (instance,)),))
    (result,) = segmentation_document(found, Options(return_masks=True, return_contours=True))["results"]
    assert json.dumps(result["boxes"] + result["scores"]) == "[[0.1, 0.0, 3.0, 4.0], 0.9]"


def test_a_result_is_the_whole_answer_and_where_it_comes_from() -> None:
    document = read(result_document(FOUND, REQUEST, SOURCE, "f" * 64, CREATED))
    answer = read(segmentation_document(FOUND, Options(return_masks=True, return_contours=True)))
    assert document == answer | {
        "schema": "sam3.result/1",
        "job_id": "f" * 64,
        "created": "2025-05-20T10:12:13.141Z",
        "input": {"uri": "gs://photos-in/in/kitchen.jpg", "generation": 1700000000000001, "crc32c": "4waSgw=="},
        "request": {
            "prompts": [{"text": "mug cup"}, {"text": "plate"}],
            "options": {"threshold": 0.4, "mask_threshold": 0.5, "max_instances": 200},
            "source": {
                "kind": "sidecar",
                "uri": "gs://photos-in/in/kitchen.prompts.json",
                "generation": 1700000000000000,
            },
            "metadata": {"order": 7},
        },
    }


def test_what_a_caller_sent_is_written_as_it_came() -> None:
    metadata = {"big": 10**30, "small": 1e-300, "text": "\u2028 猫 \x00", "deep": [[{"a": None}]]}
    request = RequestRecord(PromptSet((Prompt('猫 "cat"'),), metadata=metadata), None)
    document = read(result_document(FOUND, request, SOURCE, "f", CREATED))
    assert document["request"]["metadata"] == metadata
    assert document["request"]["prompts"] == [{"text": '猫 "cat"'}]


def test_nothing_is_written_that_json_does_not_have() -> None:
    request = RequestRecord(PromptSet((Prompt("cat"),), metadata={"number": math.nan}), None)
    with pytest.raises(ValueError, match="JSON"):
        rendered(result_document(FOUND, request, SOURCE, "f", CREATED))


def test_created_is_utc_whatever_the_clock() -> None:
    elsewhere = CREATED.astimezone(timezone(timedelta(hours=-7)))
    assert result_document(FOUND, REQUEST, SOURCE, "f", elsewhere)["created"] == "2025-05-20T10:12:13.141Z"


def test_an_error_has_the_same_head_and_says_what_is_wrong() -> None:
    document = error_document(SOURCE, NotAnImage("kitchen.jpg is text"), "e" * 64, CREATED, REQUEST)
    result = result_document(FOUND, REQUEST, SOURCE, "e" * 64, CREATED)
    assert document == {key: result[key] for key in ("schema", "job_id", "created", "input", "request")} | {
        "error": {"code": "not_an_image", "detail": "kitchen.jpg is text", "retryable": False}
    }


def test_an_error_before_the_prompts_are_known_has_no_request() -> None:
    assert error_document(SOURCE, NotAnImage("x"), "e", CREATED)["request"] is None


def test_the_summary_of_a_result_counts_per_label() -> None:
    document = result_document(FOUND, REQUEST, SOURCE, "f" * 64, CREATED)
    assert summary(document, "gs://out/k.jpg.json", ms=812.34, caller_id="A-1", metadata={"order": 7}) == {
        "status": "succeeded",
        "input": {"uri": "gs://photos-in/in/kitchen.jpg", "generation": 1700000000000001, "crc32c": "4waSgw=="},
        "output": "gs://out/k.jpg.json",
        "counts": {"mug cup": 2, "plate": 0},
        "job_id": "f" * 64,
        "id": "A-1",
        "metadata": {"order": 7},
        "ms": 812.3,
    }


def test_prompts_of_one_label_are_counted_together() -> None:
    """Prompts made of exemplars alone all have the label "visual"."""
    twice = Segmentation(FOUND.image, FOUND.model, (*FOUND.results, FOUND.results[0]), {})
    document = result_document(twice, REQUEST, SOURCE, "f" * 64, CREATED)
    assert summary(document, None)["counts"] == {"mug cup": 4, "plate": 0}


def test_the_request_of_a_result_shows_the_exemplars() -> None:
    boxes = (ExemplarBox((1.0, 2.0, 3.5, 4.0)), ExemplarBox((0.0, 0.0, 9.0, 9.0), 0))
    request = RequestRecord(PromptSet((Prompt("mug cup", boxes), Prompt("plate"))), REQUEST.source)
    assert result_document(FOUND, request, SOURCE, "f" * 64, CREATED)["request"]["prompts"] == [
        {"text": "mug cup", "boxes": [[1.0, 2.0, 3.5, 4.0], [0.0, 0.0, 9.0, 9.0]], "box_labels": [1, 0]},
        {"text": "plate"},
    ]


def test_the_summary_of_a_stored_result_is_that_of_a_new_one() -> None:
    document = result_document(FOUND, REQUEST, SOURCE, "f" * 64, CREATED)
    assert summary(read(document), "gs://o/x.json") == summary(document, "gs://o/x.json")


def test_the_summary_of_an_error_names_it() -> None:
    document = error_document(SOURCE, NotAnImage("kitchen.jpg is text"), "e" * 64, CREATED)
    told = summary(document, None)
    assert told["status"] == "failed"
    assert told["error"] == {"code": "not_an_image", "detail": "kitchen.jpg is text", "retryable": False}
    assert told["output"] is None
    assert "counts" not in told
