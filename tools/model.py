"""`sam3 model`: a checkpoint, once in a bucket or folder, in the precision in which the service runs it."""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
import tempfile
from collections.abc import Container, Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import torch
from google.cloud import storage

from service.engine import pretrained
from service.engine.weights import Checkpoint, Source, fingerprint, resolve
from service.errors import ModelUnavailable
from service.gcp import models
from service.gcp.models import LAST_FILE, Location, ModelFile, revision_of
from tools.folders import whole_folder

DTYPES = ("bfloat16", "float16", "float32")
_BESIDE_WEIGHTS = ("tokenizer*.json", "*processor*.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_TARGET, _WRITER = "the target", "roles/storage.objectUser"
_CHUNK_BYTES = 64 * 1024 * 1024


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 model`."""
    parser = subparsers.add_parser("model", help=purpose, description=purpose)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    push = commands.add_parser("push", help="convert a checkpoint and store it at gs://bucket/prefix")
    _add_source(push)
    push.add_argument("target", metavar="gs://BUCKET/PREFIX")
    _add_dtype(push)
    push.add_argument(
        "--replace", action="store_true", help="overwrite or delete the *.json, *.safetensors that are there"
    )
    push.set_defaults(run=partial(_said, run_push))
    save = commands.add_parser("save", help="convert a checkpoint and write it to a folder")
    _add_source(save)
    save.add_argument("target", type=Path, metavar="FOLDER", help="new or empty")
    _add_dtype(save)
    save.set_defaults(run=partial(_said, run_save))
    check = commands.add_parser("check", help="is it a complete SAM 3, and which revision")
    _add_source(check)
    check.set_defaults(run=partial(_said, run_check))


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="embedded, a folder, org/name on the hub, gs://bucket/prefix")
    parser.add_argument("--revision", help="commit, tag or branch of a repository; revision of a folder")


def _add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype", choices=DTYPES, default="bfloat16", help="precision of the stored weights (bfloat16)"
    )


def _said(run: Any, arguments: argparse.Namespace) -> int:
    try:
        print(run(arguments))
    except ModelUnavailable as error:
        print(error.detail, file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run_push(arguments: argparse.Namespace) -> str:
    """Convert and upload; returns the line to print."""
    target = Location.parse(arguments.target, _TARGET)
    with tempfile.TemporaryDirectory(prefix="sam3-push-") as folder:
        with tempfile.TemporaryDirectory(prefix="sam3-fetch-") as cache:
            convert(_find(arguments, Path(cache)), Path(folder), arguments.dtype)
        with models.explained(f"{_TARGET}: {str(target)!r}", role=_WRITER):
            client = models.connect()
        with closing(client):
            return push(client, Path(folder), target, replace=arguments.replace)


def run_save(arguments: argparse.Namespace) -> str:
    """Convert into a folder, which is there whole or not at all; returns the line to print.

    ModelUnavailable when something is in the folder already.
    """
    target: Path = arguments.target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelUnavailable(f"{str(target)!r} is not allowed; allowed: a folder that is new or empty")
    with whole_folder(target) as folder:
        convert(_find(arguments, folder.parent / "fetched"), folder, arguments.dtype)
    return f"{target}: revision {fingerprint(target)}"


def run_check(arguments: argparse.Namespace) -> str:
    """Load all weights; returns the line to print."""
    with tempfile.TemporaryDirectory(prefix="sam3-fetch-") as cache:
        checkpoint = _find(arguments, Path(cache))
        model, _tokenizer = pretrained.read(checkpoint, torch.float32)
        millions = sum(weight.numel() for weight in model.parameters()) / 1e6
        return f"{checkpoint.id}: complete, {millions:.1f} million parameters, revision {checkpoint.revision}"


def _find(arguments: argparse.Namespace, cache: Path) -> Checkpoint:
    return resolve(Source(arguments.source, arguments.revision), partial(models.fetch, cache=cache))


def convert(checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
    """Write what Sam3Model reads of a checkpoint into `folder`, its weights in `dtype`, and tokenizer and processor.

    The source stays a mapped file, so memory holds the weights once, in `dtype`. Integers keep their type, and the
    tracker of a video checkpoint is left out. ModelUnavailable when weights are missing, left over or misshapen.
    """
    model, _tokenizer = pretrained.read(checkpoint, getattr(torch, dtype))
    model.save_pretrained(folder)
    for pattern in _BESIDE_WEIGHTS:
        for path in checkpoint.folder.glob(pattern):
            shutil.copy(path, folder)


def push(client: storage.Client, folder: Path, target: Location, *, replace: bool = False) -> str:
    """Upload a checkpoint folder, config.json last: without it nobody takes the prefix for a model.

    Files that are there already are not sent again, so an interrupted push goes on where it was. `replace` overwrites
    another model, and deletes what else is there and would count as part of this one. ModelUnavailable when that is
    there and may not be replaced, when somebody else writes there, or when access is missing.
    """
    files = {path.name: _described(path) for path in folder.iterdir()}
    revision = revision_of(files.values())
    with models.explained(f"{_TARGET}: {str(target)!r}", role=_WRITER):
        there = {file.name: file for file in models.list_files(client, target)}
    if revision_of(there.values()) == revision:
        return f"{target} has it already: revision {revision}"
    if not replace:
        _refuse_others(target, there, files)
    with models.explained(f"{_TARGET}: {str(target)!r}", role=_WRITER):
        _delete(client, target, [there.pop(LAST_FILE)] if LAST_FILE in there else [])
        _delete(client, target, [file for name, file in there.items() if name not in files])
        for file in sorted(files.values(), key=lambda file: file.name == LAST_FILE):
            _upload(client, folder, target, file, there.get(file.name))
    return f"{target}: revision {revision}, {sum(file.size for file in files.values()) / 1e6:.1f} MB"


def _refuse_others(target: Location, there: Mapping[str, ModelFile], files: Container[str]) -> None:
    """ModelUnavailable unless all that is there may be what an interrupted push of these files has left."""
    if LAST_FILE in there:
        raise ModelUnavailable(
            f"{target} holds another model, revision {revision_of(there.values())}; --replace overwrites it"
        )
    foreign = sorted(name for name in there if name not in files)
    if foreign:
        raise ModelUnavailable(
            f"{target} holds {foreign[0]!r}, which is no file of this model; name another prefix, or --replace "
            f"deletes {'it' if len(foreign) == 1 else f'all {len(foreign)} such files'}"
        )


def _described(path: Path) -> ModelFile:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as stream:
        for _ in checksum.consume(stream, 1024 * 1024):
            pass
    return ModelFile(path.name, path.stat().st_size, base64.b64encode(checksum.digest()).decode())


def _delete(client: storage.Client, target: Location, files: Iterable[ModelFile]) -> None:
    for file in files:
        blob = client.bucket(target.bucket).blob(target.prefix + file.name)
        blob.delete(if_generation_match=file.generation, timeout=models.TIMEOUT_S, retry=models.RETRY)


def _upload(client: storage.Client, folder: Path, target: Location, file: ModelFile, there: ModelFile | None) -> None:
    if there and (there.size, there.crc32c) == (file.size, file.crc32c):
        return
    blob = client.bucket(target.bucket).blob(target.prefix + file.name, chunk_size=_CHUNK_BYTES)
    blob.upload_from_filename(
        folder / file.name,
        if_generation_match=there.generation if there else 0,
        timeout=models.TIMEOUT_S,
        retry=models.RETRY,
        checksum="crc32c",
    )
