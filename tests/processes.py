"""Processes that are no children of the test."""

from __future__ import annotations

from pathlib import Path


def is_gone(pid: int) -> bool:
    """Also when nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
