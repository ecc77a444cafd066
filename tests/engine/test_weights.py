"""The hub's answers come over the wire, from a small server that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from service.engine.samples import weight_samples
from service.engine.weights import EMBEDDED, Source, fingerprint, resolve
from service.errors import ModelUnavailable
from tests.serving import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = """
import sys
from service.engine.weights import Source, resolve
from service.errors import ModelUnavailable
try:
    found = resolve(Source("acme/tiny-sam3", sys.argv[1] or None, sys.argv[2] or None))
    print(found.id, found.revision, sorted(p.name for p in found.folder.iterdir()))
except ModelUnavailable as error:
    print(error.detail)
"""


class Hub(BaseHTTPRequestHandler):
    """The three endpoints of huggingface.co that a snapshot download uses, for one gated repository."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, Path]] = {path.name: path for path in EMBEDDED.iterdir() if path.is_file()}

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def answer(self, *, send_body: bool) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        refused = {"": (401, "GatedRepo"), "no-grant": (403, "GatedRepo"), "wrong": (401, ""), "outage": (500, "")}
        if token in refused:
            self.refuse(*refused[token])
        elif self.path.startswith("/api/") and self.path.split("?")[0].split("/")[-1] not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        elif "/tree/" in self.path:
            self.send_json(
                [{"type": "file", "path": n, "size": p.stat().st_size, "oid": "0" * 40} for n, p in self.files.items()]
            )
        elif self.path.startswith("/api/"):
            self.send_json({"id": "acme/tiny-sam3", "sha": COMMIT, "siblings": [{"rfilename": n} for n in self.files]})
        else:
            self.send_file(self.files[self.path.split("?")[0].split("/")[-1]], send_body=send_body)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_json(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, path: Path, *, send_body: bool) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{path.name}-{path.stat().st_size}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        if send_body:
            self.wfile.write(path.read_bytes())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with serving(Hub) as url:
        yield url


def resolve_from_hub(home: Path, endpoint: str, *, revision: str = "", token: str = "") -> str:
    """What the hub's own client does in a fresh process, since it reads its environment when imported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, revision, token], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_downloads_what_the_engine_needs_and_pins_the_commit(hub: str, tmp_path: Path) -> None:
    answer = resolve_from_hub(tmp_path, hub, token="granted")
    assert answer.startswith(f"acme/tiny-sam3 {COMMIT}")
    assert "model.safetensors" in answer
    assert "README.md" not in answer


@pytest.mark.parametrize(
    ("token", "revision", "message"),
    [
        ("", "", "HF_TOKEN is not set: acme/tiny-sam3 needs a token of an account that was granted access at "),
        ("no-grant", "", "HF_TOKEN: its account has not been granted acme/tiny-sam3; ask for access at "),
        ("wrong", "", "HF_TOKEN: the Hugging Face hub does not accept it for acme/tiny-sam3; "),
        ("granted", "v9", "SAM3_REVISION: 'v9' does not exist in acme/tiny-sam3; "),
        ("outage", "", "SAM3_MODEL: the Hugging Face hub answered 500 for acme/tiny-sam3; try again later"),
    ],
)
def test_says_in_one_line_what_the_hub_refused(
    hub: str, tmp_path: Path, token: str, revision: str, message: str
) -> None:
    answer = resolve_from_hub(tmp_path, hub, token=token, revision=revision)
    assert answer.startswith(message)
    assert "\n" not in answer


def test_says_that_there_is_no_network(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        answer = resolve_from_hub(tmp_path, endpoint, token="granted")
    assert answer == (
        "SAM3_MODEL: acme/tiny-sam3 cannot be downloaded: no network to the Hugging Face hub, and no cached copy"
    )


def test_the_embedded_model_ships_with_the_package() -> None:
    found = resolve(Source("embedded"))
    assert (found.folder, found.id) == (EMBEDDED, "embedded")
    assert (EMBEDDED / "model.safetensors").stat().st_size <= 8_000_000


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    copy = tmp_path / "finetuned"
    shutil.copytree(EMBEDDED, copy)
    found = resolve(Source(str(copy)))
    assert found.folder == copy
    assert found.revision == fingerprint(EMBEDDED)


def extents(path: Path) -> dict[str, tuple[int, int]]:
    """Tensor → where its bytes begin and end in the file."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    return {
        name: (begin + entry["data_offsets"][0], begin + entry["data_offsets"][1]) for name, entry in header.items()
    }


