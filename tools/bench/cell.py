"""One measurement in a process of its own, so that its memory is its own; and both sides in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.__main__ import PROCESS
from tools.bench.report import Pairs

ROOT = Path(__file__).parent.parent.parent


def run_cell(module: str, **arguments: Any) -> dict[str, Any]:
    """Run `python -m tools.bench.MODULE`, which answers with `answer`. RuntimeError carries its last lines."""
    command = [sys.executable, "-m", f"tools.bench.{module}"]
    # Both sides in the process that the service makes for itself.
    environment = PROCESS | os.environ
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=json.dumps(arguments), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    sample: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return sample


def answer(measure: Callable[..., dict[str, Any]]) -> None:
    """In the cell: call `measure` with the arguments given, and print what it returns."""
    print(json.dumps(measure(**json.load(sys.stdin))))


def in_turn(measure: Callable[[str], dict[str, Any]], repeats: int) -> Pairs:
    """Measure "baseline" and "ours" one after the other, `repeats` times, so that a slow minute slows both."""
    samples = [(measure("baseline"), measure("ours")) for _ in range(repeats)]
    return Pairs([theirs for theirs, _ in samples], [ours for _, ours in samples])
