"""How the process starts and how it refuses to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from service.app import give_up_copy
from service.engine.weights import Checkpoint


def test_a_bad_setting_is_one_line(start_service: Callable[..., Any]) -> None:
    service = start_service({"SAM3_DEVICE": "gpu"})
    assert service.wait() != 0
    assert service.output() == "SAM3_DEVICE: 'gpu' is not allowed; allowed: auto, cuda or cpu\n"


def test_a_model_that_cannot_be_loaded_ends_the_process(start_service: Callable[..., Any]) -> None:
    service = start_service({"SAM3_MODEL": "/no/such/folder"})
    assert service.wait() != 0
    assert "/no/such/folder" in service.output()
    assert "Traceback" not in service.output()


def test_topics_without_input_buckets_are_named_in_the_log(start_service: Callable[..., Any]) -> None:
    topic = "projects/p/topics/results"
    service = start_service({"SAM3_MODEL": "/no/such/folder", "RESULTS_TOPIC": topic})
    assert service.wait() != 0
    assert "INPUT_BUCKETS is not set, so events are off: no use for RESULTS_TOPIC" in service.output()


def test_probes(service: Any) -> None:
    for path in ("/health", "/healthz", "/ready"):
        document = requests.get(f"{service.url}{path}", timeout=30).json()
        phases_ms = document.pop("phases_ms")
        assert document == {"status": "ok", "phase": "ready", "reason": ""}
        assert list(phases_ms) == ["starting", "importing", "downloading", "loading", "warming"]
        assert all(isinstance(ms, int) and ms >= 0 for ms in phases_ms.values())


def test_it_listens_before_the_model_is_there(
    start_service: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    service = start_service()
    seen: list[Any] = []

    def answers() -> bool:
        service.check()
        try:
            seen.append(requests.get(f"{service.url}/ready", timeout=30))
        except requests.ConnectionError:
            return False
        return True

    eventually(answers, 100)
    assert seen[0].status_code == 503
    assert seen[0].json()["phase"] in ("starting", "importing")
    assert seen[0].json()["reason"]
    assert seen[0].headers["Retry-After"] == "5"
    assert requests.get(f"{service.url}/health", timeout=30).ok
    refused = requests.post(f"{service.url}/segment", files={"image": b"x"}, data={"prompts": "cat"}, timeout=30)
    assert (refused.status_code, refused.json()["code"]) == (503, "loading")


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_ends_the_process(start_service: Callable[..., Any]) -> None:
    service = start_service({"SAM3_DEVICE": "cuda"})
    assert service.wait() != 0
    assert service.output().count("SAM3_DEVICE: 'cuda' is set, but torch sees no GPU") == 1
    assert "Traceback" not in service.output()


NOT_YET = """
import sys
import service.app
slow = {"torch", "transformers", "huggingface_hub", "google.cloud.storage", "grpc"}
print(*slow & sys.modules.keys())
"""


def test_nothing_slow_is_imported_before_the_server_listens() -> None:
    done = subprocess.run([sys.executable, "-c", NOT_YET], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "\n"


def test_stops_on_sigterm(start_service: Callable[..., Any]) -> None:
    service = start_service().wait_until_ready()
    service.__exit__()
    assert service.wait() == 0
    assert "Traceback" not in service.output()


def test_a_fetched_copy_is_given_up_only_when_the_weights_are_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "abc"
    folder.mkdir()
    checkpoint = Checkpoint(folder, "gs://b/m", "abc")
    give_up_copy(checkpoint, "cpu")
    assert folder.exists()
    give_up_copy(checkpoint, "cuda")
    assert not folder.exists()


def test_stops_on_sigterm_without_waiting_for_the_load(start_service: Callable[..., Any], eventually: Any) -> None:
    service = start_service()
    eventually(lambda: "Booting worker" in service.output(), 60, service.output)
    service.__exit__()
    assert service.wait() == 0
    assert "Traceback" not in service.output()
