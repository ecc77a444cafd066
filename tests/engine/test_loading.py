from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from service.engine.loading import EngineConfig, choose_device, choose_dtype, load_engine
from service.engine.sam3 import Sam3Engine
from service.engine.warming import warm_up
from service.engine.weights import EMBEDDED, Source, resolve
from service.errors import ModelUnavailable, NotFinite


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


def test_a_checkpoint_that_was_asked_for_before_is_taken_over() -> None:
    found = resolve(Source("embedded"))
    assert load_engine(EngineConfig(Source("/no/such/folder")), find=lambda: found).info.id == "embedded"


class Counted:
    """Passes calls on to an engine and notes their names."""

    def __init__(self, engine: Sam3Engine) -> None:
        self._engine = engine
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._engine, name)


def test_a_whole_request_or_its_phrase_alone_is_warmed(engine: Sam3Engine) -> None:
    counted = Counted(engine)
    warm_up(counted, whole=True)
    assert set(counted.calls) == {"encode_text", "prepare", "encode_image", "ground"}
    counted.calls.clear()
    warm_up(counted, whole=False)
    assert counted.calls == ["encode_text"]


def test_a_check_finds_that_the_model_does_not_compute_any_more() -> None:
    loaded = load_engine(EngineConfig(device="cpu"))
    loaded.check()
    assert isinstance(loaded, Sam3Engine)
    with torch.no_grad():
        next(loaded._model.mask_decoder.parameters()).fill_(float("nan"))
    with pytest.raises(NotFinite):
        loaded.check()


def spoiled(folder: Path, beginnings: Sequence[str]) -> Source:
    """The embedded model with NaN in all weights whose names begin so."""
    shutil.copytree(EMBEDDED, folder)
    weights = load_file(EMBEDDED / "model.safetensors")
    hit = [name for name in weights if name.startswith(tuple(beginnings)) and weights[name].is_floating_point()]
    assert hit
    for name in hit:
        weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return Source(str(folder))


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("text_encoder.", "text features"),
        ("vision_encoder.", "scores"),
        ("detr_decoder.", "scores"),
        ("mask_decoder.", "mask logits"),
    ],
)
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, part: str, what: str) -> None:
    source = spoiled(tmp_path / "nan", [part])
    with pytest.raises(
        ModelUnavailable, match=f"SAM3_MODEL: .*/nan is of no use: the model put out {what} that are NaN"
    ):
        load_engine(EngineConfig(source, device="cpu"))


def test_a_large_model_on_a_cpu_warms_its_phrase_alone(tmp_path: Path) -> None:
    for folder in (tmp_path / "image", tmp_path / "text"):
        source = spoiled(folder, ["vision_encoder." if folder.name == "image" else "text_encoder."])
        with (folder / "ballast").open("wb") as file:
            file.truncate(513 * 1024 * 1024)  # sparse: it occupies nothing
        config = EngineConfig(source, device="cpu")
        if folder.name == "image":
            assert load_engine(config)
            continue
        with pytest.raises(ModelUnavailable, match="text features that are NaN"):
            load_engine(config)


def few_layers(folder: Path) -> Path:
    """The embedded model cut down to one layer of the vision encoder, which compiles in seconds."""
    shutil.copytree(EMBEDDED, folder)
    config = json.loads((folder / "config.json").read_text())
    backbone = config["vision_config"]["backbone_config"]
    backbone |= {"num_hidden_layers": 1, "global_attn_indexes": [0]}
    (folder / "config.json").write_text(json.dumps(config))
    layer = re.compile(r"vision_encoder\.backbone\.layers\.[1-9]")
    weights = {name: w for name, w in load_file(folder / "model.safetensors").items() if not layer.match(name)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses what torch deprecates
def test_a_compiled_vision_encoder_finds_the_same(tmp_path: Path) -> None:
    source = Source(str(few_layers(tmp_path / "model")))
    plain, compiled = (load_engine(EngineConfig(source, "cpu", compiled=compiled)) for compiled in (False, True))
    images = [plain.prepare(np.random.default_rng(seed).integers(0, 255, (90, 70, 3), np.uint8)) for seed in range(3)]
    for count in (1, 2, 3):
        for ours, theirs in zip(compiled.encode_image(images[:count]), plain.encode_image(images[:count]), strict=True):
            for one, other in zip(ours.skips, theirs.skips, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_compiling_without_a_compiler_is_one_line(tmp_path: Path) -> None:
    """In a process of its own: torch looks for the compiler once."""
    program = (
        "from service.engine.loading import EngineConfig, load_engine\n"
        "from service.errors import ModelUnavailable\n"
        "try:\n    load_engine(EngineConfig(device='cpu', compiled=True))\n"
        "except ModelUnavailable as error:\n    print(error.detail)\n"
    )
    environment = os.environ | {"CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout.startswith("SAM3_COMPILE: 'true' needs a working C++ compiler, or set false: ")
    assert done.stdout.count("\n") == 1
