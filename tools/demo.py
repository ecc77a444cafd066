"""`sam3 demo`: an image and its prompts through the whole event path, with a table and a picture to look at."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
from google.cloud.pubsub_v1 import SubscriberClient
from PIL import Image

from service.core.masks import Mask
from service.core.overlay import draw_overlay
from service.core.results import Instance, PromptResult
from tools.localcloud.cloud import LocalCloud
from tools.process import ServiceProcess, running_service

DEMO = Path(__file__).parent.parent / "service" / "models" / "demo"
_NAME = "kitchen/scene.png"
_GOOD_IOU = 0.75
_TOKENS = {"HF_TOKEN", "HUGGINGFACE_HUB_TOKEN"}
_GIVEN = {"TORCH_NUM_THREADS", *_TOKENS}


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 demo`."""
    parser = subparsers.add_parser("demo", help=purpose, description=purpose)
    parser.add_argument("--keep", action="store_true", help="leave everything running and print commands to try")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the results (demo-out)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Upload the sample scene and its sidecar, wait for the announcement, show what came out."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    environment = model_environment(os.environ)
    _say(f"model: {environment['SAM3_MODEL']}")
    with ExitStack() as stack:
        with _phase("local cloud (Cloud Storage and Pub/Sub emulators)"):
            cloud = stack.enter_context(LocalCloud())
        service = stack.enter_context(
            running_service(cloud.environment() | environment, log_file=arguments.out / "service.log", on_phase=_report)
        )
        cloud.push_to(f"{service.url}/events")
        good = send_and_show(cloud, service, arguments.out)
        if arguments.keep:
            _serve(cloud, service.url)
    return 0 if good else 1


def model_environment(env: Mapping[str, str]) -> dict[str, str]:
    """What `env` says of the model, and no other setting; else the real SAM 3 if there is a token, or the tiny one."""
    given = {name: value for name, value in env.items() if value and (name.startswith("SAM3_") or name in _GIVEN)}
    return {"SAM3_MODEL": "facebook/sam3" if given.keys() & _TOKENS else "embedded"} | given


def send_and_show(cloud: LocalCloud, service: ServiceProcess, out: Path) -> bool:
    """Send the sample scene through a cloud that pushes to `service`; whether what was found is what is drawn.

    RuntimeError when the service ends meanwhile.
    """
    bucket = cloud.storage.bucket(cloud.settings.input_buckets[0])
    sidecar = _NAME.removesuffix(".png") + ".prompts.json"
    bucket.blob(sidecar).upload_from_filename(str(DEMO / "scene.prompts.json"), content_type="application/json")
    bucket.blob(_NAME).upload_from_filename(str(DEMO / "scene.png"), content_type="image/png")
    _say(f"uploaded gs://{bucket.name}/{_NAME} and its sidecar {sidecar}")
    with _phase("waiting for the results topic"):
        message = _next_message(cloud, service)
    if message["status"] != "succeeded":
        _say(f"failed: {message['error']['detail']}")
        return False
    uri = message["output"]
    output = cloud.storage.bucket(cloud.settings.output_bucket).blob(uri.split("/", 3)[3])
    document = json.loads(output.download_as_bytes())
    return _show(document, uri, out)


def _next_message(cloud: LocalCloud, service: ServiceProcess, timeout_s: float = 1800) -> dict[str, Any]:
    """The first announcement; a full-size model on a CPU needs minutes."""
    subscriber: SubscriberClient = cloud.subscriber
    name = cloud.settings.results_subscription
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        service.check()
        received = subscriber.pull(subscription=name, max_messages=1, timeout=60).received_messages
        if received:
            subscriber.acknowledge(subscription=name, ack_ids=[received[0].ack_id])
            message: dict[str, Any] = json.loads(received[0].message.data)
            return message
    raise TimeoutError(f"no message on the results topic within {timeout_s:.0f} s")


