"""The three commands of `gcloud` that a user is shown, against the emulator at STORAGE_EMULATOR_HOST."""

from __future__ import annotations

import sys
from pathlib import Path

from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage


def main(arguments: list[str]) -> int:
    match arguments:
        case ["auth", "print-identity-token"]:
            sys.stdout.write("a-token")
        case ["storage", "cp", "-", target]:
            _blob(target).upload_from_string(sys.stdin.buffer.read(), content_type="application/json")
        case ["storage", "cp", source, target]:
            _blob(target).upload_from_filename(str(Path(source)))
        case ["storage", "cat", source]:
            try:
                sys.stdout.write(_blob(source).download_as_text())
            except NotFound:
                return 1
        case _:
            sys.exit(f"no such command: {arguments}")
    return 0


def _blob(uri: str) -> storage.Blob:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    client = storage.Client(project="my-project", credentials=AnonymousCredentials())
    return client.bucket(bucket).blob(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
