"""Runs inside an image, on its Python alone, and prints what it finds as JSON: its user, what it may write, sizes."""

import json
import os
import shutil
import tempfile
from pathlib import Path

BUILD_TOOLS = ("cc", "gcc", "g++", "clang", "make", "ld", "pip")
PLACES = ("/", "/app", "/opt/venv", "/opt/torch", "/etc", "/var", "/usr", "/tmp")
PARTS = ("/", "/opt/torch", "/opt/model", "/opt/venv", "/app")


def writable(folder: str) -> bool:
    """Whether a file can be made there."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def size(folder: str) -> int:
    """Bytes of the files under it, on its own file system only, each file once."""
    device = os.lstat(folder).st_dev
    sizes = {}
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(path, name).lstat().st_dev == device]
        for name in files:
            found = Path(path, name).lstat()
            sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


if __name__ == "__main__":
    found = {
        "uid": os.getuid(),
        "writable": [place for place in PLACES if writable(place)],
        "build_tools": [name for name in BUILD_TOOLS if shutil.which(name)],
        "bytes": {part: size(part) for part in PARTS},
    }
    print(json.dumps(found))
