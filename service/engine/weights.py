"""Where the weights come from: the hub, a bucket, a local folder or the package itself → one checkpoint folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
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

from service.engine.samples import weight_samples
from service.engine.shards import check_shards
from service.errors import ModelUnavailable

EMBEDDED = Path(__file__).parent.parent / "models" / "embedded"


@dataclass(frozen=True)
class Layout:
    """Which files make a checkpoint.

    needed: names or patterns, each of which must be there. weights: the pattern of those that hold the weights.
    on_hub: the patterns of what is downloaded. meaning: what such a folder is, in words.
    """

    needed: tuple[str, ...]
    weights: str
    on_hub: tuple[str, ...]
    meaning: str


TRANSFORMERS = Layout(
    ("config.json", "tokenizer.json", "*.safetensors"),
    "*.safetensors",
    ("*.json", "*.safetensors", "merges.txt", "vocab.json"),
    "a saved Sam3Model with its tokenizer",
)
OFFICIAL = Layout(
    ("sam3.pt",),
    "sam3.pt",
    ("sam3.pt", "config.json", "tokenizer.json"),
    "a folder with sam3.pt and tokenizer.json, as SAM3_ENGINE: 'sam3' needs it",
)

LAYOUTS = {"transformers": TRANSFORMERS, "sam3": OFFICIAL}
"""What each SAM3_ENGINE loads."""

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
    """A complete folder in its engine's layout, and the identity that goes into results and job keys."""

    folder: Path
    id: str
    revision: str


def resolve(source: Source, fetch: Fetch | None = None, layout: Layout = TRANSFORMERS) -> Checkpoint:
    """Return the checkpoint's folder, on this machine and complete; ModelUnavailable says in one line why not.

    `fetch` brings a model that is at gs://; without it such a model is refused.
    """
    if source.model == "embedded":
        return _local(EMBEDDED, source, layout)
    if source.model.startswith("gs://"):
        return _from_bucket(source, fetch, layout)
    if _looks_like_path(source.model):
        return _local(Path(source.model).expanduser(), source, layout)
    return _from_hub(source, layout)


def refuse_wrong_keys(checkpoint: Checkpoint, wrong: Mapping[str, Iterable[object]]) -> None:
    """ModelUnavailable with the first names, when any kind (`missing`, `unexpected`, `mismatched`) has weights."""
    for kind, found in wrong.items():
        keys = sorted(str(key) for key in found)
        if keys:
            shown = ", ".join(islice(keys, 3)) + (", …" if len(keys) > 3 else "")
            raise ModelUnavailable(
                f"SAM3_MODEL: {checkpoint.id} is no complete SAM 3: {len(keys)} {kind} weights ({shown})"
            )


def _looks_like_path(model: str) -> bool:
    return model.startswith(("/", "./", "../", "~")) or Path(model).is_dir()


def _local(folder: Path, source: Source, layout: Layout) -> Checkpoint:
    name = source.model
    if not folder.is_dir():
        raise ModelUnavailable(
            f"SAM3_MODEL: {name!r} is not a folder; allowed: embedded, a folder, gs://bucket/prefix, "
            "or org/name on the hub"
        )
    _check_complete(folder, name, layout)
    revision = fingerprint(folder, layout)
    if source.revision not in (None, revision):
        raise ModelUnavailable(f"SAM3_REVISION: {source.revision!r} is not that of {name!r}, which is {revision!r}")
    return Checkpoint(folder, name, revision)


def _from_bucket(source: Source, fetch: Fetch | None, layout: Layout) -> Checkpoint:
    if layout is not TRANSFORMERS:
        raise ModelUnavailable(
            f"SAM3_MODEL: {source.model!r} is not allowed with SAM3_ENGINE: 'sam3'; "
            "allowed: a folder or org/name on the hub"
        )
    if fetch is None:
        raise ModelUnavailable(f"SAM3_MODEL: {source.model!r} cannot be read here; fetch it into a folder first")
    check = partial(_check_complete, name=source.model, layout=layout)
    folder, revision = fetch(source.model, source.revision, check)
    return Checkpoint(folder, source.model, revision)


def _check_complete(folder: Path, name: str, layout: Layout) -> None:
    missing = [file for file in layout.needed if not any(path.is_file() for path in folder.glob(file))]
    if missing:
        raise ModelUnavailable(f"SAM3_MODEL: {name!r} lacks {', '.join(missing)}; it must be {layout.meaning}")
    if layout is TRANSFORMERS:
        check_shards(folder, name)


def fingerprint(folder: Path, layout: Layout = TRANSFORMERS) -> str:
    """12 hex digits that change when the weights do: of config.json and of samples from each weight file.

    The samples have a part of every tensor where the file says where those are; reading a full-size checkpoint
    whole would cost seconds at every start.
    """
    config = folder / "config.json"
    digest = hashlib.sha256(config.read_bytes() if config.is_file() else b"")
    for path in sorted(folder.glob(layout.weights)):
        digest.update(f"{path.name}:{path.stat().st_size}".encode())
        for sample in weight_samples(path):
            digest.update(sample)
    return digest.hexdigest()[:12]


def _from_hub(source: Source, layout: Layout) -> Checkpoint:
    api = HfApi(token=source.token)
    try:
        path = api.snapshot_download(source.model, revision=source.revision, allow_patterns=list(layout.on_hub))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelUnavailable(_hub_message(source, error)) from error
    folder = Path(path)
    _check_complete(folder, source.model, layout)
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
