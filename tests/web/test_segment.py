"""POST /segment through gunicorn and the embedded model: what users send, good and bad."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from pycocotools import mask as coco

Send = Callable[..., requests.Response]
Encode = Callable[..., bytes]
Parts = list[tuple[str, Any]]


@pytest.fixture(scope="module")
def send(service: Any) -> Send:
    def send(image: bytes | None, *prompts: str, name: str = "photo.jpg", **fields: str) -> requests.Response:
        parts: list[tuple[str, Any]] = [] if image is None else [("image", (name, image))]
        parts += [("prompts", (None, prompt)) for prompt in prompts]
        parts += [(field, (None, value)) for field, value in fields.items()]
        return requests.post(f"{service.url}/segment", files=parts, timeout=120)

    return send


def problem(answer: requests.Response) -> tuple[int, str]:
    """Status and code, after checking that it is a whole RFC 9457 problem without internals."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "code", "retryable"}
    assert body["type"] == "about:blank"
    assert body["status"] == answer.status_code
    assert body["detail"]
    assert "Traceback" not in answer.text
    return answer.status_code, body["code"]


def test_the_curl_lines_of_the_first_service_still_work(send: Send) -> None:
    photo = files("skimage").joinpath("data/chelsea.png").read_bytes()
    answer = send(photo, "cat", "dog", return_contours="true")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"image", "model", "results", "timing_ms"}
    assert body["image"] == {"width": 451, "height": 300, "exif_orientation": 1}
    assert set(body["model"]) == {"id", "revision", "device", "dtype"}
    assert [result["label"] for result in body["results"]] == ["cat", "dog"]
    for result in body["results"]:
        assert set(result) == {"label", "boxes", "scores", "mask_shape", "contours"}
        assert result["mask_shape"] == [len(result["scores"]), 1, 300, 451]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own decode
def test_finds_what_is_drawn(send: Send, draw: Encode) -> None:
    body = send(draw(256, 192, shift=40), "square", "circle", threshold="0.1", return_masks="yes").json()
    square, circle = body["results"]
    for result in (square, circle):
        assert result["scores"] == sorted(result["scores"], reverse=True)
        for rle in result["masks_rle"]:
            assert rle["size"] == [192, 256]
            assert coco.decode(rle).shape == (192, 256)
        assert "contours" not in result
    left, top, right, bottom = square["boxes"][0]
    assert np.abs(np.array([left, top, right, bottom]) - [48, 10, 73, 35]).max() < 12


def test_no_flags_means_no_masks(send: Send, draw: Encode) -> None:
    [result] = send(draw(), "square").json()["results"]
    assert set(result) == {"label", "boxes", "scores", "mask_shape"}


def test_prompts_are_never_split_on_commas(send: Send, draw: Encode) -> None:
    [result] = send(draw(), "red, square").json()["results"]
    assert result["label"] == "red, square"


DEMO = files("service").joinpath("models/demo/scene.png")
STRAWBERRIES = [[472, 275, 699, 521], [737, 167, 929, 441]]


def test_an_exemplar_box_stands_for_all_that_is_alike(send: Send) -> None:
    alone = json.dumps({"boxes": STRAWBERRIES[:1]})
    named = json.dumps({"text": "strawberry", "boxes": STRAWBERRIES, "box_labels": [1, 1]})
    body = send(DEMO.read_bytes(), "frog", alone, named).json()
    frog, *strawberries = body["results"]
    assert [frog["label"], *(result["label"] for result in strawberries)] == ["frog", "visual", "strawberry"]
    for result in strawberries:
        np.testing.assert_allclose(sorted(result["boxes"]), STRAWBERRIES, atol=40)
    plain = send(DEMO.read_bytes(), "frog").json()["results"][0]
    np.testing.assert_allclose(frog["boxes"], plain["boxes"], atol=0.02)


