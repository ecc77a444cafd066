"""`sam3 model`: what it stores, when it refuses, and that an interrupted push is no model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from google.cloud import storage
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from service.engine.loading import EngineConfig, load_engine
from service.engine.weights import EMBEDDED, Source, resolve
from service.errors import ModelUnavailable
from service.gcp.models import LAST_FILE, Location, ModelStore
from tools import cli
from tools.localcloud.cloud import LocalCloud
from tools.model import convert, push

BUCKET = "sam3-input"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as cloud:
        yield cloud


@pytest.fixture
def client(cloud: LocalCloud) -> storage.Client:
    return cloud.storage


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Location:
    """A prefix of the test's own."""
    return Location(BUCKET, f"models/{request.node.name}/")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert(resolve(Source("embedded")), folder, "bfloat16")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["model", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def names(client: storage.Client, target: Location) -> set[str]:
    return {blob.name.removeprefix(target.prefix) for blob in client.list_blobs(target.bucket, prefix=target.prefix)}


def test_weights_are_converted_and_nothing_else(converted: Path) -> None:
    before, after = load_file(EMBEDDED / "model.safetensors"), load_file(converted / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        expected = weight.to(torch.bfloat16) if weight.is_floating_point() else weight
        assert after[name].dtype == expected.dtype
        assert torch.equal(after[name], expected), name
    assert json.loads((converted / "config.json").read_text())["dtype"] == "bfloat16"
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        assert (converted / name).read_bytes() == (EMBEDDED / name).read_bytes()


def test_saved_to_a_folder_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "model"
    status, said, _ = run(capsys, "save", "embedded", str(folder))
    checkpoint = resolve(Source(str(folder)))
    assert (status, said) == (0, f"{folder}: revision {checkpoint.revision}\n")
    assert load_engine(EngineConfig(Source(str(folder)), device="cpu")).info.revision == checkpoint.revision
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    status, _, said = run(capsys, "save", "embedded", str(folder), "--dtype", "float32")
    assert (status, said) == (1, f"{str(folder)!r} is not allowed; allowed: a folder that is new or empty\n")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_shards_and_a_tracker_become_one_file_without_it(tmp_path: Path) -> None:
    source = Path(shutil.copytree(EMBEDDED, tmp_path / "sharded"))
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    weights["tracker_model.extra"] = torch.zeros(3)
    shards = {f"model-{i}.safetensors": dict(list(weights.items())[i::2]) for i in range(2)}
    for file, part in shards.items():
        save_file(part, source / file, metadata={"format": "pt"})
    weight_map = {name: file for file, part in shards.items() for name in part}
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (tmp_path / "out").mkdir()
    convert(resolve(Source(str(source))), tmp_path / "out", "float32")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == weights.keys() - {"tracker_model.extra"}
    assert not (tmp_path / "out" / "model.safetensors.index.json").exists()


def test_what_was_pushed_is_what_a_service_loads(
    cloud: LocalCloud,
    target: Location,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.storage_url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", cloud.settings.project)
    uri = str(target).rstrip("/")
    status, said, _ = run(capsys, "push", "embedded", uri, "--dtype", "float16")
    assert status == 0
    found = resolve(Source(uri), ModelStore(cloud.storage, tmp_path / "cache").fetch)
    assert f"revision {found.revision}" in said
    text = ["red square"]
    [ours] = load_engine(EngineConfig(Source(uri), device="cpu"), find=lambda: found).encode_text(text)
    [theirs] = load_engine(EngineConfig(device="cpu")).encode_text(text)
    assert np.array_equal(ours.tokens.numpy(), theirs.tokens.numpy())
    assert run(capsys, "push", "embedded", uri, "--dtype", "float16")[1].startswith(f"{target} has it already")
    status, said, _ = run(capsys, "check", uri)
    assert (status, "complete, 3." in said, found.revision in said) == (0, True, True)


def test_another_model_is_replaced_only_when_asked(
    client: storage.Client, target: Location, converted: Path, tmp_path: Path
) -> None:
    push(client, converted, target)
    other = Path(shutil.copytree(converted, tmp_path / "other"))
    (other / "preprocessor_config.json").unlink()
    (other / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match=f"{target} holds another model, revision .*; --replace overwrites it"):
        push(client, other, target)
    assert "preprocessor_config.json" in names(client, target)
    client.bucket(BUCKET).blob(f"{target.prefix}notes.txt").upload_from_string("mine")
    push(client, other, target, replace=True)
    assert names(client, target) == {path.name for path in other.iterdir()} | {"notes.txt"}
    assert client.bucket(BUCKET).blob(f"{target.prefix}tokenizer_config.json").download_as_bytes() == b"{}"


def test_an_interrupted_push_is_no_model_and_can_go_on(
    client: storage.Client, target: Location, converted: Path, tmp_path: Path
) -> None:
    half = Path(shutil.copytree(converted, tmp_path / "half"))
    (half / LAST_FILE).unlink()
    push(client, half, target)  # all that a push has done just before its end
    fetch = partial(resolve, fetch=ModelStore(client, tmp_path / "cache").fetch)
    with pytest.raises(ModelUnavailable, match=r"lacks config\.json; an upload of it has not been completed"):
        fetch(Source(str(target)))
    weights = client.bucket(BUCKET).get_blob(f"{target.prefix}model.safetensors")
    push(client, converted, target)
    assert client.bucket(BUCKET).get_blob(weights.name).generation == weights.generation
    assert fetch(Source(str(target)))


def test_what_is_of_no_model_is_not_deleted_unasked(
    cloud: LocalCloud, target: Location, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the results of a service, under a prefix that was mistyped."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.storage_url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", cloud.settings.project)
    for name in ("b.jpg.json", "a.jpg.json", "notes.txt"):
        cloud.storage.bucket(BUCKET).blob(target.prefix + name).upload_from_string("mine")
    status, said, error = run(capsys, "push", "embedded", str(target))
    assert (status, said) == (1, "")
    assert error == (
        f"{target} holds 'a.jpg.json', which is no file of this model; name another prefix, "
        "or --replace deletes all 2 such files\n"
    )
    assert names(cloud.storage, target) == {"a.jpg.json", "b.jpg.json", "notes.txt"}
    assert run(capsys, "push", "embedded", str(target), "--replace")[0] == 0
    assert {"config.json", "notes.txt"} <= names(cloud.storage, target)
    assert not {"a.jpg.json", "b.jpg.json"} & names(cloud.storage, target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "/no/such/folder", f"gs://{BUCKET}/x"], "'/no/such/folder' is not a folder"),
        (["push", "embedded", "s3://x/y"], "the target: 's3://x/y' is not allowed; allowed: gs://bucket/prefix"),
        (["push", "embedded", f"gs://{BUCKET}/x", "--revision", "v2"], "SAM3_REVISION: 'v2' is not that of 'embedded'"),
        (["push", "embedded", "gs://no-such-bucket/x"], "the target: 'gs://no-such-bucket/x/' does not exist"),
        (["check", "/no/such/folder"], "'/no/such/folder' is not a folder"),
        (["check", "gs://no-such-bucket/x"], "SAM3_MODEL: 'gs://no-such-bucket/x/' does not exist"),
        (["save", "embedded", __file__], f"{__file__!r} is not allowed; allowed: a folder that is new or empty"),
        (["save", "embedded", f"{__file__}/model"], f"File exists: {__file__!r}"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cloud: LocalCloud,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.storage_url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", cloud.settings.project)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_dtype_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["model", "push", "embedded", f"gs://{BUCKET}/x", "--dtype", "int8"])
    assert caught.value.code == 2
    assert "bfloat16" in capsys.readouterr().err
