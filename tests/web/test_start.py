"""How the process starts and how it refuses to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests


def test_a_bad_setting_is_one_line(start_service: Callable[..., Any]) -> None:
    service = start_service({"SAM3_DEVICE": "gpu"})
    assert service.wait() != 0
    assert service.output() == "SAM3_DEVICE: 'gpu' is not allowed; allowed: auto, cuda or cpu\n"


def test_a_model_that_cannot_be_loaded_ends_the_process(start_service: Callable[..., Any]) -> None:
    service = start_service({"SAM3_MODEL": "/no/such/folder"})
    assert service.wait() != 0
    assert "/no/such/folder" in service.output()
    assert "Traceback" not in service.output()


def test_probes(service: Any) -> None:
    for path in ("/health", "/healthz", "/ready"):
        assert requests.get(f"{service.url}{path}", timeout=30).json() == {
            "status": "ok",
            "phase": "ready",
            "reason": "",
        }


def test_stops_on_sigterm(start_service: Callable[..., Any]) -> None:
    service = start_service().wait_until_ready()
    service.__exit__()
    assert service.wait() == 0
    assert "Traceback" not in service.output()
