"""What the service adds to the model: per request, and while 16 clients wait at either door."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench import server
from tools.bench.cell import run_cell
from tools.bench.clients import Client, multipart
from tools.bench.inputs import SIZE_1MP_HW, encoded, photo
from tools.bench.plan import Plan
from tools.bench.report import Check, Row, Section, Target
from tools.bench.server import Server
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.settings import LocalCloudSettings
from tools.staged import STAGED

CLIENTS = 16
_BATCH_MS = 100
_STALLED_S = 120
_FIELDS = {"prompts": ["cat"], "return_masks": "true", "return_contours": "true"}
_METHOD = (
    f"The service's own process around an engine that sleeps {_BATCH_MS} ms a batch and finds one small object for "
    "each prompt; a 1 MP JPEG with one prompt each. Overhead is the client's time less that inside the engine's calls. "
    f"Busy is the engine's share of the time while {CLIENTS} clients (or pushes of the local cloud) wait."
)

Clock = dict[str, Any]


def measure(plan: Plan) -> list[Section]:
    """Overhead of one request, and how busy both doors keep the engine."""
    environment = {"BENCH_BATCH_MS": str(plan.pick(_BATCH_MS, 20))}
    jpeg = encoded(photo(plan.pick(SIZE_1MP_HW, (90, 120))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "image.jpg").write_bytes(jpeg)
        with server.started(STAGED, environment, folder / "direct.log") as running:
            rows = _overhead(running, jpeg, plan.pick(40, 3))
            direct, check = _direct_busy(running, folder / "image.jpg", plan.pick(10.0, 1.0))
        with LocalCloud(LocalCloudSettings(push_concurrency=CLIENTS)) as cloud:
            environment |= cloud.environment()
            with server.started(STAGED, environment, folder / "events.log") as running:
                events = _events_busy(running, cloud, jpeg, plan.pick(400, 20))
    for door, share in (("POST /segment", direct), ("POST /events", events)):
        rows.append(Row(f"engine busy, {door}", share * 100, "%", target=Target(95, of="ours", least=True)))
    return [Section("Doors", _METHOD, tuple(rows), (check,))]


def _overhead(running: Server, jpeg: bytes, requests: int) -> list[Row]:
    client = Client(running.url)
    body, headers = multipart(jpeg, _FIELDS)
    samples = [_one(client, body, headers) for _ in range(requests + 3)][3:]
    what = {
        "overhead_ms": "request less engine, median",
        "decode": "of that: decoding",
        "prepare": "of that: to the model's square",
        "postprocess": "of that: masks",
        "rest_ms": "of that: all else",
    }
    target = Target(5, of="ours")
    return [
        Row(text, median(sample[key] for sample in samples), "ms", target=target if key == "overhead_ms" else None)
        for key, text in what.items()
    ]


def _one(client: Client, body: bytes, headers: dict[str, str]) -> dict[str, float]:
    before = client.get_json("/bench/clock")
    _, answer, took_s = client.segment(body, headers)
    after = client.get_json("/bench/clock")
    busy_s, prepare_s = (after[name] - before[name] for name in ("busy_s", "prepare_s"))
    timing: dict[str, float] = json.loads(answer)["timing_ms"]
    overhead_ms, prepare_ms = (took_s - busy_s) * 1000, prepare_s * 1000
    parts = {"decode": timing["decode"] - prepare_ms, "prepare": prepare_ms, "postprocess": timing["postprocess"]}
    return parts | {"overhead_ms": overhead_ms, "rest_ms": overhead_ms - sum(parts.values())}


def _direct_busy(running: Server, image: Path, seconds: float) -> tuple[float, Check]:
    requests = [{"file": str(image), "fields": _FIELDS}]
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run_cell, "clients", url=running.url, clients=CLIENTS, requests=requests, seconds=seconds)
        clocks = watch(running, lambda _: load.done())
    statuses = load.result()["statuses"]
    return busy_share(clocks), Check("every request was answered 200", set(statuses) == {"200"})


def _events_busy(running: Server, cloud: LocalCloud, jpeg: bytes, images: int) -> float:
    """Sidecars first, and their events done: then every image is one event that the engine works for."""
    names = [f"{number:04}" for number in range(images)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cloud.upload(f"{n}.prompts.json", b'["cat"]', "application/json"), names))
        cloud.push_to(f"{running.url}/events")
        cloud.wait_until_quiet(120, received=images)
        cloud.push_to("")
        list(pool.map(lambda n: cloud.upload(f"{n}.jpg", jpeg, "image/jpeg"), names))
    already = running.get_json("/bench/clock")["prompts"]
    cloud.push_to(f"{running.url}/events")
    clocks = watch(running, lambda clock: clock["prompts"] >= already + images)
    cloud.wait_until_quiet(120, received=2 * images)
    return busy_share(clocks)


def watch(running: Server, done: Callable[[Clock], bool], stalled_s: float = _STALLED_S) -> list[Clock]:
    """The server's clock again and again until `done`. RuntimeError when no prompt ends for `stalled_s`: one failed."""
    client = Client(running.url)
    clocks: list[Clock] = [client.get_json("/bench/clock")]
    moved = time.monotonic()
    while not done(clocks[-1]):
        time.sleep(0.05)
        clocks.append(client.get_json("/bench/clock"))
        if clocks[-1]["prompts"] != clocks[-2]["prompts"]:
            moved = time.monotonic()
        elif time.monotonic() - moved > stalled_s:
            raise RuntimeError(f"no prompt in {stalled_s:g} s, after {clocks[-1]['prompts']}: has one failed?")
    return clocks


def busy_share(clocks: Sequence[Clock]) -> float:
    """The busy share of the time between 10 % and 85 % of the work: neither the start nor the last clients count."""
    first, last = clocks[0]["prompts"], clocks[-1]["prompts"]
    middle = [c for c in clocks if 0.10 <= (c["prompts"] - first) / max(1, last - first) <= 0.85]
    if len(middle) < 2:
        return 0.0
    begin, end = middle[0], middle[-1]
    return float((end["busy_s"] - begin["busy_s"]) / (end["now_s"] - begin["now_s"]))
