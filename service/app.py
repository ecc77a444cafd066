"""Where the parts are wired together: settings, model, cloud clients, doors."""

from __future__ import annotations

import atexit
import logging
import logging.config
import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime

from flask import Flask

from service.engine.batcher import ModelThread
from service.engine.images import ImageLimits
from service.engine.loading import EngineConfig, load_engine, prompt_batch
from service.engine.segmenter import Segmenter
from service.engine.weights import Source
from service.errors import ModelUnavailable
from service.gcp import publisher, storage
from service.settings import FAILED_START, Settings
from service.web import events, health, logs, problems, segment
from service.worker import Worker

log = logging.getLogger(__name__)


def create_app(settings: Settings, segmenter: Segmenter, worker: Worker | None) -> Flask:
    """Put both doors and the probes around a segmenter; without a worker the event door is closed."""
    app = Flask("service", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # An image sent as a text field is answered in words, not with werkzeug's smaller limit for those.
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_body_bytes
    problems.register(app, settings.max_body_bytes)
    app.register_blueprint(segment.blueprint(settings, segmenter))
    app.register_blueprint(events.blueprint(worker))
    app.register_blueprint(health.blueprint(segmenter))
    return app


def from_environment() -> Flask:
    """Build the deployed app and begin to load its model; a load that fails ends the process with FAILED_START."""
    settings = Settings.or_exit()
    logging.config.dictConfig(logs.config(settings.log_level))
    closing = ExitStack()
    atexit.register(closing.close)
    try:
        model = _model_thread(settings)
    except ModelUnavailable as error:
        raise SystemExit(_failed_start(error)) from None
    closing.callback(model.close)
    segmenter = Segmenter(model, ImageLimits(settings.max_pixels))
    worker = _worker(settings, segmenter, closing)
    model.start().add_done_callback(_end_if_failed)
    return create_app(settings, segmenter, worker)


def _model_thread(settings: Settings) -> ModelThread:
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    source = Source(settings.sam3_model, settings.sam3_revision, token)
    config = EngineConfig(
        source, settings.sam3_device, settings.sam3_dtype, settings.torch_num_threads, settings.sam3_engine
    )
    return ModelThread(
        lambda report: load_engine(config, report),
        queue_size=settings.queue_size,
        prompt_batch=settings.sam3_prompt_batch or prompt_batch(settings.sam3_device),
    )


def _worker(settings: Settings, segmenter: Segmenter, closing: ExitStack) -> Worker | None:
    if not settings.input_buckets:
        return None
    store, topics = storage.connect(settings.web_threads), publisher.connect()
    closing.callback(store.close)
    closing.callback(topics.close)
    return Worker(settings, store, topics, segmenter, _now)


def _now() -> datetime:
    return datetime.now(UTC)


def _end_if_failed(load: Future[None], leave: Callable[[int], None] = os._exit) -> None:
    """End the process at once: this runs on the model's thread, where SystemExit would only end the thread."""
    error = load.exception()
    if error is not None:
        status = _failed_start(error)
        logging.shutdown()
        leave(status)


def _failed_start(error: BaseException) -> int:
    if isinstance(error, ModelUnavailable):
        log.critical("the model cannot be loaded: %s", error.detail)
    else:
        log.critical("the model cannot be loaded", exc_info=error)
    return FAILED_START
