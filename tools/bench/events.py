"""How many events the service gets through, and what a duplicate costs."""

from __future__ import annotations

import base64
import http.client
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench import server
from tools.bench.inputs import encoded, photo
from tools.bench.plan import Plan
from tools.bench.report import Check, Row, Section, Target
from tools.bench.server import Server
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.settings import LocalCloudSettings
from tools.staged import STAGED

_BATCH_MS = 100
_BATCH = 4  # prompts that share a forward on a CPU, and so the prompts of each image here
_PUSHES = 16
_METHOD = (
    "The service's own process around a scripted engine, the local cloud's push subscription, small images whose "
    "sidecars are there already; uploading clients and emulators share the processors. Events a second: from the first "
    "upload until every event is acknowledged, with an engine that takes no time. Share: the same with an engine that "
    f"sleeps {_BATCH_MS} ms a batch and images of one batch of {_BATCH} prompts each, of the {1000 / _BATCH_MS:g} "
    "images a second that it can do. Duplicate: one event posted again and again, median of the answers' times."
)


def measure(plan: Plan) -> list[Section]:
    """Throughput with an engine that costs nothing, share of a staged one's, and the time of a duplicate."""
    batch_ms = plan.pick(_BATCH_MS, 20)
    with tempfile.TemporaryDirectory() as name:
        free = _Run(0, Path(name))
        per_s, duplicate_ms, good = free.measure(plan.pick(500, 20), plan.pick(100, 5))
        staged = _Run(batch_ms, Path(name))
        staged_per_s, _, staged_good = staged.measure(plan.pick(200, 10), 0)
    rows = (
        Row("events, engine that takes no time", per_s, "events/s", target=Target(25, of="ours", least=True)),
        Row(f"events, engine with {batch_ms} ms a batch", staged_per_s, "events/s"),
        Row("share of that engine's own", staged_per_s * batch_ms / 10, "%", target=Target(95, of="ours", least=True)),
        Row("a duplicate event", duplicate_ms, "ms", target=Target(20, of="ours")),
    )
    return [Section("Events", _METHOD, rows, (Check("every image has its result", good and staged_good),))]


class _Run:
    """One server in one local cloud."""

    def __init__(self, batch_ms: int, folder: Path) -> None:
        self._environment = {"BENCH_BATCH_MS": str(batch_ms), "BENCH_SIDE": "64"}
        self._log = folder / f"events-{batch_ms}.log"

    def measure(self, images: int, duplicates: int) -> tuple[float, float, bool]:
        """Events a second, milliseconds of a duplicate, and whether every image has a result."""
        names = [f"{number:05}.png" for number in range(images)]
        with LocalCloud(LocalCloudSettings(push_concurrency=_PUSHES)) as cloud:
            with server.started(STAGED, cloud.environment() | self._environment, self._log) as running:
                took_s = _upload_all(running, cloud, names)
                duplicate_ms = median(_duplicates(running, cloud, names[0], duplicates)) if duplicates else 0.0
            written = {blob.name for blob in cloud.storage.list_blobs(cloud.settings.output_bucket)}
        return images / took_s, duplicate_ms, written == {f"{name}.json" for name in names}


def _upload_all(running: Server, cloud: LocalCloud, names: list[str]) -> float:
    """Seconds for all images; the sidecars' own events come before."""
    prompts, image = json.dumps([f"prompt {number}" for number in range(_BATCH)]).encode(), encoded(photo((90, 120)))
    cloud.push_to(f"{running.url}/events")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: cloud.upload(f"{name}.prompts.json", prompts, "application/json"), names))
        cloud.wait_until_quiet(300, received=len(names))
        start = time.perf_counter()
        list(pool.map(lambda name: cloud.upload(name, image, "image/jpeg"), names))
        cloud.wait_until_quiet(600, received=2 * len(names))
    return time.perf_counter() - start


def _duplicates(running: Server, cloud: LocalCloud, name: str, count: int) -> list[float]:
    """Milliseconds of each answer to an event whose work is done."""
    body = _push(cloud, name)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    times = []
    for _ in range(count):
        start = time.perf_counter()
        connection.request("POST", "/events", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        times.append((time.perf_counter() - start) * 1000)
        if answer.status != 204:
            raise RuntimeError(f"a duplicate was answered {answer.status}")
    connection.close()
    return times


def _push(cloud: LocalCloud, name: str) -> bytes:
    """The push that told of the upload, once more."""
    blob: Any = cloud.storage.bucket(cloud.settings.input_buckets[0]).get_blob(name)
    resource = base64.b64encode(json.dumps({"contentType": blob.content_type}).encode()).decode()
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": blob.bucket.name,
        "objectId": name,
        "objectGeneration": str(blob.generation),
        "payloadFormat": "JSON_API_V1",
    }
    message = {"data": resource, "messageId": "1", "attributes": attributes}
    return json.dumps({"message": message, "subscription": cloud.settings.uploads_subscription}).encode()