def test_boxes_are_pixels_of_the_upright_image(send: Send, encode: Encode) -> None:
    """The file lies on its side and says so; its box is that of the picture as a person sees it."""
    upright = Image.open(io.BytesIO(DEMO.read_bytes())).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    prompt = json.dumps({"boxes": STRAWBERRIES[:1]})
    turned, plain = (send(data, prompt).json() for data in (lying, DEMO.read_bytes()))
    assert turned["image"] == {"width": 960, "height": 640, "exif_orientation": 6}
    assert turned["results"] == plain["results"]


def cmyk(encode: Encode) -> bytes:
    return encode(Image.new("CMYK", (40, 30), (10, 200, 30, 5)), "JPEG")


def transparent_palette(encode: Encode) -> bytes:
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 0, 200, 10, 10] + [0] * 762)
    return encode(image, "PNG", transparency=0)


def sixteen_bit(encode: Encode) -> bytes:
    return encode(Image.fromarray(np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40)), "PNG")


@pytest.mark.parametrize("make", [cmyk, transparent_palette, sixteen_bit])
def test_odd_images_are_read(send: Send, encode: Encode, make: Callable[[Encode], bytes]) -> None:
    answer = send(make(encode), "square")
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"] == {"width": 40, "height": 30, "exif_orientation": 1}


def test_one_pixel_is_an_image(send: Send, encode: Encode) -> None:
    answer = send(encode(Image.new("RGB", (1, 1), "red"), "PNG"), "square", return_masks="1", return_contours="1")
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["mask_shape"][1:] == [1, 1, 1]


