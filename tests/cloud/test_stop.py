"""A process that is told to end answers everything that it has taken: done, or given back to be delivered again."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

EVENTS = 8
PROMPTS = 200


def test_stop_in_the_middle_of_a_queue(
    bench: Any,
    start_service: Callable[..., Any],
    draw: Callable[..., bytes],
    eventually: Callable[..., None],
    push_body: Callable[..., Any],
) -> None:
    environment = bench.cloud.environment() | {"MAX_PROMPTS": str(PROMPTS)}
    service = start_service(environment).wait_until_ready()
    prompts = json.dumps([f"square {number}" for number in range(PROMPTS)])
    events = []
    for number in range(EVENTS):
        bench.upload(f"stop/{number}.png.prompts.json", prompts)
        events.append(bench.upload(f"stop/{number}.png", draw(), "image/png"))

    def push(url: str, event: Any) -> requests.Response:
        return requests.post(f"{url}/events", json=push_body(event), timeout=120)

    def done() -> list[int]:
        return [number for number in range(EVENTS) if bench.output(f"stop/{number}.png.json")]

    with ThreadPoolExecutor(EVENTS) as pool:
        answers = [pool.submit(push, service.url, event) for event in events]
        eventually(done, 120, service.output)
        service.__exit__()
        statuses = [answer.result(60).status_code for answer in answers]
    assert service.wait() == 0, service.output()
    assert "Traceback" not in service.output()
    assert set(statuses) == {204, 503}
    assert done() == [number for number, status in enumerate(statuses) if status == 204]
    codes = {answer.result().json()["code"] for answer in answers if answer.result().status_code == 503}
    assert codes == {"ending"}

    successor = start_service(environment).wait_until_ready()
    with ThreadPoolExecutor(EVENTS) as pool:
        assert {answer.status_code for answer in pool.map(push, [successor.url] * EVENTS, events)} == {204}
    assert done() == list(range(EVENTS))
    for number in range(EVENTS):
        replayed = [m.attributes["replayed"] for m in bench.results.about(f"stop/{number}.png")]
        assert replayed.count("false") == 1
