"""Events have a budget: what needs more of it than there is, and Google's clients that do not answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from service.app import create_app
from service.core.budget import Budget
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.images import ImageLimits
from service.engine.segmenter import Segmenter
from service.errors import CloudUnavailable, DeadlineExceeded, TooLong
from service.gcp.storage import ObjectStore
from service.settings import Settings
from service.web.bucket_images import BucketImages
from service.worker import Worker
from tools.localcloud import clients

FOUR = '["a", "b", "c", "d"]'


def test_too_long_is_written_down_and_tried_again_by_whoever_gets_it(bench: Any, stage: Any) -> None:
    slow, fast = stage(), stage()
    bench.upload("long/a.prompts.json", FOUR)
    image = bench.upload("long/a.jpg", b"image", "image/jpeg")

    def refuse() -> None:
        raise TooLong(4, 1200, 510)

    slow.segmenter.before = refuse
    assert [slow.handle(image), slow.handle(image)] == [["failed"], ["replayed"]]
    assert slow.segmenter.calls == 2, "a document of this error answers nothing by itself"
    assert bench.output("long/a.jpg.error.json")["error"] == {
        "code": "too_long",
        "detail": "prompts: 4 on this image take at least 1.2e+03 s on this device; an event has 510 s for them "
        "(EVENT_TIMEOUT_S): give fewer at a time, or use a faster device",
        "retryable": False,
    }
    assert fast.handle(image) == ["succeeded"]
    assert bench.output("long/a.jpg.error.json") is None


def taking(prompt_s: float) -> Callable[[int], None]:
    """A forward that takes so long for each prompt."""
    return lambda prompts: time.sleep(prompt_s * prompts)


@pytest.fixture
def slow_worker(bench: Any) -> Iterator[Callable[[Any, int], Worker]]:
    with contextlib.ExitStack() as stack:

        def slow_worker(engine: Any, event_timeout_s: int) -> Worker:
            model = ModelThread(lambda report: engine, BatchPolicy(prompt_batch=1))
            stack.callback(model.close)
            model.start().result(10)
            budget = Budget()
            settings = Settings.from_environment(bench.cloud.environment() | {"EVENT_TIMEOUT_S": str(event_timeout_s)})
            store = ObjectStore(bench.clients.storage, budget.left_s)
            segmenter = Segmenter(model, ImageLimits())
            return Worker(settings, store, bench.clients.publisher, segmenter, lambda: datetime.now(UTC), budget)

        yield slow_worker


def statuses(worker: Worker, event: Any) -> list[str]:
    return [outcome.status for outcome in worker.handle(event)]


def test_work_that_used_its_whole_budget_computing_is_too_long(
    bench: Any, slow_worker: Any, scripted_engine: Any, draw: Callable[..., bytes]
) -> None:
    """Four prompts of 2 s in 5.4 s; what was measured of them refuses eight at once, in place of trying them too."""
    engine = scripted_engine(taking(2))
    worker = slow_worker(engine, 6)
    bench.upload("long/b.prompts.json", FOUR)
    assert statuses(worker, bench.upload("long/b.png", draw(), "image/png")) == ["failed"]
    assert bench.output("long/b.png.error.json")["error"]["code"] == "too_long"
    bench.upload("long/c.prompts.json", '["a", "b", "c", "d", "e", "f", "g", "h"]')
    engine.busy.clear()
    assert statuses(worker, bench.upload("long/c.png", draw(), "image/png")) == ["failed"]
    assert bench.output("long/c.png.error.json")["error"]["code"] == "too_long"
    assert not engine.busy.is_set()


def test_time_in_the_queue_is_not_the_inputs_fault(
    bench: Any, slow_worker: Any, scripted_engine: Any, draw: Callable[..., bytes]
) -> None:
    engine = scripted_engine(taking(3))
    worker = slow_worker(engine, 4)
    events = []
    for name in ("d", "e"):
        bench.upload(f"long/{name}.prompts.json", '["a"]')
        events.append(bench.upload(f"long/{name}.png", draw(), "image/png"))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(statuses, worker, events[0])
        assert engine.busy.wait(30)
        with pytest.raises(DeadlineExceeded):
            worker.handle(events[1])
        assert first.result(30) == ["succeeded"]
    assert bench.output("long/e.png.error.json") is None


@pytest.fixture
def hanging_url(serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> Iterator[str]:
    """The address of a server that takes requests and never answers."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _hang(self) -> None:
            ended.wait(300)
            self.close_connection = True

        do_GET = do_POST = do_DELETE = _hang  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    yield serve(Handler)
    ended.set()


@pytest.mark.timeout(100)  # a call is given up by itself after more than two minutes
@pytest.mark.parametrize("call", ["stat", "read", "list", "delete", "write"])
def test_a_storage_that_does_not_answer_does_not_outlive_the_event(hanging_url: str, call: str) -> None:
    budget = Budget()
    store = ObjectStore(clients.storage_client(hanging_url, "p"), budget.left_s)
    calls: dict[str, Callable[[], object]] = {
        "stat": lambda: store.stat("bucket", "a"),
        "read": lambda: store.read("bucket", "a", 1),
        "list": lambda: store.list("bucket", "a"),
        "delete": lambda: store.delete("bucket", "a", 1),
        "write": lambda: store.write("bucket", "a", b"x", "text/plain", if_generation=0, metadata={}),
    }
    with contextlib.closing(store), budget.within(2):
        with pytest.raises(CloudUnavailable):
            calls[call]()
        assert budget.left_s() > 0


@pytest.mark.timeout(100)
def test_a_storage_that_does_not_answer_does_not_outlive_the_request(hanging_url: str, scripted_engine: Any) -> None:
    settings = Settings.from_environment({"READ_BUCKETS": "photos", "REQUEST_TIMEOUT_S": "2"})
    budget = Budget()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(
            contextlib.closing(ObjectStore(clients.storage_client(hanging_url, "p"), budget.left_s))
        )
        model = ModelThread(lambda report: scripted_engine(taking(0)))
        stack.callback(model.close)
        model.start().result(10)
        images = BucketImages(store, settings.limits.read_buckets, settings.max_object_bytes)
        app = create_app(settings, Segmenter(model, ImageLimits()), None, images=images, budget=budget)
        answer = app.test_client().post("/segment", json={"image_uri": "gs://photos/a.png", "prompts": ["a"]})
    assert (answer.status_code, answer.get_json()["code"]) == (503, "cloud_unavailable")


def test_no_call_begins_when_the_time_is_over(bench: Any) -> None:
    budget = Budget()
    store = ObjectStore(bench.clients.storage, budget.left_s)
    with budget.within(0):
        for call in (lambda: store.list("sam3-input", "a"), lambda: store.stat("sam3-input", "a")):
            with pytest.raises(DeadlineExceeded, match="no time is left"):
                call()
    assert store.stat("sam3-input", "nothing") is None
