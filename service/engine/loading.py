"""From settings to a warm engine: device, precision, checkpoint, one request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from service.engine import pretrained
from service.engine.base import Engine
from service.engine.sam3 import Sam3Engine
from service.engine.state import Phase
from service.engine.weights import LAYOUTS, Checkpoint, Source, resolve
from service.errors import ModelUnavailable, NotFinite


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
    compiled: bool = False


def load_engine(
    config: EngineConfig,
    report: Callable[[Phase], None] = lambda phase: None,
    find: Callable[[], Checkpoint] | None = None,
) -> Engine[Any, Any]:
    """Load and warm an engine, naming each phase as it begins; ModelUnavailable says in one line what is wrong.

    `find`: returns the checkpoint of `config.source` where that has already been asked for.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means it; cuDNN would convolve with 10 bits of mantissa
    device = choose_device(config.device)
    load = _implementation(config.engine)
    report("downloading")
    checkpoint = find() if find else resolve(config.source, layout=LAYOUTS[config.engine])
    report("loading")
    engine = load(checkpoint, device, choose_dtype(config.dtype, device))
    report("warming")
    if config.compiled:
        _compile(engine)
    try:
        engine.check()
    except NotFinite as error:
        raise ModelUnavailable(f"SAM3_MODEL: {checkpoint.id} is of no use: {error.detail}") from error
    return engine


def _compile(engine: Engine[Any, Any]) -> None:
    """Compile now, for one image and for several, so that no request waits for it."""
    from torch._dynamo.exc import TorchDynamoException  # the compiler takes as long to import as torch

    if not isinstance(engine, Sam3Engine):
        raise ModelUnavailable("SAM3_COMPILE: 'true' is not allowed with SAM3_ENGINE: 'sam3'; allowed: false")
    engine.compile_vision()
    blank = engine.prepare(np.zeros((64, 64, 3), np.uint8))
    try:
        for count in (1, 2):
            engine.encode_image([blank] * count)
    except TorchDynamoException as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelUnavailable(f"SAM3_COMPILE: 'true' needs a working C++ compiler, or set false: {reason}") from error


def _implementation(name: str) -> Callable[..., Engine[Any, Any]]:
    """How an engine is loaded; a package that is missing is named before anything is read."""
    if name == "sam3":
        from service.engine import official, upstream

        upstream.import_builder()
        return official.load
    return pretrained.load


def choose_device(name: str) -> torch.device:
    """`auto` takes a GPU when there is one; asking for `cuda` without one is an error, never a silent CPU."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ModelUnavailable("SAM3_DEVICE: 'cuda' is set, but torch sees no GPU; allowed here: auto, cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


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
