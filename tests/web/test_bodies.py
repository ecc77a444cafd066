"""Bodies that nobody meant: too long, broken, packed, wrongly named; and what is no HTTP at all."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

SCENE = files("service").joinpath("models/demo/scene.png").read_bytes()
DOCUMENT = json.dumps({"image": base64.b64encode(SCENE).decode(), "prompts": ["frog"]}).encode()
MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
KEYS = {"type", "title", "status", "detail", "code", "retryable"}


def told(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert set(problem) == KEYS
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]


@pytest.fixture(scope="module")
def post(service: Any) -> Callable[..., requests.Response]:
    def post(body: Any, headers: dict[str, str], path: str = "/segment") -> requests.Response:
        return requests.post(f"{service.url}{path}", data=body, headers=headers, timeout=100)

    return post


Post = Callable[..., requests.Response]


def pieces(mib: int, first: bytes = DOCUMENT) -> Iterator[bytes]:
    """A body whose length is not told beforehand: the document, then white space."""
    yield first
    for _ in range(mib):
        yield b" " * MIB


def test_a_body_in_chunks_is_read(post: Post) -> None:
    assert post(pieces(1), JSON).status_code == 200


@pytest.mark.parametrize("headers", [JSON, FORM], ids=["JSON", "form"])
@pytest.mark.parametrize("chunked", [True, False])
def test_33_mib_are_refused_whole(post: Post, headers: dict[str, str], chunked: bool) -> None:
    """However they come: what lies beyond the limit is not cut off and forgotten."""
    first = DOCUMENT if headers is JSON else b'--b\r\nContent-Disposition: form-data; name="prompts"\r\n\r\ncat'
    body = pieces(33, first) if chunked else first + b" " * (33 * MIB)
    answer = post(body, headers)
    assert told(answer) == (413, "too_large")
    assert "33554432 bytes (MAX_BODY_BYTES)" in answer.json()["detail"]
    assert "gs://" in answer.json()["detail"]


def test_events_of_33_mib_in_chunks_are_refused(post: Post) -> None:
    assert told(post(pieces(33), JSON, "/events")) in ((413, "too_large"), (503, "events_off"))


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"\xef\xbb\xbf" + DOCUMENT, JSON, None),
        (DOCUMENT, {"Content-Type": "Application/JSON; charset=utf-8"}, None),
        (gzip.compress(DOCUMENT), JSON | {"Content-Encoding": "gzip"}, (415, "unsupported_media_type")),
        (b"--b--", FORM | {"Content-Encoding": "br"}, (415, "unsupported_media_type")),
        (DOCUMENT, JSON | {"Content-Encoding": "identity"}, None),
        (DOCUMENT, {"Content-Type": "application/ld+json"}, (415, "unsupported_media_type")),
        (DOCUMENT, {"Content-Type": "x" * 2000}, (415, "unsupported_media_type")),
        (DOCUMENT, {"Content-Type": ";;;"}, (400, "missing_image")),
        (b"--b--\r\n", {"Content-Type": "multipart/form-data"}, (400, "bad_request")),
        (b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary="}, (400, "bad_request")),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", FORM, (400, "bad_request")),
        (b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx\r\n--b--\r\n', FORM, (400, "bad_request")),
        (b'--b\r\nContent-Disposition: form-data; name=""\r\n\r\nx\r\n--b--\r\n', FORM, (400, "bad_request")),
        (b'--b\r\nContent-Disposition: form-data; name="a\0b"\r\n\r\nx\r\n--b--\r\n', FORM, (400, "bad_field")),
    ],
)
def test_content_types_and_encodings(
    post: Post, body: bytes, headers: dict[str, str], expected: tuple[int, str] | None
) -> None:
    answer = post(body, headers)
    if expected is None:
        assert answer.status_code == 200, answer.text
    else:
        assert told(answer) == expected
        assert len(answer.json()["detail"]) < 300


def part(head: bytes, data: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n"


PICTURE = part(b'name="image"; filename="a.png"', SCENE)
CUT = {
    "another boundary": PICTURE.replace(b"--b\r\n", b"--c\r\n") + b"--c--\r\n",
    "in the image": part(b'name="prompts"', b"frog") + PICTURE[:-1000],
    "before the last boundary": part(b'name="prompts"', b"frog") + PICTURE,
    "in the head of a part": part(b'name="prompts"', b"frog") + b"--b\r\nContent-Disposition: form-",
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("chunked", [True, False])
def test_a_form_that_is_not_whole_is_said_to_be_cut(post: Post, name: str, chunked: bool) -> None:
    answer = post(iter([CUT[name]]) if chunked else CUT[name], FORM)
    assert told(answer) == (400, "bad_request")
    assert "does not end with its boundary" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("head", "data", "code", "detail"),
    [
        (b'name="prompts"', b"caf\xe9", "bad_field", "prompts[1]: 'caf\\\\xe9' is not allowed; it must be UTF-8 text"),
        (b'name="format"', b"js\xffon", "bad_field", "format: 'js\\\\xffon' is not allowed; it must be UTF-8 text"),
        (b'name="prompts"\r\nContent-Type: text/plain; charset=us-ascii', "é".encode(), "bad_field", "US-ASCII text"),
        (b'name="token"', b"SECRET\xff", "bad_field", "token: 'token' is not allowed; there is no such field"),
        (b'name="image"', b"\xff\xd8", "missing_image", "image was sent as a text field"),
        (b'name="caf\xe9"', b"x", "bad_request", "the head of a part of the form is not UTF-8 text"),
        (b'name="prompts"\r\nContent-Transfer-Encoding: base64', b"Y2F0", "bad_request", "is in base64"),
        (b'name="image"; filename="a"\r\nContent-Transfer-Encoding: Base64', b"", "bad_request", "is in Base64"),
    ],
)
def test_text_is_never_altered(post: Post, head: bytes, data: bytes, code: str, detail: str) -> None:
    answer = post(part(b'name="prompts"', b"frog") + part(head, data) + b"--b--\r\n", FORM)
    assert told(answer) == (400, code)
    assert detail in answer.json()["detail"]
    assert "SECRET" not in answer.text


def test_a_part_may_say_what_its_text_is_in(post: Post) -> None:
    """As Apache's HttpClient does, whose text is in ISO-8859-1 when nobody asks for more."""
    said = b'name="prompts"\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: 8bit'
    texts = part(said % b"ISO-8859-1", b"caf\xe9") + part(said % b"UTF-8", "caf\ufffdé".encode())
    answer = post(PICTURE + texts + b"--b--\r\n", FORM)
    assert [result["label"] for result in answer.json()["results"]] == ["café", "caf\ufffdé"]


