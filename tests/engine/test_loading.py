from __future__ import annotations

import pytest
import torch

from service.engine.loading import EngineConfig, choose_device, choose_dtype, load_engine
from service.engine.weights import Source
from service.errors import ModelUnavailable


def test_reports_each_phase_as_it_begins() -> None:
    phases: list[str] = []
    engine = load_engine(EngineConfig(), phases.append)
    assert phases == ["downloading", "loading", "warming"]
    assert engine.info.id == "embedded"
    assert (engine.info.device, engine.info.dtype) == ("cpu", "float32") or torch.cuda.is_available()


def test_cpu_is_taken_when_asked_for() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelUnavailable, match="SAM3_DEVICE: 'cuda' is set"):
        choose_device("cuda")


def test_precision_is_full_on_cpu_unless_asked_otherwise() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("auto", cpu) is torch.float32
    assert choose_dtype("bfloat16", cpu) is torch.bfloat16


def test_the_number_of_threads_is_taken_over() -> None:
    before = torch.get_num_threads()
    try:
        load_engine(EngineConfig(threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelUnavailable, match="'/no/such/folder' is not a folder"):
        load_engine(EngineConfig(Source("/no/such/folder")))
