"""POST /segment with a JSON body, and every format of the answer, through gunicorn and the embedded model."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

SCENE = files("service").joinpath("models/demo/scene.png").read_bytes()
Post = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def post(service: Any) -> Post:
    def post(prompts: list[Any], picture: bytes = SCENE, **fields: Any) -> requests.Response:
        document = {"image": base64.b64encode(picture).decode(), "prompts": prompts} | fields
        return requests.post(f"{service.url}/segment", json=document, timeout=120)

    return post


def refused(answer: requests.Response) -> tuple[int, str, str]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    body = answer.json()
    return answer.status_code, body["code"], body["detail"]


def test_json_is_answered_as_a_form_is(service: Any, post: Post) -> None:
    form = {"prompts": ["strawberry", "frog"], "return_masks": "true", "simplify": "1.5", "return_contours": "yes"}
    in_form = requests.post(f"{service.url}/segment", data=form, files={"image": SCENE}, timeout=120).json()
    in_json = post(["strawberry", "frog"], return_masks=True, simplify=1.5, return_contours=True).json()
    assert in_json["results"] == in_form["results"]
    assert [len(result["scores"]) for result in in_json["results"]] == [2, 3]


def test_exemplars_in_json(post: Post) -> None:
    [result] = post([{"boxes": [[472, 275, 699, 521]]}]).json()["results"]
    assert (result["label"], len(result["scores"])) == ("visual", 2)


def test_one_thing_under_two_names_is_found_once_with_nms(post: Post) -> None:
    twice = [{"text": "strawberry"}, {"boxes": [[472, 275, 699, 521]]}]
    plain, once = (post(twice, **changes).json()["results"] for changes in ({}, {"nms_iou": 0.5}))
    assert [len(result["scores"]) for result in plain] == [2, 2]
    assert sum(len(result["scores"]) for result in once) == 2
    assert [result["mask_shape"][0] for result in once] == [len(result["scores"]) for result in once]


def test_simplified_contours_have_fewer_vertices_and_holes_are_beside_them(post: Post) -> None:
    plain, coarse = (
        post(["frog"], return_contours=True, contour_holes=True, simplify=tolerance_px).json()["results"][0]
        for tolerance_px in (0, 3)
    )
    count = [sum(len(ring) for rings in result["contours"] for ring in rings) for result in (plain, coarse)]
    assert count[1] < count[0] / 2
    assert len(plain["holes"]) == len(plain["contours"]) == 3


def test_without_the_options_there_is_nothing_new(post: Post) -> None:
    [result] = post(["frog"], return_contours=True).json()["results"]
    assert set(result) == {"label", "boxes", "scores", "mask_shape", "contours"}


def test_png_is_the_index_mask(post: Post) -> None:
    answer = post(["strawberry", "frog"], format="png")
    assert answer.headers["Content-Type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("PNG", (960, 640))
        assert sorted(np.unique(np.asarray(image))) == [0, 1, 2, 3, 4, 5]


def test_overlay_is_the_picture(post: Post) -> None:
    answer = post(["strawberry"], format="overlay")
    assert answer.headers["Content-Type"] == "image/webp"
    with Image.open(io.BytesIO(answer.content)) as image, Image.open(io.BytesIO(SCENE)) as scene:
        assert (image.format, image.size) == ("WEBP", (960, 640))
        changed = np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(scene.convert("RGB"))).max(axis=2)
        assert changed[300:500, 500:680].mean() > 30
        assert changed[:60, :60].mean() < 10


def test_a_picture_of_nothing_is_one_too(post: Post) -> None:
    for kind in ("png", "overlay"):
        assert post(["rocket"], format=kind).status_code == 200


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[]", "the body must be a JSON object"),
        (b'"cat"', "the body must be a JSON object"),
        (b'{"prompts": ["a"], "prompts": ["b"]}', "the key 'prompts' is there twice"),
        (b'{"threshold": NaN}', "NaN is not JSON"),
        (b'{"threshold": 1e999}', "the number 1e999 is too large"),
        (b'{"threshold": ' + b"[" * 1000 + b"]" * 1000 + b"}", "64 levels"),
        (b'{"prompts": ["\\ud800"]}', "surrogate"),
        (b"\xff\xfe{}", "the body is not UTF-8 text (byte 0)"),
    ],
)
def test_bodies_that_are_no_json(service: Any, body: bytes, detail: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{service.url}/segment", data=body, headers=headers, timeout=30)
    status, code, said = refused(answer)
    assert (status, code) == (400, "bad_request")
    assert detail in said


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"threshold": "0.5"}, "threshold: '0.5' is not allowed; it must be a number from 0 to below 1"),
        ({"threshold": None}, "threshold: null is not allowed"),
        ({"return_masks": "yes"}, "return_masks: 'yes' is not allowed; it must be true or false"),
        ({"max_instances": True}, "max_instances: true is not allowed"),
        ({"treshold": 0.5}, "treshold: 'treshold' is not allowed; there is no such field"),
        ({"image": "?"}, "image: '1 characters' is not allowed; it must be the image file in standard base64"),
        ({"image_uri": "gs://photos/a.jpg"}, "give it or image, not both"),
    ],
)
def test_bad_fields_of_json_are_named(post: Post, fields: dict[str, Any], detail: str) -> None:
    status, code, said = refused(post(["cat"], **fields))
    assert (status, code) == (400, "bad_field")
    assert detail in said


def test_json_without_an_image(service: Any) -> None:
    answer = requests.post(f"{service.url}/segment", json={"prompts": ["cat"]}, timeout=30)
    assert refused(answer)[:2] == (400, "missing_image")


def test_a_uri_where_no_bucket_may_be_read_names_the_setting(service: Any) -> None:
    document = {"image_uri": "gs://photos/a.jpg", "prompts": ["cat"]}
    for answer in (
        requests.post(f"{service.url}/segment", json=document, timeout=30),
        requests.post(f"{service.url}/segment", files={name: (None, value) for name, value in FORM}, timeout=30),
    ):
        status, code, said = refused(answer)
        assert (status, code) == (400, "bad_field")
        assert "READ_BUCKETS" in said


FORM = [("image_uri", "gs://photos/a.jpg"), ("prompts", "cat")]


def test_a_field_in_the_address_is_not_silently_ignored(service: Any) -> None:
    url = f"{service.url}/segment?threshold=0.9&key=gateway"
    answer = requests.post(url, data={"prompts": "cat"}, files={"image": SCENE}, timeout=30)
    assert refused(answer)[:2] == (400, "bad_field")
    assert "threshold" in refused(answer)[2]
    good = requests.post(f"{service.url}/segment?key=gateway", data={"prompts": "cat"}, files={"image": SCENE})
    assert good.status_code == 200


def test_json_that_is_no_image(post: Post) -> None:
    assert refused(post(["cat"], picture=b"text"))[:2] == (415, "not_an_image")
    assert refused(post(["cat"], picture=b""))[:2] == (415, "not_an_image")


def test_the_answer_is_the_smaller_for_what_is_not_asked(post: Post) -> None:
    sizes = [len(json.dumps(post(["frog"], return_masks=masks).json()["results"])) for masks in (False, True)]
    assert sizes[0] < sizes[1]