def finetuned(folder: Path, tensors: Iterable[str]) -> Path:
    """A copy of the embedded checkpoint in which every byte of these tensors is another one."""
    shutil.copytree(EMBEDDED, folder)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    for first, last in (extents(path)[tensor] for tensor in tensors):
        data[first:last] = bytes(byte ^ 1 for byte in data[first:last])
    path.write_bytes(data)
    return folder


def test_the_revision_of_a_folder_changes_with_any_of_its_tensors(tmp_path: Path) -> None:
    """A fine-tune of a head leaves nearly all of the file as it was."""
    tensors = extents(EMBEDDED / "model.safetensors")
    by_bytes = sorted(tensors, key=lambda name: tensors[name][1] - tensors[name][0])
    some = by_bytes[:: len(by_bytes) // 25]
    revisions = {fingerprint(finetuned(tmp_path / str(i), [tensor])) for i, tensor in enumerate(some)}
    assert len(revisions | {fingerprint(EMBEDDED)}) == len(some) + 1


def test_the_revision_of_a_folder_changes_with_its_header(tmp_path: Path) -> None:
    """The same bytes under other names are other weights."""
    shutil.copytree(EMBEDDED, tmp_path / "renamed")
    path = tmp_path / "renamed" / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"layers.0", b"layers.9", 1))
    assert fingerprint(tmp_path / "renamed") != fingerprint(EMBEDDED)


def test_a_large_checkpoint_is_sampled_in_a_moment(tmp_path: Path) -> None:
    """1500 tensors of 2 MiB, which the file system does not store: ends that touch are read at once."""
    header, tensor_bytes = {}, 2 << 20
    for i in range(1500):
        header[f"t{i}"] = {
            "dtype": "U8",
            "shape": [tensor_bytes],
            "data_offsets": [i * tensor_bytes, (i + 1) * tensor_bytes],
        }
    text = json.dumps(header).encode()
    with (path := tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 1500 * tensor_bytes)
    samples = [len(sample) for sample in weight_samples(path)]
    assert len(samples) == 1501
    assert sum(samples) == 8 + len(text) + 1500 * 2 * 4096


@pytest.mark.parametrize("content", [b"", b"text", b"\x08" + b"\0" * 7 + b"no JSON!", b"\xff" * 100_000])
def test_what_is_no_safetensors_file_is_sampled_in_blocks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert b"".join(weight_samples(tmp_path / "model.safetensors")) == content


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused_before_anything_is_loaded(tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "half"
    shutil.copytree(EMBEDDED, copy)
    (copy / missing).unlink()
    with pytest.raises(ModelUnavailable, match=r"lacks (config\.json|tokenizer\.json|\*\.safetensors)"):
        resolve(Source(str(copy)))


def test_a_folder_is_held_to_the_revision_that_is_asked_for(tmp_path: Path) -> None:
    assert resolve(Source("embedded", fingerprint(EMBEDDED))).revision == fingerprint(EMBEDDED)
    with pytest.raises(
        ModelUnavailable, match=f"SAM3_REVISION: 'v2' is not that of 'embedded', .*{fingerprint(EMBEDDED)}"
    ):
        resolve(Source("embedded", "v2"))


def test_a_bucket_is_read_by_the_fetch_that_is_handed_in(tmp_path: Path) -> None:
    asked: list[object] = []

    def fetch(uri: str, revision: str | None, check: Callable[[Path], None]) -> tuple[Path, str]:
        asked.append((uri, revision))
        check(EMBEDDED)
        with pytest.raises(ModelUnavailable, match=r"'gs://bucket/model' lacks config\.json"):
            check(tmp_path)
        return EMBEDDED, "abc"

    found = resolve(Source("gs://bucket/model", "abc"), fetch)
    assert (found.folder, found.id, found.revision) == (EMBEDDED, "gs://bucket/model", "abc")
    assert asked == [("gs://bucket/model", "abc")]


@pytest.mark.parametrize("name", ["", "a/b/c", "facebook sam3", "gs://bucket/model"])
def test_what_is_no_model_name_is_refused(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="SAM3_MODEL"):
        resolve(Source(name))
