"""The file of `--save`: a JSON object a line, with the message whole."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tools.redrive.letter import Letter


class CannotSave(Exception):
    """The file is there already, or cannot be written; in one line."""


class Saved:
    """A new file, made when the first messages are written: a look that writes none leaves none.

    CannotSave at once when the file is there already.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise CannotSave(f"--save: {str(path)!r} is there already; name a new file")
        self._path = path
        self._file: IO[str] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, letters: Iterable[Letter]) -> None:
        """Return when they are on the disk; else CannotSave."""
        try:
            if self._file is None:
                self._file = self._stack.enter_context(self._path.open("x", encoding="utf-8"))
            self._file.writelines(_line(letter) for letter in letters)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise CannotSave(f"--save: {error}") from error


def _line(letter: Letter) -> str:
    data = base64.b64encode(letter.original.data).decode()
    message: dict[str, Any] = {"data": data, "attributes": dict(letter.original.attributes)}
    if letter.original.ordering_key:
        message["orderingKey"] = letter.original.ordering_key
    return json.dumps(letter.described() | {"message": message}, ensure_ascii=False) + "\n"