def test_a_form_of_thousands_of_fields_is_told_what_is_too_much(service: Any) -> None:
    parts: list[tuple[str, Any]] = [("image", ("a", SCENE)), *[("prompts", (None, "cat"))] * 5000]
    answer = requests.post(f"{service.url}/segment", files=parts, timeout=100)
    assert told(answer) == (400, "bad_field")
    assert answer.json()["detail"].endswith("give 1 to 64")


ODD_PROMPTS = ["🍓", "فراولة", "straw\u200bberry", "\u202efrog", "[sic] frog", "7", "null", '"frog"', "<script>", "%00"]


def test_odd_prompts_are_taken_as_they_are(service: Any) -> None:
    parts: list[tuple[str, Any]] = [("image", ("a", SCENE)), *[("prompts", (None, each)) for each in ODD_PROMPTS]]
    answer = requests.post(f"{service.url}/segment", files=parts, timeout=100)
    assert [result["label"] for result in answer.json()["results"]] == ODD_PROMPTS


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("{}", "prompts[0]"),
        ('{"boxes": [[5, 5, 0, 0]]}', "boxes[0]"),
        ('["frog", "strawberry"]', "it is a JSON list: repeat the field prompts"),
    ],
)
def test_odd_prompts_that_mean_nothing(service: Any, prompt: str, named: str) -> None:
    parts: list[tuple[str, Any]] = [("image", ("a", SCENE)), ("prompts", (None, prompt))]
    answer = requests.post(f"{service.url}/segment", files=parts, timeout=100)
    assert told(answer) == (400, "bad_field")
    assert named in answer.json()["detail"]


