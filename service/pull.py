"""`python -m service.pull --subscription …`: the event worker as a consumer that pulls, for worker pools and GKE.

The same worker and the same delivery table as `POST /events`: an outcome is an acknowledgement, a failure that another
try can mend gives the message back, and Pub/Sub delivers it again after the subscription's backoff.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal, NoReturn

from flask import Flask
from prometheus_client import CollectorRegistry
from werkzeug.serving import WSGIRequestHandler, make_server

from service.__main__ import PROCESS
from service.app import Parts, assemble
from service.arguments import subscription_name
from service.core.context import Context, entered, incoming_trace
from service.core.envelopes import Message
from service.engine.segmenter import Segmenter
from service.errors import CloudUnavailable, ServiceError
from service.settings import FAILED_START, GIVE_BACK_S, STOP_S, WRITE_S, Settings
from service.telemetry.listening import Span, no_span
from service.web import health, metrics
from service.worker import Worker

if TYPE_CHECKING:
    from service.gcp.subscriber import Flow

log = logging.getLogger(__name__)

GRACE_S = STOP_S - GIVE_BACK_S
# What reading, writing and announcing may take beside the work itself.
_BESIDE_WORK_S = 60
# What Google's publisher puts before the name of a trace header.
_BY_CLIENT = "googclient_"

Happening = Literal["loaded", "stop", "ended"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command, which `sam3 pull` has too."""
    parser.add_argument(
        "--subscription", required=True, type=subscription_name, metavar="projects/P/subscriptions/S", help="pull this"
    )
    parser.add_argument("--health-port", type=int, metavar="PORT", help="answer /health, /ready and /metrics there")
    parser.add_argument(
        "--grace",
        type=float,
        default=GRACE_S,
        metavar="SECONDS",
        help=f"time that running work has after SIGTERM, the last {WRITE_S} s of it for writing; "
        f"the rest goes back to Pub/Sub ({GRACE_S})",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Pull until SIGTERM: 0; FAILED_START when the model or the subscription cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m service.pull", description="Pull events and do their work.")
    add_options(parser)
    options = parser.parse_args(arguments)
    settings = Settings.or_exit()
    if not settings.input_buckets:
        sys.stderr.write("INPUT_BUCKETS: '' is not allowed when pulling; allowed: bucket names, separated by commas\n")
        return FAILED_START
    with ExitStack() as closing:
        parts = assemble(settings, closing)
        if options.health_port is not None:
            closing.enter_context(answering_probes(parts.segmenter, parts.telemetry.registry, options.health_port))
        return consume(parts, settings, options.subscription, options.grace, closing)


def consume(parts: Parts, settings: Settings, subscription: str, grace_s: float, closing: ExitStack) -> int:
    """Load, then pull until a signal or until the stream ends with an error; returns the exit status.

    Within `grace_s` of the signal what is under way is done and written, and WRITE_S before that the model's work goes
    back; what is still held then is given back within GIVE_BACK_S.
    """
    happened: SimpleQueue[Happening] = SimpleQueue()  # its `put` may be called in a signal handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: happened.put("stop"))
    parts.model.start().add_done_callback(lambda loaded: _tell_loaded(loaded, happened))
    if happened.get() == "stop":
        _leave("stopped before the model was ready")
    from service.gcp.subscriber import Stream, connect

    assert parts.worker is not None
    door = Door(parts.worker, parts.telemetry.span)
    client = closing.enter_context(connect())
    stream = Stream(client, subscription, door.deliver, flow(settings))
    stream.on_end(lambda: happened.put("ended"))
    log.info("pulling", extra={"subscription": subscription})
    happened.get()
    parts.model.drain(max(0.0, grace_s - WRITE_S))  # what it has not begun goes back at once
    try:
        stream.check()
        left = stream.close(grace_s, GIVE_BACK_S)
    except CloudUnavailable as error:
        log.critical("%s", error.detail)
        return FAILED_START
    if left:
        _leave(f"{left} messages were not done in time; Pub/Sub delivers them again")
    if parts.model.waiting:
        _leave("the model is still at work that went back to Pub/Sub")
    return 0


def flow(settings: Settings) -> Flow:
    """As many messages as the model's queue has places for events: none waits here that another instance could do."""
    from service.gcp.subscriber import Flow

    return Flow(settings.queue_size, settings.event_timeout_s + _BESIDE_WORK_S)


class Door:
    """What the push door answers with a status, said in acknowledgements."""

    def __init__(self, worker: Worker, span: Span = no_span) -> None:
        self._worker = worker
        self._span = span

    def deliver(self, message: Message) -> bool:
        """Whether the message is done with; an error has been logged and leaves it to Pub/Sub."""
        parent = incoming_trace({name.removeprefix(_BY_CLIENT): value for name, value in message.attributes.items()})
        with self._span("pull", parent) as trace, entered(Context(trace)) as context:
            began = time.monotonic()
            done = self._deliver(message)
            spent = {"ms": round((time.monotonic() - began) * 1000, 1), "stages_ms": dict(context.stages_ms)}
            log.info("acknowledged" if done else "given back", extra=spent)
        return done

    def _deliver(self, message: Message) -> bool:
        try:
            self._worker.deliver(message)
        except ServiceError as error:
            log.warning("%s: %s", error.code, error.detail, extra={"message_id": message.message_id})
            return False
        except Exception:
            # The boundary of the process: a defect must cost this message's attempt and nothing else.
            log.exception("internal", extra={"message_id": message.message_id})
            return False
        return True


@contextmanager
def answering_probes(segmenter: Segmenter, registry: CollectorRegistry, port: int) -> Iterator[None]:
    """/health, /healthz, /ready and /metrics on every interface, as the HTTP service answers them."""
    app = Flask("probes", static_folder=None)
    app.register_blueprint(health.blueprint(segmenter))
    app.register_blueprint(metrics.blueprint(registry))
    server = make_server("0.0.0.0", port, app, threaded=True, request_handler=_Unlogged)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Unlogged(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Probes come every few seconds and say nothing."""


def _tell_loaded(loaded: Future[None], happened: SimpleQueue[Happening]) -> None:
    """A load that has failed ends the process elsewhere; until then nothing must happen here."""
    if loaded.exception() is None:
        happened.put("loaded")


def _leave(why: str) -> NoReturn:
    """End at once: neither a load nor work that is late can be interrupted; what it still writes is conditional."""
    log.warning("%s", why)
    logging.shutdown()
    os._exit(0)


def restart_in(environment: Mapping[str, str], arguments: Sequence[str]) -> NoReturn:
    """Replace this process by one whose environment suits a server of many threads."""
    os.execve(sys.executable, [sys.executable, "-m", "service.pull", *arguments], {**PROCESS, **environment})


if __name__ == "__main__":
    if not PROCESS.keys() <= os.environ.keys():
        restart_in(os.environ, sys.argv[1:])
    sys.exit(main())
