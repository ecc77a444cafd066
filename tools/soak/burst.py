"""More than the queue holds, at a service whose model takes very long to load: nothing may be given up."""

from __future__ import annotations

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from service.__main__ import PROCESS
from tools.bench.inputs import encoded, photo
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.faults import Proxies, Script
from tools.localcloud.settings import LocalCloudSettings
from tools.process import ServiceProcess
from tools.soak.plan import Plan
from tools.staged import STAGED

_BATCH_MS = 20


def run(plan: Plan, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Figures and violations: of a burst at a ready service, where planned, and of one at a service that loads."""
    figures: dict[str, Any] = {}
    faults: list[str] = []
    for title, load_s in [("burst", 0.0)] * plan.burst_at_ready + [("burst while loading", plan.load_s)]:
        more, wrong = _burst(plan, folder, load_s)
        figures |= {f"{title}: {what}": value for what, value in more.items()}
        faults += [f"{title}: {fault}" for fault in wrong]
    return figures, faults


def _burst(plan: Plan, folder: Path, load_s: float) -> tuple[dict[str, Any], list[str]]:
    names = [f"burst/{number}" for number in range(plan.burst_queues * plan.queue_size)]
    script = Script()
    with (
        LocalCloud(LocalCloudSettings(push_concurrency=64, max_backoff_s=plan.max_backoff_s)) as cloud,
        Proxies(cloud, script) as proxies,
    ):
        _upload(cloud, names)
        environment = proxies.environment() | _environment(plan, load_s)
        with ServiceProcess(environment, folder / f"burst-{load_s:g}.log", (sys.executable, *STAGED)) as service:
            service.start()
            if load_s == 0:
                service.wait_until_ready()
            proxies.push_to(service.url)
            cloud.wait_until_quiet(plan.timeout_s, received=2 * len(names))
            faults = _faults(cloud, names)
        pushed = cloud.statistics()[cloud.settings.uploads_subscription]
    deliveries = Counter(call.subject for call in script.calls() if call.kind == "push")
    figures = {
        "images": len(names),
        "deliveries refused": pushed.nacked,
        "most deliveries of a message": max(deliveries.values()),
    }
    return figures, faults + ([f"{pushed.dead} dead letters"] if pushed.dead else [])


def _environment(plan: Plan, load_s: float) -> dict[str, str]:
    return PROCESS | {
        "BENCH_BATCH_MS": str(_BATCH_MS),
        "BENCH_SIDE": "64",
        "BENCH_LOAD_S": str(load_s),
        "QUEUE_SIZE": str(plan.queue_size),
        "EVENT_WAIT_S": "0",  # no waiting in line: a full queue is 429 at once
    }


def _upload(cloud: LocalCloud, names: list[str]) -> None:
    """An image and its prompts under each name, the prompts first."""
    image = encoded(photo((60, 80)), ".png")

    def one(name: str) -> None:
        cloud.upload(f"{name}.prompts.json", json.dumps(["cat"]), "application/json")
        cloud.upload(f"{name}.png", image, "image/png")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, names))


def _faults(cloud: LocalCloud, names: list[str]) -> list[str]:
    written = {blob.name for blob in cloud.storage.list_blobs(cloud.settings.output_bucket)}
    return [f"{name}: no result" for name in names if f"{name}.png.json" not in written]