def png(depth: int, colour: int, row: bytes, height: int = 4) -> bytes:
    """A PNG of a kind that Pillow does not write, eight pixels wide."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress((b"\0" + row) * height)), chunk(b"IEND", b""))
    )


def picture(kind: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind, **options)
    return buffer.getvalue()


ODD_IMAGES = {
    "16 bits with alpha": (png(16, 6, struct.pack(">4H", 65535, 0, 0, 32768) * 8), (8, 4)),
    "16 bits of grey with alpha": (png(16, 4, struct.pack(">2H", 65535, 30000) * 8), (8, 4)),
    "a column": (picture("PNG", (1, 20_000)), (1, 20_000)),
    "a row": (picture("PNG", (20_000, 1)), (20_000, 1)),
    "an archive behind it": (picture("GIF") + b"PK\3\4" + bytes(200), (40, 30)),
    "a page behind it": (picture("JPEG") + b"<script>alert(1)</script>", (40, 30)),
}


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_odd_images_have_every_kind_of_answer(service: Any, name: str) -> None:
    data, size = ODD_IMAGES[name]
    fields = {"prompts": "red square", "return_masks": "1", "return_contours": "1", "threshold": "0"}
    for kind in ("json", "png", "overlay"):
        url = f"{service.url}/segment"
        answer = requests.post(url, files={"image": data}, data=fields | {"format": kind}, timeout=100)
        assert answer.status_code == 200, answer.text
        if kind == "json":
            assert (answer.json()["image"]["width"], answer.json()["image"]["height"]) == size
        else:
            with Image.open(io.BytesIO(answer.content)) as shown:
                assert np.asarray(shown).shape[:2] == size[::-1] or max(size) > 4096


def test_a_page_in_front_of_an_image_is_none(service: Any) -> None:
    answer = requests.post(
        f"{service.url}/segment", files={"image": b"<html>" + SCENE}, data={"prompts": "frog"}, timeout=100
    )
    assert told(answer) == (415, "not_an_image")


def talk(service: Any, request: bytes, *, ends: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the one answer to these bytes, after which the connection is closed."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(request)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert len(body) == int(headers["content-length"]), received
    return int(status.split(" ")[1]), headers, body


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /segment HTTP/1.1", "Host: x", "Content-Type: application/json", *lines, "", ""]).encode()


CHUNKED = head("Transfer-Encoding: chunked", "Connection: close")
NO_HTTP = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
    "two lengths": (head("Content-Length: 2", "Content-Length: 3") + b"{}", 400, "bad_request"),
    "a negative length": (head("Content-Length: -5"), 400, "bad_request"),
    "length and chunks": (head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, "bad_request"),
    "a long line": (b"GET /?key=sesame" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
    "many headers": (head(*(f"X-{i}: a" for i in range(300))), 431, "request_header_fields_too_large"),
    "an expectation": (head("Expect: magic", "Content-Length: 0"), 417, "expectation_failed"),
    "a coding": (head("Transfer-Encoding: magic"), 501, "not_implemented"),
    "no chunk": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "an endless chunk": (CHUNKED + b"2\r\n{}xx0\r\n\r\n", 400, "bad_request"),
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_a_problem_too(service: Any, name: str) -> None:
    request, expected, code = NO_HTTP[name]
    status, headers, body = talk(service, request)
    problem = json.loads(body)
    assert headers["content-type"] == "application/problem+json"
    assert set(problem) == KEYS
    assert (status, problem["status"], problem["code"], problem["retryable"]) == (expected, expected, code, False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TLS", "the request is no HTTP/1.1"),
        ("a long line", "first line"),
        ("many headers", "headers"),
        ("an expectation", "Expect: only 100-continue"),
        ("a coding", "Transfer-Encoding: only chunked"),
    ],
)
def test_what_is_wrong_with_it_is_said(service: Any, name: str, said: str) -> None:
    assert said in json.loads(talk(service, NO_HTTP[name][0])[2])["detail"]


def test_chunks_that_are_cut_are_said_to_be(service: Any) -> None:
    status, _, body = talk(service, CHUNKED + b"100\r\n{", ends=True)
    assert (status, json.loads(body)["code"]) == (400, "bad_request")
    assert json.loads(body)["detail"] == "the body ends before it is whole"


def test_nothing_of_it_is_in_the_log(service: Any) -> None:
    talk(service, NO_HTTP["a long line"][0])
    assert "sesame" not in service.output()
    assert "LimitRequestLine" in service.output()


def test_an_answer_is_not_followed_by_another(service: Any) -> None:
    """The chunks are broken, but nobody reads them: the answer is there already when that is found out."""
    request = b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
    assert talk(service, request)[0] == 200
