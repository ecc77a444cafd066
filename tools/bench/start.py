"""From the start of the process to /ready, and the memory that it took."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tools.bench import models, rss, server
from tools.bench.cell import in_turn
from tools.bench.plan import Plan
from tools.bench.report import Pairs, Row, Section, Target

_MIB = 2**20
_METHOD = (
    "From spawning the process until /ready answers 200, float32 on the CPU. The baseline imports, builds "
    "`Sam3Model(config)`, reads a .pt with `torch.load` and copies the weights in; it then listens. Every file is read "
    "once before, so that both find it in the page cache. Memory is VmHWM over all processes of the server, and counts "
    "mapped files."
)


def measure(plan: Plan) -> list[Section]:
    """The embedded model, and one of full size."""
    rows = _rows("embedded model", _pairs(models.embedded(), plan, plan.pick(3, 1)))
    if not plan.quick:
        try:
            rows += _full_size(plan)
        finally:
            if not plan.keep:
                models.remove(plan.cache)
    return [Section("Start", _METHOD, tuple(rows))]


def _full_size(plan: Plan) -> list[Row]:
    checkpoint, name = models.full(plan.cache), "840 million parameters"
    pairs = _pairs(checkpoint, plan, 2)
    share = max(sample["peak_bytes"] for sample in pairs.ours) / checkpoint.weight_bytes
    return [
        *_rows(name, pairs, Target(1 / 5)),
        Row(f"{name}, peak / weights", share, "×", target=Target(1.3, of="ours")),
    ]


def _rows(name: str, pairs: Pairs, target: Target | None = None) -> list[Row]:
    return [
        pairs.row(name, "ready_s", "s", target),
        pairs.row(f"{name}, peak memory", "peak_bytes", "MiB", None, 1 / _MIB),
    ]


def _pairs(checkpoint: models.Checkpoint, plan: Plan, repeats: int) -> Pairs:
    weights = models.pickled(checkpoint, plan.cache)
    for path in (weights, *checkpoint.folder.iterdir()):
        _read(path)
    return in_turn(lambda side: _once(side, checkpoint.folder, weights), repeats)


def _once(side: str, folder: Path, weights: Path) -> dict[str, Any]:
    command, environment = command_of(side, folder, weights)
    with (
        tempfile.TemporaryDirectory() as logs,
        server.started(command, environment, Path(logs) / "server.log") as running,
    ):
        return {"ready_s": running.ready_s, "peak_bytes": rss.total_peak(running.pid)}


def command_of(side: str, folder: Path, weights: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """How a side's server is started on a checkpoint."""
    if side == "ours":
        return server.SERVICE, {"SAM3_MODEL": str(folder), "SAM3_DEVICE": "cpu"}
    return server.BASELINE, {"BENCH_FOLDER": str(folder), "BENCH_WEIGHTS": str(weights)}


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(16 * _MIB):
            pass
