"""Where the weights come from: the hub, a bucket, a local folder or the package itself → one checkpoint folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from service.engine.shards import check_shards
from service.errors import ModelUnavailable

EMBEDDED = Path(__file__).parent.parent / "models" / "embedded"
_NEEDED_FILES = ("config.json", "tokenizer.json")
_HUB_FILES = ["*.json", "*.safetensors", "merges.txt", "vocab.json"]

Check = Callable[[Path], None]
Fetch = Callable[[str, str | None, Check], tuple[Path, str]]
"""(gs:// URI, the revision it must have, a check that the complete folder must pass) → a local folder, its revision."""


@dataclass(frozen=True)
class Source:
    """What to load: `model` is `embedded`, a folder, gs://bucket/prefix or a hub repository.

    `revision` pins it: a commit, tag or branch of a repository, else the revision that results carry.
    """

    model: str
    revision: str | None = None
    token: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A complete folder in transformers' layout, and the identity that goes into results and job keys."""

    folder: Path
    id: str
    revision: str


def resolve(source: Source, fetch: Fetch | None = None) -> Checkpoint:
    """Return the checkpoint's folder, on this machine and complete; ModelUnavailable says in one line why not.

    `fetch` brings a model that is at gs://; without it such a model is refused.
    """
    if source.model == "embedded":
        return _local(EMBEDDED, source)
    if source.model.startswith("gs://"):
        return _from_bucket(source, fetch)
    if _looks_like_path(source.model):
        return _local(Path(source.model).expanduser(), source)
    return _from_hub(source)


def _looks_like_path(model: str) -> bool:
    return model.startswith(("/", "./", "../", "~")) or Path(model).is_dir()


def _local(folder: Path, source: Source) -> Checkpoint:
    name = source.model
    if not folder.is_dir():
        raise ModelUnavailable(
            f"SAM3_MODEL: {name!r} is not a folder; allowed: embedded, a folder, gs://bucket/prefix, "
            "or org/name on the hub"
        )
    _check_complete(folder, name)
    revision = fingerprint(folder)
    if source.revision not in (None, revision):
        raise ModelUnavailable(f"SAM3_REVISION: {source.revision!r} is not that of {name!r}, which is {revision!r}")
    return Checkpoint(folder, name, revision)


def _from_bucket(source: Source, fetch: Fetch | None) -> Checkpoint:
    if fetch is None:
        raise ModelUnavailable(f"SAM3_MODEL: {source.model!r} cannot be read here; fetch it into a folder first")
    folder, revision = fetch(source.model, source.revision, lambda folder: _check_complete(folder, source.model))
    return Checkpoint(folder, source.model, revision)


def _check_complete(folder: Path, name: str) -> None:
    missing = [file for file in _NEEDED_FILES if not (folder / file).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise ModelUnavailable(
            f"SAM3_MODEL: {name!r} lacks {', '.join(missing)}; it must be a saved Sam3Model with its tokenizer"
        )
    check_shards(folder, name)


def fingerprint(folder: Path, blocks: int = 16, block_bytes: int = 65536) -> str:
    """12 hex digits that change with the weights: config.json, sizes and evenly spaced blocks of each weight file.

    Reading a full-size checkpoint whole would cost seconds at every start; any training step changes every block.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for block in range(blocks):
                file.seek(size * block // blocks)
                digest.update(file.read(block_bytes))
    return digest.hexdigest()[:12]


def _from_hub(source: Source) -> Checkpoint:
    api = HfApi(token=source.token)
    try:
        path = api.snapshot_download(source.model, revision=source.revision, allow_patterns=_HUB_FILES)
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelUnavailable(_hub_message(source, error)) from error
    folder = Path(path)
    _check_complete(folder, source.model)
    return Checkpoint(folder, source.model, folder.name)


def _hub_message(source: Source, error: Exception) -> str:
    """One line that says what to do; the order matters, since the hub's errors are subclasses of each other."""
    name = source.model
    if isinstance(error, RevisionNotFoundError):
        return f"SAM3_REVISION: {source.revision!r} does not exist in {name}; use a commit, tag or branch of it"
    if isinstance(error, GatedRepoError | RepositoryNotFoundError) or _status(error) in (401, 403):
        return _access_message(source, error)
    if isinstance(error, HFValidationError):
        return (
            f"SAM3_MODEL: {name!r} is not allowed; use embedded, a folder, gs://bucket/prefix, or org/name on the hub"
        )
    # Without a cached copy the client reports any outage as a missing local file, and the outage as its cause.
    status = _status(error) or _status(error.__cause__)
    if status:
        return f"SAM3_MODEL: the Hugging Face hub answered {status} for {name}; try again later"
    if isinstance(error, LocalEntryNotFoundError):
        return f"SAM3_MODEL: {name} cannot be downloaded: no network to the Hugging Face hub, and no cached copy"
    return f"SAM3_MODEL: {name} cannot be downloaded: {error}"


def _access_message(source: Source, error: Exception) -> str:
    page = f"https://huggingface.co/{source.model}"
    if not source.token:
        return f"HF_TOKEN is not set: {source.model} needs a token of an account that was granted access at {page}"
    if isinstance(error, GatedRepoError) or _status(error) == 403:
        return f"HF_TOKEN: its account has not been granted {source.model}; ask for access at {page}"
    return f"HF_TOKEN: the Hugging Face hub does not accept it for {source.model}; check token and name ({page})"


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
