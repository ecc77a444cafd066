"""Which model `sam3 demo` shows."""

from __future__ import annotations

import pytest

from tools.demo import model_environment

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
