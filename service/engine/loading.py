"""From settings to a warm engine: device, precision, checkpoint, one forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from service.engine import official, pretrained, upstream
from service.engine.base import Engine, Query
from service.engine.weights import OFFICIAL, TRANSFORMERS, Layout, Source, resolve
from service.errors import ModelUnavailable


@dataclass(frozen=True)
class EngineConfig:
    """What to load and where.

    `device` auto|cuda|cpu, `dtype` auto or torch's name, `threads` 0 = torch's choice, `engine` transformers|sam3.
    """

    source: Source = field(default_factory=lambda: Source("embedded"))
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    engine: str = "transformers"


def load_engine(config: EngineConfig, report: Callable[[str], None] = lambda phase: None) -> Engine[Any, Any]:
    """Load and warm an engine, naming each phase as it begins; ModelUnavailable says in one line what is wrong."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    load, layout = _implementation(config.engine)
    report("downloading")
    checkpoint = resolve(config.source, layout)
    report("loading")
    engine = load(checkpoint, device, choose_dtype(config.dtype, device))
    report("warming")
    warm_up(engine)
    return engine


def _implementation(name: str) -> tuple[Callable[..., Engine[Any, Any]], Layout]:
    """How an engine is loaded, and from which files; a package that is missing is named before any download."""
    if name == "sam3":
        upstream.import_builder()
        return official.load, OFFICIAL
    return pretrained.load, TRANSFORMERS


def choose_device(name: str) -> torch.device:
    """`auto` takes a GPU when there is one; asking for `cuda` without one is an error, never a silent CPU."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ModelUnavailable("SAM3_DEVICE: 'cuda' is set, but torch sees no GPU; allowed here: auto, cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def prompt_batch(device: str) -> int:
    """Prompts in one forward by default: 8 on a GPU; 4 on a CPU, where memory grows faster than speed."""
    return 8 if choose_device(device).type == "cuda" else 4


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: float32 on CPU, bfloat16 on GPUs that compute in it (compute capability 8), float16 on older ones.

    `torch.cuda.is_bf16_supported` is no help: it also says yes where bfloat16 is emulated.
    """
    if name != "auto":
        chosen = getattr(torch, name)
        assert isinstance(chosen, torch.dtype)
        return chosen
    if device.type != "cuda":
        return torch.float32
    major, _minor = torch.cuda.get_device_capability(device)
    return torch.bfloat16 if major >= 8 else torch.float16


def warm_up(engine: Engine[Any, Any]) -> None:
    """Run one whole request, so that the first caller does not pay for lazy initialisation."""
    [image] = engine.encode_image([engine.prepare(np.zeros((64, 64, 3), np.uint8))])
    [text] = engine.encode_text(["warm up"])
    engine.ground([Query(image, text, threshold=0.5, limit=1)])
