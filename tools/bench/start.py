"""From the start of the process to /ready and to the first answer, and the memory that it took."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tools.bench import models, rss, server
from tools.bench.cell import in_turn
from tools.bench.clients import Client, multipart
from tools.bench.inputs import PROMPTS, SIZE_1MP_HW, encoded, photo
from tools.bench.plan import Plan
from tools.bench.report import Check, Pairs, Row, Section, Target

_MIB = 2**20
_METHOD = (
    "From spawning the process until /ready answers 200, float32 on the CPU. The baseline imports, builds "
    "`Sam3Model(config)`, reads a .pt with `torch.load` and copies the weights in; it then listens. Every file is "
    "read once before, so that both find it in the page cache. Memory is VmHWM over all processes of the server, and "
    "counts mapped files. The first answer is to one prompt on a 1 MP JPEG, with a threshold that nothing reaches: "
    "masks take no part. Ready is not the same on both sides. The baseline has read all weights then, and run "
    "nothing. Ours has run a request; but of a checkpoint over 512 MiB, on a CPU, a phrase alone: the weights of the "
    "vision encoder are mapped, and read for the first image. That time and memory are in the rows until the first "
    "answer alone, and the targets are on those until ready: at full size they say nothing about reading the weights."
)
_THRESHOLD = "0.999"


def measure(plan: Plan) -> list[Section]:
    """The embedded model, and one of full size."""
    taken = [_pairs(models.embedded(), plan, plan.pick(3, 1))]
    rows = _rows("embedded model", taken[0])
    if not plan.quick:
        try:
            checkpoint = models.full(plan.cache)
            taken.append(_pairs(checkpoint, plan, 3))
            rows += _full_size(taken[1], checkpoint.weight_bytes)
        finally:
            if not plan.keep:
                models.remove(plan.cache)
    answered = all(sample["status"] == 200 for pairs in taken for sample in (*pairs.baseline, *pairs.ours))
    return [Section("Start", _METHOD, tuple(rows), (Check("every first request was answered 200", answered),))]


def _full_size(pairs: Pairs, weight_bytes: int) -> list[Row]:
    name = "840 million parameters"
    ready, answered = (max(sample[key] for sample in pairs.ours) / weight_bytes for key in ("peak_bytes", "first_peak"))
    return [
        *_rows(name, pairs, Target(1 / 5)),
        Row(f"{name}, peak / weights until ready", ready, "×", target=Target(1.3, of="ours")),
        Row(f"{name}, peak / weights until the first answer", answered, "×"),
    ]


def _rows(name: str, pairs: Pairs, target: Target | None = None) -> list[Row]:
    return [
        pairs.row(f"{name}, until ready", "ready_s", "s", target),
        pairs.row(f"{name}, until the first answer", "first_s", "s"),
        pairs.row(f"{name}, peak memory until ready", "peak_bytes", "MiB", None, 1 / _MIB),
        pairs.row(f"{name}, peak memory until the first answer", "first_peak", "MiB", None, 1 / _MIB),
    ]


def _pairs(checkpoint: models.Checkpoint, plan: Plan, repeats: int) -> Pairs:
    weights = models.pickled(checkpoint, plan.cache)
    for path in (weights, *checkpoint.folder.iterdir()):
        _read(path)
    request = multipart(encoded(photo(SIZE_1MP_HW)), {"prompts": PROMPTS[:1], "threshold": _THRESHOLD})
    return in_turn(lambda side: _once(side, checkpoint.folder, weights, request), repeats)


def _once(side: str, folder: Path, weights: Path, request: tuple[bytes, dict[str, str]]) -> dict[str, Any]:
    command, environment = command_of(side, folder, weights)
    with (
        tempfile.TemporaryDirectory() as logs,
        server.started(command, environment, Path(logs) / "server.log") as running,
    ):
        peak_bytes = rss.total_peak(running.pid)
        status, _, took_s = Client(running.url).segment(*request)
        return {
            "ready_s": running.ready_s,
            "peak_bytes": peak_bytes,
            "first_s": running.ready_s + took_s,
            "first_peak": rss.total_peak(running.pid),
            "status": status,
        }


def command_of(side: str, folder: Path, weights: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """How a side's server is started on a checkpoint."""
    if side == "ours":
        return server.SERVICE, {"SAM3_MODEL": str(folder), "SAM3_DEVICE": "cpu"}
    return server.BASELINE, {"BENCH_FOLDER": str(folder), "BENCH_WEIGHTS": str(weights)}


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(16 * _MIB):
            pass
