"""What processes occupy, from Linux' /proc (proc_pid_status(5)), in bytes."""

from __future__ import annotations

import re
from pathlib import Path

_KIB = 1024


def resident(pid: int | str = "self") -> int:
    """Resident memory now (VmRSS)."""
    return _status(pid, "VmRSS")


def peak(pid: int | str = "self") -> int:
    """The most resident memory since the start or the last `reset_peak` (VmHWM)."""
    return _status(pid, "VmHWM")


def reset_peak() -> None:
    """Let this process's `peak` begin again at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def family(pid: int) -> list[int]:
    """The process and all that it has started, and they, and so on."""
    children = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in _read(file).split()]
    return [pid, *(each for child in children for each in family(child))]


def total_peak(pid: int) -> int:
    """The sum of the peaks of a process and its descendants; what they share counts for each."""
    return sum(peak(each) for each in family(pid))


def total_resident(pid: int) -> int:
    """The sum of what a process and its descendants occupy now."""
    return sum(resident(each) for each in family(pid))


def _read(path: Path) -> str:
    """A file of a process or thread that may end at any moment."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _status(pid: int | str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _read(Path(f"/proc/{pid}/status")), re.MULTILINE)
    return int(found[1]) * _KIB if found else 0  # a process that is ending has no memory any more
