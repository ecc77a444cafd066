"""SIGTERM while a request is being worked on: it is answered, and the process ends with 0 before it would be killed."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor

import urllib3

from tools.demo import DEMO
from tools.process import ServiceProcess

# Cloud Run sends SIGKILL so many seconds after SIGTERM: https://cloud.google.com/run/docs/container-contract
KILLED_AFTER_S = 10
# Long enough to be in the middle of, and well within what a stop leaves to work that has begun, also on a busy machine.
_WORK_S = 1.0
_PROMPTS = 8
_MOST_PROMPTS = 1000


def stop_in_the_middle(service: ServiceProcess) -> str:
    """Send a request, SIGTERM while it runs, and wait for both; RuntimeError when either does not end as it should."""
    prompts = _enough_prompts(service.url)
    with ThreadPoolExecutor(1) as pool:
        answer: Future[tuple[int, float]] = pool.submit(_ask, service.url, prompts)
        time.sleep(_WORK_S / 4)
        if answer.done():
            raise RuntimeError("stop: the request was over before SIGTERM")
        told = time.perf_counter()
        service.terminate()
        status, _ = answer.result()
    if status != 200:
        raise RuntimeError(f"stop: the request in flight was answered {status}" if status else "stop: no answer")
    try:
        left = service.wait(KILLED_AFTER_S - (time.perf_counter() - told))
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"stop: still running {KILLED_AFTER_S} s after SIGTERM") from None
    if left != 0:
        raise RuntimeError(f"stop: exit status {left}")
    return f"SIGTERM amid a request of {prompts} prompts: 200, then exit 0, {time.perf_counter() - told:.1f} s in all"


def _enough_prompts(url: str) -> int:
    """How many prompts keep this machine busy for `_WORK_S` seconds, or nearly."""
    prompts = _PROMPTS
    while True:
        _, seconds = _ask(url, prompts)
        if seconds > _WORK_S / 2 or prompts == _MOST_PROMPTS:
            return min(int(prompts * _WORK_S / seconds) + 1, _MOST_PROMPTS)
        prompts = min(2 * prompts, _MOST_PROMPTS)


def _ask(url: str, prompts: int) -> tuple[int, float]:
    """Status of the answer, 0 without one, and seconds until it came."""
    fields: list[tuple[str, str | tuple[str, bytes]]] = [("image", ("scene.png", (DEMO / "scene.png").read_bytes()))]
    fields += [("prompts", f"cat {number}") for number in range(prompts)]
    start = time.perf_counter()
    try:
        status = urllib3.request("POST", f"{url}/segment", fields=fields, retries=False, timeout=120).status
    except urllib3.exceptions.HTTPError:
        status = 0
    return status, time.perf_counter() - start
