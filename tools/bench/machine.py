"""Which machine a figure belongs to: its hardware and the libraries that compute, never whose it is."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_LIBRARIES = ("torch", "transformers", "numpy", "opencv-python", "opencv-python-headless", "pillow", "pycocotools")


def describe() -> dict[str, str]:
    """Name, processor, memory and versions."""
    cores = len(os.sched_getaffinity(0))
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cpu = cpu_model()
    return {
        "name": f"{cpu}, {cores} cores, {gib:.0f} GiB, torch {torch.__version__}",
        "processor": f"{cpu} ({torch.backends.cpu.get_cpu_capability()}), {cores} cores",
        "memory": f"{gib:.1f} GiB",
        "threads of torch": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "libraries": versions(),
    }


def versions() -> str:
    """Of the libraries that compute, as far as they are installed."""
    found = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return ", ".join(f"{name} {number}" for name, number in found.items())


def cpu_model() -> str:
    """As Linux names it."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def slug(name: str) -> str:
    """A machine's name as the name of a file."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
