"""Weight files that are missing or not whole are named before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from service.engine.shards import INDEX, SINGLE, check_shards
from service.engine.weights import EMBEDDED
from service.errors import ModelUnavailable

TENSORS: dict[str, npt.NDArray[Any]] = {
    "a": np.zeros((3, 5), np.float32),
    "b": np.zeros((0,), np.int64),
    "c": np.ones((7,), np.float16),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards and their index."""
    for file, names in (("one.safetensors", "ab"), ("two.safetensors", "c")):
        save_file({name: TENSORS[name] for name in names}, tmp_path / file, metadata={"format": "pt"})
    write_index(tmp_path, {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"})
    return tmp_path


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        check_shards(folder, "acme")
    assert caught.value.detail.startswith("SAM3_MODEL: 'acme' ")
    assert "\n" not in caught.value.detail
    return caught.value.detail.removeprefix("SAM3_MODEL: 'acme' ")


def test_whole_checkpoints_pass(folder: Path) -> None:
    check_shards(folder, "acme")
    check_shards(EMBEDDED, "embedded")


def test_the_single_file_goes_before_the_index(folder: Path) -> None:
    shutil.copy(EMBEDDED / SINGLE, folder)
    (folder / "two.safetensors").unlink()
    check_shards(folder, "acme")


def test_what_the_system_does_not_read_is_named(folder: Path) -> None:
    file = f"{'x' * 300}.safetensors"  # no file system has such a name
    write_index(folder, {"a": file})
    assert refusal(folder) == f"cannot be read: File name too long: {folder / file}"


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "two.safetensors").unlink()
    assert refusal(folder) == "lacks 1 of 2 weight files (two.safetensors)"


def test_neither_file_nor_index(folder: Path) -> None:
    (folder / INDEX).unlink()
    assert refusal(folder) == f"lacks {SINGLE} and {INDEX}"


@pytest.mark.parametrize("weight_map", [None, [], {}, {"a": 1}, {"a": "../one.safetensors"}])
def test_an_index_that_says_nothing(folder: Path, weight_map: object) -> None:
    write_index(folder, weight_map)
    assert refusal(folder) == f"has an {INDEX} without metadata, or a weight_map from weights to files"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"weight_map": {"a": "one.safetensors"}}'])
def test_an_index_that_is_none(folder: Path, text: str) -> None:
    (folder / INDEX).write_text(text)
    assert refusal(folder) == f"has an {INDEX} without metadata, or a weight_map from weights to files"


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: cut(p, p.stat().st_size - 1), "has a truncated one.safetensors: {less} of {size} bytes"),
        (lambda p: cut(p, p.stat().st_size + 3), "has 3 bytes too many in one.safetensors"),
        (lambda p: cut(p, 20), "has a truncated one.safetensors: 20 of "),
        (lambda p: cut(p, 0), "has no safetensors data in one.safetensors (0 bytes)"),
        (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "has no safetensors data in one"),
        (lambda p: p.write_bytes(b"\x08" + b"\0" * 7 + b'{"a": 1}'), "has no safetensors data in one"),
    ],
    ids=["a byte short", "longer", "within the header", "empty", "git lfs pointer", "strange header"],
)
def test_a_file_that_is_not_whole_is_named(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    path = folder / "one.safetensors"
    size = path.stat().st_size
    spoil(path)
    assert refusal(folder).startswith(message.format(less=size - 1, size=size))


@given(st.integers(0, len(save(TENSORS)) + 9))
def test_agrees_with_safetensors_on_every_length(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = folder / SINGLE
    path.write_bytes(save(TENSORS))
    whole = path.stat().st_size == size
    cut(path, size)
    if whole:
        check_shards(folder, "acme")
        return
    refusal(folder)
    with pytest.raises(SafetensorError), safe_open(path, "np"):
        pass
