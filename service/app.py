"""Where the parts are wired together: settings, model, cloud clients, doors.

What takes seconds to import is imported where it is used: the server listens, and says in /ready what is under way,
while torch, transformers and the weights are on their way.
"""

from __future__ import annotations

import atexit
import logging
import logging.config
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from flask import Flask

from service.core.budget import Budget
from service.core.observe import Observer
from service.engine.base import Engine
from service.engine.batcher import BatchPolicy, Load, ModelThread
from service.engine.device_memory import device_memory_bytes
from service.engine.images import ImageLimits
from service.engine.segmenter import Segmenter
from service.engine.state import Phase
from service.errors import ServiceError
from service.gcp.checked_tokens import CheckedTokens
from service.settings import FAILED_START, STOP_S, WRITE_S, Settings
from service.telemetry import logs
from service.telemetry.listening import Telemetry, listen
from service.telemetry.model_metrics import ModelMetrics
from service.web import docs, events, forms, health, metrics, observed, page, problems, segment
from service.web.bucket_images import BucketImages
from service.worker import Worker

if TYPE_CHECKING:
    from service.engine.weights import Checkpoint, Fetch
    from service.gcp.storage import ObjectStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What every way to serve shares: the model's thread, not started yet, the segmenter on it, and the event worker.

    `worker` is None without input buckets. `telemetry` hears of what all of them do, `budget` counts down their time.
    """

    model: ModelThread
    segmenter: Segmenter
    worker: Worker | None
    telemetry: Telemetry
    images: BucketImages
    budget: Budget


def create_app(
    settings: Settings,
    segmenter: Segmenter,
    worker: Worker | None,
    *,
    images: BucketImages | None = None,
    budget: Budget | None = None,
    telemetry: Telemetry | None = None,
    check_push: events.Check = events.nobody_checks,
) -> Flask:
    """Put both doors, the probes and their description around a segmenter.

    Without a worker the event door is closed; without images no request can name one by URI. `budget` is that of their
    store, when it has one.
    """
    telemetry = telemetry or listen(None, ExitStack())
    app = Flask("service", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # An image sent as a text field is answered in words, not with werkzeug's smaller limit for those.
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_body_bytes
    app.config["MAX_FORM_PARTS"] = forms.MOST_PARTS
    observed.register(app, telemetry)
    problems.register(app, settings)
    app.register_blueprint(segment.blueprint(settings, segmenter, images or BucketImages(None), budget or Budget()))
    app.register_blueprint(events.blueprint(worker, check_push))
    app.register_blueprint(health.blueprint(segmenter))
    app.register_blueprint(metrics.blueprint(telemetry.registry))
    app.register_blueprint(docs.blueprint(settings.limits))
    app.register_blueprint(page.blueprint())
    return app


def from_environment(load: Load | None = None) -> Flask:
    """Build the deployed app and begin to load its model, the one of the settings or that of `load`.

    A load that fails, or an engine that breaks later, ends the process with FAILED_START, so that it is replaced.
    """
    settings = Settings.or_exit()
    closing = ExitStack()
    atexit.register(closing.close)
    parts = assemble(settings, closing, load)
    _on_sigterm(partial(parts.model.drain, STOP_S - WRITE_S))
    parts.model.start()
    return create_app(
        settings,
        parts.segmenter,
        parts.worker,
        images=parts.images,
        budget=parts.budget,
        telemetry=parts.telemetry,
        check_push=push_check(settings, closing),
    )


def assemble(settings: Settings, closing: ExitStack, load: Load | None = None) -> Parts:
    """Make the parts for this process, which are closed with `closing`, and set up its log.

    The model is what the settings say, or comes from `load`. Once it has been started, a load that fails ends the
    process with FAILED_START, and so does an engine that breaks later.
    """
    logging.config.dictConfig(logs.config(settings.log_level, settings.google_cloud_project))
    telemetry = listen(settings.otel_exporter_otlp_endpoint, closing)
    model = _model_thread(settings, load or partial(_load, settings), telemetry.observer)
    telemetry.registry.register(ModelMetrics(model, device_memory_bytes))
    closing.callback(model.close)
    segmenter = Segmenter(model, ImageLimits(settings.max_pixels), telemetry.observer)
    budget = Budget()
    store = _store(settings, budget, closing)
    worker = _worker(settings, segmenter, store, budget, telemetry.observer, closing)
    model.ended.add_done_callback(_end_if_failed)
    images = BucketImages(store, settings.limits.read_buckets, settings.max_object_bytes)
    return Parts(model, segmenter, worker, telemetry, images, budget)


def push_check(settings: Settings, closing: ExitStack) -> events.Check:
    """Who may push, by the settings; only for signatures are Google's libraries imported."""
    account = settings.push_service_account
    if settings.push_auth == "iam":
        if settings.input_buckets and "K_SERVICE" not in os.environ:
            log.warning("PUSH_AUTH=iam: whoever reaches /events may push, unless something in front checks the tokens")
        return CheckedTokens(account).check if account else events.nobody_checks
    from service.gcp.push_tokens import PushTokens

    assert settings.push_audience
    assert account
    tokens = PushTokens(settings.push_audience, account)
    closing.callback(tokens.close)
    return tokens.check


