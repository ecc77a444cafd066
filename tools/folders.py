"""Folders of checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target`, new or empty, when the block ends: that is there whole or not at all.

    Until then it lies beside `target`, in a scratch folder, its parent, whose other contents go. OSError when it cannot
    take its place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        yield folder
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors writes for its user alone, and a service runs as another one
        folder.rename(target)
