"""Checkpoints at gs://bucket/prefix, and the folder that keeps what was fetched of them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from service.core.naming import BUCKET_NAME
from service.errors import ModelUnavailable
from service.gcp.storage import open_client

# Uploaded last and deleted first: a prefix without it holds no complete checkpoint.
LAST_FILE = "config.json"
_SETTING = "SAM3_MODEL"
TIMEOUT_S = (10.0, 60.0)  # connect, read
RETRY = DEFAULT_RETRY.with_timeout(120.0)
_FIELDS = "items(name,generation,size,crc32c),nextPageToken"
_FILE = re.compile(r"[^/]+\.(json|safetensors)|merges\.txt")
_URI = re.compile(rf"gs://({BUCKET_NAME})(?:/(.*))?")
_FILES_AT_ONCE, _RANGES_AT_ONCE = 3, 8
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TROUBLE = (api.GoogleAPIError, GoogleAuthError, requests.RequestException, InvalidResponse, OSError)


@dataclass(frozen=True)
class Location:
    """Where a checkpoint is: `prefix` is empty or ends with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str, name: str = _SETTING) -> Location:
        """Read gs://bucket/prefix, with or without a slash at its end; ModelUnavailable when it is something else.

        `name`: of the setting or argument that has it.
        """
        match = _URI.fullmatch(uri)
        if not match:
            raise ModelUnavailable(f"{name}: {uri!r} is not allowed; allowed: gs://bucket/prefix")
        prefix = (match[2] or "").strip("/")
        return cls(match[1], f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.prefix}"


@dataclass(frozen=True)
class ModelFile:
    """A file of a checkpoint: `size` in bytes, `crc32c` as Cloud Storage writes it (base64), 0 for no generation."""

    name: str
    size: int
    crc32c: str
    generation: int = 0