def _show(document: Mapping[str, Any], uri: str, out: Path) -> bool:
    truth = json.loads((DEMO / "scene.truth.json").read_text())
    result_file, picture_file = out / "scene.png.json", out / "scene.overlay.png"
    result_file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    picture = draw_overlay(np.array(Image.open(DEMO / "scene.png").convert("RGB")), _results(document))
    Image.fromarray(picture).save(picture_file)
    rows = [_row(result, truth) for result in document["results"]]
    print(f"\n{'label':<16}{'instances':>10}{'best score':>12}{'drawn':>8}{'mean IoU':>10}")
    for label, count, best, drawn, iou in rows:
        print(f"{label:<16}{count:>10}{best:>12}{drawn:>8}{'–' if iou is None else f'{iou:.2f}':>10}")
    print(f"\nresult   {uri}\n         {result_file}\npicture  {picture_file}\n")
    return _as_drawn(rows) or document["model"]["id"] != "embedded"


Row = tuple[str, int, str, int, float | None]


def _row(result: Mapping[str, Any], truth: Mapping[str, Any]) -> Row:
    """Label, found, best score, drawn, and the mean IoU of the drawn objects with the masks found for them."""
    drawn = [item["mask_rle"] for item in truth["objects"] if result["label"] in item["phrases"]]
    best = f"{max(result['scores']):.2f}" if result["scores"] else "–"
    iou = None
    if drawn:
        found = result["masks_rle"]
        table = pycocotools.mask.iou(found, drawn, [0] * len(drawn)) if found else np.zeros((1, len(drawn)))
        iou = float(np.asarray(table).max(axis=0).mean())
    return result["label"], len(result["scores"]), best, len(drawn), iou


def _as_drawn(rows: list[Row]) -> bool:
    """Every drawn object found with a good mask, nothing else found; says which label is not."""
    wrong = [label for label, found, _, drawn, iou in rows if found != drawn or (iou is not None and iou < _GOOD_IOU)]
    for label in wrong:
        _say(f"{label}: not as drawn")
    return not wrong


def _results(document: Mapping[str, Any]) -> list[PromptResult]:
    """A result document → values that the overlay draws."""
    return [
        PromptResult(
            result["label"],
            tuple(
                Instance(score, tuple(box), _mask(rle))
                for score, box, rle in zip(result["scores"], result["boxes"], result["masks_rle"], strict=True)
            ),
        )
        for result in document["results"]
    ]


def _mask(rle: Mapping[str, Any]) -> Mask:
    height, width = rle["size"]
    return Mask.of(pycocotools.mask.decode(rle), 0, 0, (height, width))


def _serve(cloud: LocalCloud, url: str) -> None:
    """Say what can be tried, and wait for Ctrl-C."""
    storage = cloud.environment()["STORAGE_EMULATOR_HOST"]
    upload = f"{storage}/upload/storage/v1/b/{cloud.settings.input_buckets[0]}/o?uploadType=media&name="
    download = f"{storage}/storage/v1/b/{cloud.settings.output_bucket}/o/photo.png.json?alt=media"
    print(
        f"""Everything is running. In another terminal, from this folder:

# ask directly
curl -F image=@{DEMO / "scene.png"} -F prompts=cat -F prompts=dog -F return_contours=true {url}/segment

# or drop a file: its prompts first, then the image; the result appears in the output bucket
echo '["cat", "red circle"]' | curl -s --data-binary @- -H 'Content-Type: application/json' '{upload}photo.prompts.json'
curl -s --data-binary @{DEMO / "scene.png"} -H 'Content-Type: image/png' '{upload}photo.png'
curl -s '{download}'

Ctrl-C stops it.
"""
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


@contextmanager
def _phase(what: str) -> Iterator[None]:
    start = time.perf_counter()
    _say(f"{what} …")
    yield
    _say(f"{what}: {time.perf_counter() - start:.1f} s")


def _report(phase: str) -> None:
    _say(f"service: {phase}")


def _say(text: str) -> None:
    print(f"· {text}", flush=True)
