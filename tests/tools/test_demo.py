"""Which model `sam3 demo` shows, and how long it waits for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.demo import model_environment, send_and_show
from tools.localcloud.cloud import LocalCloud
from tools.process import ServiceProcess

TOKEN = {"HF_TOKEN": "hf_x"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"SAM3_MODEL": "embedded"}),
        ({"HF_TOKEN": "", "SAM3_MODEL": ""}, {"SAM3_MODEL": "embedded"}),
        (TOKEN, TOKEN | {"SAM3_MODEL": "facebook/sam3"}),
        ({"HUGGINGFACE_HUB_TOKEN": "hf_x"}, {"HUGGINGFACE_HUB_TOKEN": "hf_x", "SAM3_MODEL": "facebook/sam3"}),
        (TOKEN | {"SAM3_MODEL": "mine", "SAM3_DEVICE": "cpu"}, TOKEN | {"SAM3_MODEL": "mine", "SAM3_DEVICE": "cpu"}),
        ({"QUEUE_SIZE": "1", "DEFAULT_PROMPTS": "[]", "HOME": "/"}, {"SAM3_MODEL": "embedded"}),
    ],
)
def test_the_models_settings_are_taken_and_no_others(given: dict[str, str], expected: dict[str, str]) -> None:
    assert model_environment(given) == expected


@pytest.mark.timeout(900)
def test_a_service_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "print('out of memory'); raise SystemExit(3)")
    with LocalCloud() as cloud, ServiceProcess({}, tmp_path / "log", command) as service:
        service.start()
        service.wait()
        with pytest.raises(RuntimeError, match=r"(?s)status 3\b.*out of memory"):
            send_and_show(cloud, service, tmp_path)
