"""The table of fields of `POST /segment`, row by row, through the deployed service: effect and default of each.

The form and JSON are two spellings of one request, so each row is sent as both.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from pycocotools import mask as coco

from service.core.fields import NAMES

SCENE = files("service").joinpath("models/demo/scene.png").read_bytes()
PROMPTS = ["strawberry", "frog"]
ALIKE = {"text": "strawberry", "boxes": [[472, 275, 699, 521]], "box_labels": [1]}
Results = list[dict[str, Any]]


def counts(results: Results) -> list[int]:
    return [len(result["scores"]) for result in results]


def areas(results: Results) -> Any:
    return np.array([coco.area(rle) for result in results for rle in result["masks_rle"]])


def vertices(results: Results) -> int:
    return sum(len(ring) for result in results for rings in result["contours"] for ring in rings)


def adds(key: str, plain: Results, changed: Results) -> bool:
    """One key more in each result, with a value for each instance; all else stays."""
    for before, after in zip(plain, changed, strict=True):
        if after != before | {key: after.get(key)} or key in before or len(after[key]) != len(after["scores"]):
            return False
    return True


def is_index_mask(found: Results, picture: Image.Image) -> bool:
    numbers = set(np.unique(np.asarray(picture)).tolist())
    return (picture.format, picture.size) == ("PNG", (960, 640)) and numbers == set(range(sum(counts(found)) + 1))


def shows_what_was_found(found: Results, picture: Image.Image) -> bool:
    with Image.open(io.BytesIO(SCENE)) as scene:
        change = np.abs(np.asarray(picture.convert("RGB"), int) - np.asarray(scene.convert("RGB"), int)).max(axis=2)
    inside = [change[int(y0) : int(y1), int(x0) : int(x1)].mean() for r in found for x0, y0, x1, y1 in r["boxes"]]
    return (picture.format, picture.size) == ("WEBP", (960, 640)) and min(inside) > 4 * change[:60, :60].mean() + 10


@dataclass(frozen=True)
class Row:
    """A field with a value other than its default, and what that must change in the answer to `beside`."""

    default: Any
    value: Any
    changes: Callable[[Any, Any], bool]
    beside: dict[str, Any]


def row(default: Any, value: Any, changes: Callable[[Any, Any], bool], **beside: Any) -> Row:
    return Row(default, value, changes, beside)


OPTIONS = {
    "return_masks": row(False, True, lambda plain, changed: adds("masks_rle", plain, changed)),
    "return_contours": row(False, True, lambda plain, changed: adds("contours", plain, changed)),
    "contour_holes": row(False, True, lambda plain, changed: adds("holes", plain, changed), return_contours=True),
    "threshold": row(
        0.5,
        0.95,
        lambda plain, changed: (
            sum(counts(changed)) < sum(counts(plain))
            and [[s for s in r["scores"] if s > 0.95] for r in plain] == [r["scores"] for r in changed]
        ),
    ),
    "mask_threshold": row(
        0.5, 0.95, lambda plain, changed: bool((areas(changed) < areas(plain)).all()), return_masks=True
    ),
    "max_instances": row(
        200, 1, lambda plain, changed: [r["boxes"][:1] for r in plain] == [r["boxes"] for r in changed]
    ),
    "nms_iou": row(
        None,
        0.5,
        lambda plain, changed: (
            (counts(plain)[0], counts(plain)[2], counts(changed)[0] + counts(changed)[2]) == (2, 2, 2)
        ),
        prompts=[*PROMPTS, ALIKE],
    ),
    "simplify": row(0, 3, lambda plain, changed: vertices(changed) < vertices(plain) / 2, return_contours=True),
    "format": row("json", "png", is_index_mask),
}
INPUTS = ("image", "image_uri", "prompts")


@dataclass(frozen=True)
class Door:
    """One way to send fields to the service."""

    url: str
    in_json: bool

    def ask(self, **fields: Any) -> requests.Response:
        fields = {"prompts": PROMPTS} | ({} if "image_uri" in fields else {"image": SCENE}) | fields
        return self._json(fields) if self.in_json else self._form(fields)

    def results(self, **fields: Any) -> Any:
        """The results of the answer, or its picture."""
        answer = self.ask(**fields)
        assert answer.status_code == 200, answer.text
        if answer.headers["Content-Type"].startswith("image/"):
            return Image.open(io.BytesIO(answer.content))
        assert answer.headers["Content-Type"] == "application/json"
        return answer.json()["results"]

    def _json(self, fields: dict[str, Any]) -> requests.Response:
        document = {name: base64.b64encode(v).decode() if isinstance(v, bytes) else v for name, v in fields.items()}
        return requests.post(f"{self.url}/segment", json=document, timeout=120)

    def _form(self, fields: dict[str, Any]) -> requests.Response:
        parts: list[tuple[str, Any]] = []
        for name, value in fields.items():
            for each in value if isinstance(value, list) else [value]:
                text = each if isinstance(each, str) else None if isinstance(each, bytes) else json.dumps(each)
                parts.append((name, ("file", each) if text is None else (None, text)))
        return requests.post(f"{self.url}/segment", files=parts, timeout=120)


@pytest.fixture(scope="module", params=["form", "JSON"])
def door(request: pytest.FixtureRequest, reading: Any) -> Door:
    return Door(reading.url, request.param == "JSON")


def test_every_field_has_a_row() -> None:
    assert sorted([*INPUTS, *OPTIONS]) == sorted(NAMES)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option(door: Door, name: str) -> None:
    row = OPTIONS[name]
    plain = door.results(**row.beside)
    assert sum(counts(plain)) > len(PROMPTS)
    if row.default is not None:
        assert door.results(**row.beside, **{name: row.default}) == plain
    assert row.changes(plain, door.results(**row.beside, **{name: row.value}))


def test_overlay(door: Door) -> None:
    assert shows_what_was_found(door.results(), door.results(format="overlay"))


def test_prompts_are_answered_in_their_order_and_show_what_they_mean(door: Door) -> None:
    both = door.results(prompts=["frog", "red, round", ALIKE, "frog"])
    assert [result["label"] for result in both] == ["frog", "red, round", "strawberry", "frog"]
    assert both[0] == both[3]
    assert counts(both)[2] == 2
    for result in both:
        assert result["scores"] == sorted(result["scores"], reverse=True)
        assert result["mask_shape"] == [len(result["scores"]), 1, 640, 960]


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(SCENE)) as scene:
        scene.convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def grey() -> Any:
    with Image.open(io.BytesIO(SCENE)) as scene:
        return np.asarray(scene.convert("L"), np.float64)


def file(values: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


BLACK = [Image.new("RGB", (960, 640))]
FILES = {
    "JPEG": lambda: saved("JPEG", quality=92),
    "PNG": lambda: SCENE,
    "WebP": lambda: saved("WEBP", quality=92),
    "GIF": lambda: saved("GIF", save_all=True, append_images=BLACK),
    "APNG": lambda: saved("PNG", save_all=True, append_images=BLACK),
    "BMP": lambda: saved("BMP"),
    "TIFF": lambda: saved("TIFF"),
    "AVIF": lambda: saved("AVIF", quality=90),
    "HEIC": lambda: saved("HEIF", quality=90),
}


@pytest.mark.parametrize("kind", FILES)
def test_image_formats(reading: Any, kind: str) -> None:
    """Of those with several frames the first counts: the others are black."""
    if kind == "AVIF" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow has no AVIF")
    [result] = Door(reading.url, False).results(image=FILES[kind](), prompts=["strawberry"])
    assert len(result["scores"]) == 2


def test_measured_tiffs_are_stretched_from_their_1st_to_their_99th_percentile(reading: Any) -> None:
    """Whatever part of the range a camera of more than 8 bits has filled, and whatever the type of its values."""
    values = grey()
    low, high = np.percentile(values, (1, 99))
    stretched = (np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
    narrow = values * 4 + 1000
    files_ = (
        file(stretched, "PNG"),
        file(narrow.astype(np.uint16), "TIFF"),
        file(narrow.astype(np.float32), "TIFF"),
        file(narrow.astype(np.uint16), "PNG"),
    )
    door = Door(reading.url, False)
    expected, *measured, dark = (door.results(image=data, prompts=["frog"], threshold=0) for data in files_)
    assert measured == [expected, expected]
    assert dark != expected


def test_image_uri_stands_for_the_file(door: Door) -> None:
    assert door.results(image_uri="gs://photos/kitchen.jpg") == door.results()


def test_the_answer_says_of_the_image_and_the_model(door: Door) -> None:
    answer = door.ask().json()
    assert list(answer) == ["image", "model", "results", "timing_ms"]
    assert answer["image"] == {"width": 960, "height": 640, "exif_orientation": 1}
    assert set(answer["model"]) == {"id", "revision", "device", "dtype"}
    assert list(answer["timing_ms"]) == ["decode", "queue", "encode_image", "ground", "postprocess"]
