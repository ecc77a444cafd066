"""Checkpoints in the local cloud: fetched whole, verified, kept once, and never half."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from google.cloud import storage

from service.engine.weights import EMBEDDED, Checkpoint, Source, resolve
from service.errors import ModelUnavailable
from service.gcp.models import Location, ModelFile, ModelStore
from tools.localcloud import clients

BUCKET = "sam3-input"
MIB = 1024 * 1024
FETCH_ON_A_SMALL_DISK = """
import resource, signal, sys
from functools import partial
from pathlib import Path
from service.engine.weights import Source, resolve
from service.errors import ModelUnavailable
from service.gcp import models
if sys.argv[3]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    resolve(Source(sys.argv[1]), partial(models.fetch, cache=Path(sys.argv[2])))
except ModelUnavailable as error:
    print(error.detail)
"""


@pytest.fixture
def client(bench: Any) -> storage.Client:
    return bench.clients.storage


@pytest.fixture
def upload(client: storage.Client, request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Put a folder at a prefix of the test's own; returns the gs:// URI."""

    def upload(folder: Path) -> str:
        prefix = f"models/{request.node.name}"
        for path in folder.iterdir():
            client.bucket(BUCKET).blob(f"{prefix}/{path.name}").upload_from_filename(path)
        return f"gs://{BUCKET}/{prefix}"

    return upload


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    """A copy of the embedded model to spoil."""
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model"))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """A cache that must hold nothing half after the test."""
    yield tmp_path / "cache"
    assert not list(tmp_path.glob("cache/*.partial"))


def fetched(client: storage.Client, uri: str, cache: Path, revision: str | None = None) -> Checkpoint:
    return resolve(Source(uri, revision), ModelStore(client, cache, range_bytes=MIB).fetch)


def left(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name != "lock"] if cache.exists() else []


def test_a_model_is_fetched_bit_for_bit(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    uri = upload(embedded)
    found = fetched(client, uri, cache)
    assert (found.id, found.folder) == (uri, cache / found.revision)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (found.folder / name).read_bytes() == (embedded / name).read_bytes()
    assert not (found.folder / "README.md").exists()


def test_the_revision_is_that_of_the_content(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    uri = upload(embedded)
    first = fetched(client, f"{uri}/", cache).revision
    upload(embedded)  # new generations, same bytes
    assert fetched(client, uri, cache, revision=first).revision == first
    (embedded / "tokenizer_config.json").write_text("{}")
    upload(embedded)
    assert fetched(client, uri, cache).revision != first


def test_a_copy_is_used_again_and_a_damaged_one_replaced(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    uri = upload(embedded)
    weights = fetched(client, uri, cache).folder / "model.safetensors"
    inode = weights.stat().st_ino
    fetched(client, uri, cache)
    assert weights.stat().st_ino == inode
    os.truncate(weights, 1000)
    fetched(client, uri, cache)
    assert weights.read_bytes() == (EMBEDDED / "model.safetensors").read_bytes()


def test_what_a_killed_process_left_is_removed(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    (cache / "0123456789ab.partial").mkdir(parents=True)
    (cache / "0123456789ab.partial" / "model.safetensors").write_bytes(b"half")
    assert left(cache) == ["0123456789ab.partial"]
    found = fetched(client, upload(embedded), cache)
    assert left(cache) == [found.revision]


def test_two_that_start_together_fetch_once(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    uri = upload(embedded)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetched(client, uri, cache).folder, range(4)))
    assert len(set(folders)) == 1
    assert left(cache) == [folders[0].name]


class Staged(ModelStore):
    """Lists what `change` makes of the listing, or of the bucket after it."""

    change: Callable[[list[ModelFile]], list[ModelFile]]

    def files(self, location: Location) -> list[ModelFile]:
        return self.change(super().files(location))


def test_only_the_generation_that_was_listed_is_read(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    uri = upload(embedded)
    store = Staged(client, cache)

    def overwrite(files: list[ModelFile]) -> list[ModelFile]:
        upload(embedded)
        return files

    store.change = overwrite
    with pytest.raises(ModelUnavailable, match="does not exist, or was replaced while it was read"):
        resolve(Source(uri), store.fetch)
    assert left(cache) == []


def test_a_checksum_that_is_not_the_listed_one_is_refused(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    uri = upload(embedded)
    store = Staged(client, cache, range_bytes=MIB)
    store.change = lambda files: [replace(file, crc32c="AAAAAA==") for file in files]
    with pytest.raises(ModelUnavailable, match="arrived damaged: size or CRC32C differ"):
        resolve(Source(uri), store.fetch)
    assert left(cache) == []


class Flipping(BaseHTTPRequestHandler):
    """Cloud Storage on a bad day: lists one file, and serves its ranges with one bit flipped in the last."""

    protocol_version = "HTTP/1.1"
    data = bytes(range(256)) * 8192

    def do_GET(self) -> None:
        if "alt=media" not in self.path:
            crc32c = base64.b64encode(google_crc32c.Checksum(self.data).digest()).decode()
            item = {"name": "m/config.json", "generation": "1", "size": str(len(self.data)), "crc32c": crc32c}
            self.answer(200, json.dumps({"items": [item]}).encode(), {"Content-Type": "application/json"})
            return
        first, last = (int(n) for n in self.headers["Range"].removeprefix("bytes=").split("-"))
        body = bytearray(self.data[first : last + 1])
        body[-1] ^= last + 1 == len(self.data)
        self.answer(206, bytes(body), {"Content-Range": f"bytes {first}-{last}/{len(self.data)}"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items() | {("Content-Length", str(len(body)))}:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_flipped_bit_is_noticed(serve: Callable[[type[BaseHTTPRequestHandler]], str], cache: Path) -> None:
    with (
        contextlib.closing(clients.storage_client(serve(Flipping), "p")) as client,
        pytest.raises(ModelUnavailable, match="arrived damaged: size or CRC32C differ"),
    ):
        fetched(client, f"gs://{BUCKET}/m", cache)
    assert left(cache) == []


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def shard(folder: Path) -> None:
    """An index that names a shard which is not there."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (empty, r"'gs://.*' holds no files of a model"),
        (lambda f: (f / "config.json").unlink(), r"lacks config\.json; an upload of it has not been completed"),
        (lambda f: (f / "tokenizer.json").unlink(), r"lacks tokenizer\.json"),
        (lambda f: (f / "model.safetensors").unlink(), r"lacks \*\.safetensors"),
        (shard, r"lacks 1 of 2 weight files \(model-00002-of-00002\.safetensors\)"),
        (
            lambda f: os.truncate(f / "model.safetensors", 5 * MIB),
            r"truncated model\.safetensors: 5242880 of \d+ bytes",
        ),
    ],
    ids=["empty", "no_config", "no_tokenizer", "no_weights", "missing_shard", "truncated"],
)
def test_a_broken_model_is_one_line_and_not_kept(
    client: storage.Client,
    upload: Callable[[Path], str],
    embedded: Path,
    cache: Path,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    spoil(embedded)
    with pytest.raises(ModelUnavailable, match=message) as caught:
        fetched(client, upload(embedded), cache)
    assert "\n" not in caught.value.detail
    assert left(cache) == []


def test_another_revision_is_refused_before_anything_is_read(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    with pytest.raises(ModelUnavailable, match="SAM3_REVISION: 'v2' is not that of 'gs://"):
        fetched(client, upload(embedded), cache, revision="v2")
    assert not cache.exists()


@pytest.mark.parametrize("uri", ["gs://", "gs://a", "gs:///prefix", "gs://Bucket/x"])
def test_what_is_no_uri_is_refused(client: storage.Client, cache: Path, uri: str) -> None:
    with pytest.raises(ModelUnavailable, match="allowed: gs://bucket/prefix"):
        fetched(client, uri, cache)


def test_a_missing_bucket_is_named(client: storage.Client, cache: Path) -> None:
    with pytest.raises(ModelUnavailable, match="'gs://no-such-bucket/x/' does not exist"):
        fetched(client, "gs://no-such-bucket/x", cache)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # see `serve`
@pytest.mark.parametrize("status", [401, 403])
def test_without_access_the_role_is_named(refusing_url: Callable[[int], str], cache: Path, status: int) -> None:
    with (
        contextlib.closing(clients.storage_client(refusing_url(status), "p")) as client,
        pytest.raises(ModelUnavailable, match=r"is not open to this account .*roles/storage\.objectViewer"),
    ):
        fetched(client, f"gs://{BUCKET}/x", cache)


def test_a_cache_that_cannot_be_written_is_named(
    client: storage.Client, upload: Callable[[Path], str], embedded: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelUnavailable, match=r"SAM3_CACHE_DIR: '.*file/cache' cannot be written: Not a directory"):
        fetched(client, upload(embedded), tmp_path / "file" / "cache")


def fetch_in_a_process(bench: Any, uri: str, cache: Path, largest_file: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", FETCH_ON_A_SMALL_DISK, uri, str(cache), largest_file],
        env=os.environ | bench.cloud.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_system_that_takes_no_more_is_one_line(
    bench: Any, upload: Callable[[Path], str], embedded: Path, cache: Path
) -> None:
    said = fetch_in_a_process(bench, upload(embedded), cache, largest_file=str(2 * MIB))
    assert said.endswith(f"does not fit into {str(cache)!r}: no space is left there (SAM3_CACHE_DIR)\n")
    assert said.count("\n") == 1
    assert left(cache) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line(bench: Any, upload: Callable[[Path], str], embedded: Path, small_disk: Path) -> None:
    said = fetch_in_a_process(bench, upload(embedded), small_disk)
    assert said.endswith(f"does not fit into {str(small_disk)!r}: no space is left there (SAM3_CACHE_DIR)\n")
    assert said.count("\n") == 1
    assert left(small_disk) == []