def revision_of(files: Iterable[ModelFile]) -> str:
    """12 hex digits that are the same for the same contents, wherever and whenever they were uploaded."""
    lines = sorted(f"{file.name}:{file.size}:{file.crc32c}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def connect() -> storage.Client:
    """A client with connections for all ranges that are read at once."""
    return open_client(_FILES_AT_ONCE * _RANGES_AT_ONCE)


def fetch(uri: str, revision: str | None, check: Callable[[Path], None], *, cache: Path) -> tuple[Path, str]:
    """As ModelStore.fetch, with a client of its own."""
    with explained(f"{_SETTING}: {uri!r}"):
        client = connect()
    with closing(client):
        return ModelStore(client, cache).fetch(uri, revision, check)


def list_files(client: storage.Client, location: Location) -> list[ModelFile]:
    """As ModelStore.files, with the errors of Google's client."""
    prefix = location.prefix
    blobs = client.list_blobs(
        location.bucket, prefix=prefix, delimiter="/", fields=_FIELDS, timeout=TIMEOUT_S, retry=RETRY
    )
    described = [(blob.name.removeprefix(prefix), blob) for blob in blobs]
    return [
        ModelFile(name, int(blob.size or 0), blob.crc32c, int(blob.generation))
        for name, blob in described
        if _FILE.fullmatch(name)
    ]


class ModelStore:
    """Reads checkpoints into `cache`, one folder for each revision. ModelUnavailable says in one line what is wrong."""

    def __init__(self, client: storage.Client, cache: Path, range_bytes: int = 32 * 1024 * 1024) -> None:
        self._client = client
        self._cache = cache
        self._range_bytes = range_bytes

    def fetch(self, uri: str, revision: str | None, check: Callable[[Path], None]) -> tuple[Path, str]:
        """Return a folder with exactly the files at `uri`, and their revision.

        Each file is read in parallel ranges of the generation that was listed, and its size and CRC32C compared. The
        folder gets its name when all are there and `check` has passed; on any error nothing is left. A folder of the
        same revision is used again.
        """
        location = Location.parse(uri)
        files = self._complete(location, uri)
        found = revision_of(files)
        if revision not in (None, found):
            raise ModelUnavailable(f"SAM3_REVISION: {revision!r} is not that of {uri!r}, which is {found!r}")
        folder = self._cache / found
        with self._alone():
            if not _is_copy(folder, files):
                shutil.rmtree(folder, ignore_errors=True)
                self._fill(folder, location, files, check)
        return folder, found

    def files(self, location: Location) -> list[ModelFile]:
        """Describe the files of the checkpoint at `location`; what else lies there is not looked at."""
        with explained(f"{_SETTING}: {str(location)!r}"):
            return list_files(self._client, location)

    def _complete(self, location: Location, uri: str) -> list[ModelFile]:
        files = self.files(location)
        if not files:
            raise ModelUnavailable(f"SAM3_MODEL: {uri!r} holds no files of a model")
        if not any(file.name == LAST_FILE for file in files):
            raise ModelUnavailable(f"SAM3_MODEL: {uri!r} lacks {LAST_FILE}; an upload of it has not been completed")
        return files

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time in this cache; the system takes the lock from one that has died."""
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self._cache / "lock").open("a")
        except OSError as error:
            raise ModelUnavailable(
                f"SAM3_CACHE_DIR: {str(self._cache)!r} cannot be written: {error.strerror}"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _fill(self, folder: Path, location: Location, files: list[ModelFile], check: Callable[[Path], None]) -> None:
        for left in self._cache.glob("*.partial"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        partial = folder.with_suffix(".partial")
        try:
            with explained(f"{_SETTING}: {str(location)!r}", self._cache):
                partial.mkdir()
                self._download(partial, location, files)
                check(partial)
                partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _download(self, folder: Path, location: Location, files: list[ModelFile]) -> None:
        with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="fetch") as pool:
            for _ in pool.map(lambda file: self._download_one(folder, location, file), files):
                pass

    def _download_one(self, folder: Path, location: Location, file: ModelFile) -> None:
        # A blob that knows what was listed, so that the library does not ask for what is there now.
        known = {"generation": file.generation, "size": file.size, "crc32c": file.crc32c}
        blob = self._client.bucket(location.bucket).blob(location.prefix + file.name, generation=file.generation)
        blob._set_properties({"name": blob.name, **known})
        transfer_manager.download_chunks_concurrently(
            blob,
            folder / file.name,
            chunk_size=self._range_bytes,
            # Also as a condition: the library takes the blob's own generation from each answer.
            download_kwargs={"if_generation_match": file.generation, "timeout": TIMEOUT_S, "retry": RETRY},
            worker_type=transfer_manager.THREAD,
            max_workers=_RANGES_AT_ONCE,
        )
        # The library compares the bytes with the checksum of the response, which it writes into the blob.
        if (blob.crc32c, (folder / file.name).stat().st_size) != (file.crc32c, file.size):
            raise DataCorruption(None, file.name)


def _is_copy(folder: Path, files: list[ModelFile]) -> bool:
    return all((path := folder / file.name).is_file() and path.stat().st_size == file.size for file in files)


@contextmanager
def explained(what: str, cache: Path | None = None, *, role: str = "roles/storage.objectViewer") -> Iterator[None]:
    """Turn what Google's client and the disk raise into one line of ModelUnavailable that begins with `what`.

    `role`: what an account needs for this. Only class and status of an error are shown: its text may quote tokens or
    signed addresses.
    """
    try:
        yield
    except DataCorruption as error:
        raise ModelUnavailable(f"{what} arrived damaged: size or CRC32C differ from what is stored") from error
    except _TROUBLE as error:
        raise ModelUnavailable(f"{what} {_reason(error, cache, role)}") from error


def _reason(error: Exception, cache: Path | None, role: str) -> str:
    if getattr(error, "errno", None) in _NO_SPACE:
        return f"does not fit into {str(cache)!r}: no space is left there (SAM3_CACHE_DIR)"
    status = _status(error)
    if status in (401, 403) or isinstance(error, GoogleAuthError):
        return f"is not open to this account ({status or type(error).__name__}): it needs {role} on the bucket"
    if status == 404:
        return "does not exist, or was replaced while it was read"
    if status == 412:
        return "was changed by somebody else meanwhile"
    return f"cannot be reached: {type(error).__name__} {status or ''}".rstrip()


def _status(error: Exception) -> int | None:
    status = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return int(status) if isinstance(status, int) else None
