"""Requests a second, and how long each takes, with 1, 4 and 16 clients at the direct door."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench import engines, models, rss, server
from tools.bench.cell import in_turn, run_cell
from tools.bench.finds import choose_threshold
from tools.bench.inputs import PROMPTS, SIZE_1MP_HW, encoded, photo
from tools.bench.plan import Plan
from tools.bench.report import Check, Pairs, Row, Section
from tools.bench.server import Server
from tools.bench.start import command_of

_MIB = 2**20
_METHOD = (
    "Both servers with the same weights ({model}), asked in turn ({repeats} ×) after a request each that does not "
    "count: 1 MP JPEGs with {prompts} prompts each, masks and contours in the answer. The baseline lets one request "
    "at a time to the model. Above 1 is faster for requests a second, below 1 for the time that one takes. Memory is "
    "that of the two servers at the end."
)


def measure(plan: Plan) -> list[Section]:
    """Rows for each number of clients, and the memory of both servers afterwards."""
    checkpoint = models.embedded() if plan.quick else models.medium(plan.cache)
    prompts = 2
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        requests = _requests(folder, checkpoint, prompts)
        running = {side: _start(stack, side, checkpoint, plan, folder) for side in ("baseline", "ours")}
        rows, answered = [], all(_send(each, 1, requests[:1])["good"] for each in running.values())
        for clients in plan.pick((1, 4, 16), (1, 2)):
            pairs = _pairs(running, clients, requests, plan)
            answered &= all(sample["good"] for sample in (*pairs.baseline, *pairs.ours))
            rows.append(pairs.row(f"{clients} clients", "per_s", "requests/s"))
            rows.append(pairs.row(f"{clients} clients, one request", "latency_s", "s"))
        rows.append(_memory(running))
    model = "embedded" if plan.quick else "random, medium size"
    method = _METHOD.format(model=model, prompts=prompts, repeats=_repeats(plan))
    return [Section("Throughput", method, tuple(rows), (Check("every request was answered 200", answered),))]


def _requests(folder: Path, checkpoint: models.Checkpoint, prompts: int) -> list[dict[str, Any]]:
    threshold = choose_threshold(engines.load(checkpoint.folder), photo(SIZE_1MP_HW))
    fields = {
        "prompts": PROMPTS[:prompts],
        "threshold": f"{threshold:.7f}",
        "return_masks": "true",
        "return_contours": "true",
    }
    files = [folder / f"{number}.jpg" for number in range(4)]
    for number, file in enumerate(files):
        file.write_bytes(encoded(photo(SIZE_1MP_HW, seed=number)))
    return [{"file": str(file), "fields": fields} for file in files]


def _start(stack: ExitStack, side: str, checkpoint: models.Checkpoint, plan: Plan, folder: Path) -> Server:
    command, environment = command_of(side, checkpoint.folder, models.pickled(checkpoint, plan.cache))
    environment = environment | {"QUEUE_SIZE": str(engines.QUEUE_SIZE)}
    return stack.enter_context(server.started(command, environment, folder / f"{side}.log"))


def _pairs(running: dict[str, Server], clients: int, requests: list[dict[str, Any]], plan: Plan) -> Pairs:
    share = [requests[i % len(requests)] for i in range(max(plan.pick(6, 2), 2 * clients))]

    return in_turn(lambda side: _send(running[side], clients, share), _repeats(plan))


def _send(running: Server, clients: int, requests: list[dict[str, Any]]) -> dict[str, Any]:
    sent = run_cell("clients", url=running.url, clients=clients, requests=requests)
    return {
        "per_s": len(requests) / sent["wall_s"],
        "latency_s": median(sent["latencies_s"]),
        "good": set(sent["statuses"]) == {"200"},
    }


def _repeats(plan: Plan) -> int:
    return plan.pick(3, 1)


def _memory(running: dict[str, Server]) -> Row:
    peaks = {side: rss.total_peak(each.pid) / _MIB for side, each in running.items()}
    return Row("peak memory of the server", peaks["ours"], "MiB", peaks["baseline"], peaks["ours"] / peaks["baseline"])