def test_a_rotated_photo_is_answered_upright(send: Send, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = send(encode(Image.new("RGB", (60, 40), "blue"), "JPEG", exif=exif), "square")
    assert answer.json()["image"] == {"width": 40, "height": 60, "exif_orientation": 6}


def bomb(width: int, height: int) -> bytes:
    """A valid black PNG, a thousandth of its pixels on disk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header(send: Send) -> None:
    data = bomb(20_000, 20_000)
    assert len(data) < 100_000
    answer = send(data, "square")
    assert problem(answer) == (413, "too_large")
    assert "MAX_PIXELS" in answer.json()["detail"]


def test_text_named_jpg_is_no_image(send: Send) -> None:
    assert problem(send(b"just some text\n" * 20, "cat")) == (415, "not_an_image")


def test_an_empty_file_is_no_image(send: Send) -> None:
    assert problem(send(b"", "cat")) == (415, "not_an_image")


def test_a_truncated_jpeg_is_unreadable(send: Send, encode: Encode) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    whole = encode(Image.fromarray(noise), "JPEG")
    assert problem(send(whole[: len(whole) // 2], "cat")) == (422, "unreadable_image")


@pytest.mark.parametrize(
    ("prompts", "fields", "named"),
    [
        ((), {}, "prompts"),
        (("",), {}, "prompts[0]"),
        (("  \t",), {}, "prompts[0]"),
        (("cat",) * 65, {}, "64"),
        (("x" * 10_000,), {}, "1000"),
        (("cat",), {"threshold": "nan"}, "threshold"),
        (("cat",), {"threshold": "1"}, "threshold"),
        (("cat",), {"max_instances": "0"}, "max_instances"),
        (("cat",), {"return_masks": "maybe"}, "return_masks"),
        (("cat",), {"treshold": "0.5"}, "treshold"),
        (("cat",), {"nms_iou": "1"}, "nms_iou"),
        (("cat",), {"nms_iou": "off"}, "nms_iou"),
        (("cat",), {"simplify": "1e999"}, "simplify"),
        (("cat",), {"simplify": "-1"}, "simplify"),
        (("cat",), {"contour_holes": "2"}, "contour_holes"),
        (("cat",), {"format": "jpeg"}, "format"),
        (("cat",), {"overlay": "true"}, "overlay"),
        (("cat",), {"image_uri": "gs://photos/a.jpg"}, "give it or image, not both"),
        (('{"text": "cat", "boxes": [[1, 0, 0, 1]]}',), {}, "prompts[0].boxes[0]"),
        (("cat", '{"boxes": [[0, 0, 1, 1], [0, 0, 1]]}'), {}, "prompts[1].boxes[1]"),
        (('{"text": "cat", "boxes": [[96, 0, 97, 1]]}',), {}, "prompts[0].boxes[0]"),
        (('{"text": "cat", "boxes": [[0, 0, 1, 1]], "box_labels": [2]}',), {}, "prompts[0].box_labels[0]"),
        (('{"text": "cat", "points": [[0, 0]]}',), {}, "prompts[0].points"),
        ((json.dumps({"text": "cat", "boxes": [[0, 0, 1, 1]] * 17}),), {}, "at most 16"),
    ],
)
def test_bad_fields_are_named(
    send: Send, draw: Encode, prompts: tuple[str, ...], fields: dict[str, str], named: str
) -> None:
    answer = send(draw(), *prompts, **fields)
    assert problem(answer) == (400, "bad_field")
    assert named in answer.json()["detail"]


def test_sixty_four_prompts_are_allowed(send: Send, draw: Encode) -> None:
    answer = send(draw(), *(f"thing {n}" for n in range(64)))
    assert [result["label"] for result in answer.json()["results"]] == [f"thing {n}" for n in range(64)]


def test_an_empty_body_is_explained(service: Any) -> None:
    answer = requests.post(f"{service.url}/segment", timeout=30)
    assert problem(answer) == (400, "missing_image")


def test_prompts_without_an_image(send: Send) -> None:
    assert problem(send(None, "cat")) == (400, "missing_image")


def test_two_images(service: Any, draw: Encode) -> None:
    parts: Parts = [("image", ("a.png", draw())), ("image", ("b.png", draw())), ("prompts", (None, "cat"))]
    answer = requests.post(f"{service.url}/segment", files=parts, timeout=30)
    assert problem(answer) == (400, "bad_field")


def test_a_file_under_another_name(service: Any, draw: Encode) -> None:
    parts: Parts = [("file", ("a.png", draw())), ("prompts", (None, "cat"))]
    answer = requests.post(f"{service.url}/segment", files=parts, timeout=30)
    assert problem(answer) == (400, "bad_field")
    assert "image" in answer.json()["detail"]


def test_an_image_sent_as_text(service: Any) -> None:
    parts = [("image", (None, "x" * 1_000_000)), ("prompts", (None, "cat"))]
    answer = requests.post(f"{service.url}/segment", files=parts, timeout=30)
    assert problem(answer) == (400, "missing_image")
    assert "text field" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["text/json", "image/png", "application/x-www-form-urlencoded"])
def test_other_content_types(service: Any, kind: str) -> None:
    answer = requests.post(f"{service.url}/segment", data=b"{}", headers={"Content-Type": kind}, timeout=30)
    assert problem(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "multipart/form-data"}, {"Content-Type": "multipart/form-data; boundary=x"}]
)
@pytest.mark.parametrize("body", [b"", b"nonsense", b"--x\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\n"])
def test_broken_multipart(service: Any, headers: dict[str, str], body: bytes) -> None:
    answer = requests.post(f"{service.url}/segment", data=body, headers=headers, timeout=30)
    assert problem(answer) == (400, "bad_request")
    assert "boundary" in answer.json()["detail"]


def test_a_body_over_the_limit_names_the_other_way(service: Any) -> None:
    answer = requests.post(f"{service.url}/segment", files={"image": b"\0" * (32 * 1024 * 1024 + 1)}, timeout=60)
    assert problem(answer) == (413, "too_large")
    assert "MAX_BODY_BYTES" in answer.json()["detail"]
    assert "gs://" in answer.json()["detail"]


def test_unknown_paths_and_methods(service: Any) -> None:
    nowhere = requests.get(f"{service.url}/nope", timeout=30)
    assert problem(nowhere) == (404, "not_found")
    assert nowhere.json()["detail"] == "there is no /nope here; GET /docs lists the paths"
    wrong = requests.get(f"{service.url}/segment", timeout=30)
    assert problem(wrong) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["Allow"]
    assert wrong.json()["detail"] == "GET is not allowed on /segment; allowed: OPTIONS, POST"


def test_answers_are_plain_json(send: Send, draw: Encode) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    json.loads(send(draw(), "square", threshold="0.01").text, parse_constant=refuse)
