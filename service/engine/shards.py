"""Are a checkpoint's weight files all there and whole? Told from the index and the headers, without reading weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.errors import ModelUnavailable

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit: https://github.com/huggingface/safetensors#format


def check_shards(folder: Path, name: str) -> None:
    """ModelUnavailable names, for the checkpoint called `name`, a weight file that is missing or not whole."""
    try:
        _check_files(folder, name)
    except OSError as error:
        raise _refused(name, f"cannot be read: {error.strerror}: {error.filename}") from error


def _check_files(folder: Path, name: str) -> None:
    files = _weight_files(folder, name)
    missing = sorted(file for file in files if not (folder / file).is_file())
    if missing:
        raise _refused(name, f"lacks {len(missing)} of {len(files)} weight files ({', '.join(missing[:3])})")
    for file in sorted(files):
        _check_whole(folder / file, name)


def _weight_files(folder: Path, name: str) -> set[str]:
    """Those that transformers would read: the single file, else what the index names."""
    if (folder / SINGLE).is_file():
        return {SINGLE}
    if not (folder / INDEX).is_file():
        raise _refused(name, f"lacks {SINGLE} and {INDEX}")
    try:
        index = json.loads((folder / INDEX).read_bytes())
        files = set(index["weight_map"].values())
        index["metadata"].items()  # transformers writes into it
    except (ValueError, KeyError, TypeError, AttributeError):
        files = set()
    if not files or not all(isinstance(file, str) and Path(file).name == file for file in files):
        raise _refused(name, f"has an {INDEX} without metadata, or a weight_map from weights to files")
    return files


def _check_whole(path: Path, name: str) -> None:
    size = path.stat().st_size
    expected = _bytes_by_header(path, size)
    if expected is None:
        raise _refused(name, f"has no safetensors data in {path.name} ({size} bytes)")
    if size < expected:
        raise _refused(name, f"has a truncated {path.name}: {size} of {expected} bytes")
    if size > expected:
        raise _refused(name, f"has {size - expected} bytes too many in {path.name}")


def _bytes_by_header(path: Path, size: int) -> int | None:
    """The size that the file announces (8 bytes of header length, the header, the tensors); None if it is no header."""
    begin = header_end(path)
    if begin is None or size < begin:
        return begin
    extents = tensor_extents(path)
    return None if extents is None else max((end for _, end in extents), default=begin)


def header_end(path: Path) -> int | None:
    """Where the tensors of a safetensors file begin; None when its first bytes are no length of a header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    return 8 + length if 2 <= length <= _MAX_HEADER_BYTES else None


def tensor_extents(path: Path) -> list[tuple[int, int]] | None:
    """Where each tensor begins and ends in the file, sorted; None when the file has no safetensors header."""
    begin = header_end(path)
    if begin is None:
        return None
    with path.open("rb") as file:
        try:
            header = json.loads(file.read(begin)[8:])
            return sorted(_extent(entry, begin) for tensor, entry in header.items() if tensor != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _extent(entry: dict[str, Any], begin: int) -> tuple[int, int]:
    first, last = (int(offset) for offset in entry["data_offsets"])
    if not 0 <= first <= last:
        raise ValueError(f"data_offsets: {first} to {last}")
    return begin + first, begin + last


def _refused(name: str, what: str) -> ModelUnavailable:
    return ModelUnavailable(f"SAM3_MODEL: {name!r} {what}")