def _on_sigterm(act: Callable[[], None]) -> None:
    """Act as soon as SIGTERM comes, then do what the server does about it: it only waits for its requests to end.

    Only where a server has a handler: the default ends the process at once, and there is nothing to wait for.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    serve_out = signal.getsignal(signal.SIGTERM)
    if not callable(serve_out):
        return

    def end(number: int, frame: FrameType | None) -> None:
        act()
        serve_out(number, frame)

    signal.signal(signal.SIGTERM, end)
    signal.siginterrupt(signal.SIGTERM, False)  # as gunicorn has it: a signal breaks no request's system call


def _model_thread(settings: Settings, load: Load, observer: Observer) -> ModelThread:
    policy = BatchPolicy(
        queue_size=settings.queue_size,
        image_batch=settings.sam3_image_batch,
        prompt_batch=settings.sam3_prompt_batch,
        join_ms=settings.batch_join_ms,
        text_cache_bytes=settings.text_cache_bytes,
        mask_bytes=settings.mask_memory_bytes,
    )
    return ModelThread(load, policy, observer)


def _load(settings: Settings, report: Callable[[Phase], None]) -> Engine[Any, Any]:
    """Import, fetch and load; the weights are fetched while torch is imported."""
    report("importing")
    from service.engine.weights import LAYOUTS, Source, resolve

    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    source = Source(settings.sam3_model, settings.sam3_revision, token)
    # Before the thread, so that no two threads import packages that import each other.
    fetch = _fetch(settings) if source.model.startswith("gs://") else None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch") as beside:
        checkpoint = beside.submit(resolve, source, fetch, LAYOUTS[settings.sam3_engine])
        from service.engine.loading import EngineConfig, load_engine

        config = EngineConfig(
            source,
            device=settings.sam3_device,
            dtype=settings.sam3_dtype,
            threads=settings.torch_num_threads,
            engine=settings.sam3_engine,
            compiled=settings.sam3_compile,
        )
        engine = load_engine(config, report, checkpoint.result)
    if fetch and not settings.sam3_cache_dir:
        give_up_copy(checkpoint.result(), engine.info.device)
    return engine


def _fetch(settings: Settings) -> Fetch:
    from service.gcp import models

    private = Path(tempfile.gettempdir()) / f"sam3-models-{os.getuid()}"
    return partial(models.fetch, cache=Path(settings.sam3_cache_dir or private))


def give_up_copy(checkpoint: Checkpoint, device: str) -> None:
    """On Cloud Run files are memory, and weights on a GPU need none on the host. On a CPU they are these files."""
    if device != "cpu":
        shutil.rmtree(checkpoint.folder, ignore_errors=True)


def _store(settings: Settings, budget: Budget, closing: ExitStack) -> ObjectStore | None:
    if not (settings.read_buckets or settings.input_buckets):
        return None
    from service.gcp import storage

    store = storage.connect(settings.web_threads, budget.left_s)
    closing.callback(store.close)
    return store


def _worker(
    settings: Settings,
    segmenter: Segmenter,
    store: ObjectStore | None,
    budget: Budget,
    observer: Observer,
    closing: ExitStack,
) -> Worker | None:
    if settings.unused_topics:
        log.warning("INPUT_BUCKETS is not set, so events are off: no use for %s", ", ".join(settings.unused_topics))
    if store is None or not settings.input_buckets:
        return None
    from service.gcp import publisher

    topics = publisher.connect(budget.left_s)
    closing.callback(topics.close)
    return Worker(settings, store, topics, segmenter, _now, budget, observer=observer)


def _now() -> datetime:
    return datetime.now(UTC)


def _end_if_failed(ended: Future[None], leave: Callable[[int], None] = os._exit) -> None:
    """End the process at once: this runs on the model's thread, where SystemExit would only end the thread."""
    error = ended.exception()
    if error is not None:
        status = _failed_start(error)
        logging.shutdown()
        leave(status)


def _failed_start(error: BaseException) -> int:
    if isinstance(error, ServiceError):
        log.critical("the model has failed: %s", error.detail)
    else:
        log.critical("the model has failed", exc_info=error)
    return FAILED_START
