"""Runs inside an image, on its Python alone, and prints what it finds as JSON: `confinement` or `parts`."""

import json
import os
import shutil
import sys
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
    """Bytes of the files under it, on its own file system only, each file once; 0 when it is not there."""
    if not Path(folder).is_dir():
        return 0
    device = Path(folder).stat().st_dev
    sizes = {}
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(path, name).lstat().st_dev == device]
        for name in files:
            found = Path(path, name).lstat()
            sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


def confinement() -> dict[str, object]:
    """Whose process this is, and what it could do beside its work."""
    return {
        "uid": os.getuid(),
        "writable": [place for place in PLACES if writable(place)],
        "build_tools": [name for name in BUILD_TOOLS if shutil.which(name)],
    }


def parts() -> dict[str, int]:
    """Bytes of the whole image and of its parts."""
    return {part: size(part) for part in PARTS}


if __name__ == "__main__":
    print(json.dumps({"confinement": confinement, "parts": parts}[sys.argv[1]]()))
