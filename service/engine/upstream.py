"""facebookresearch's `sam3` package, imported when it is asked for, built without a GPU as well as with one.

Its code is under the SAM License and is only called, never copied: https://github.com/facebookresearch/sam3
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from service.errors import ModelUnavailable

# Module lists whose length is the model's depth, and where a config.json of transformers names it.
_DEPTHS = {
    "backbone.vision_backbone.trunk.blocks": ("vision_config", "backbone_config", "num_hidden_layers"),
    "backbone.language_backbone.encoder.transformer.resblocks": ("text_config", "num_hidden_layers"),
    "geometry_encoder.encode": ("geometry_encoder_config", "num_layers"),
    "transformer.encoder.layers": ("detr_encoder_config", "num_layers"),
    "transformer.decoder.layers": ("detr_decoder_config", "num_layers"),
}


def import_builder() -> Any:
    """The module `sam3.model_builder`; ModelUnavailable names the extra to install."""
    # Importing it turns TF32 on for the whole process (model_builder.py: _setup_tf32): float32 would not mean float32.
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated torch.jit and, on a CPU, of autocast for CUDA
            return import_module("sam3.model_builder")
    except ImportError as error:
        reason = "" if error.name == "sam3" else f" ({error})"
        raise ModelUnavailable(
            f"SAM3_ENGINE: 'sam3' needs the extra \"official\": pip install 'sam3-service[official]'{reason}"
        ) from error
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


def build(bpe_file: Path, config_file: Path, device: torch.device) -> Any:
    """Upstream's image model in evaluation mode, its parameters without memory ("meta") until weights are assigned.

    It is as deep as `config_file`, in transformers' format, says, and as the full model when there is none.
    """
    builder = import_builder()
    with _unallocated_parameters(), on(device):
        model = builder.build_sam3_image_model(bpe_path=str(bpe_file), device="cpu", load_from_HF=False)
    for name, depth in _depths(config_file).items():
        del model.get_submodule(name)[depth:]
    transformer, trunk = model.transformer, model.backbone.vision_backbone.trunk
    transformer.decoder.num_layers = len(transformer.decoder.layers)
    trunk.full_attn_ids = [index for index in trunk.full_attn_ids if index < len(trunk.blocks)]
    return model


def on(device: torch.device) -> AbstractContextManager[object]:
    """Within it upstream's code runs on `device`, whatever device it names."""
    return nullcontext() if device.type == "cuda" else _OnHost()


class _OnHost(TorchFunctionMode):
    """Upstream asks for "cuda" where it prepares position codes (model/position_encoding.py, model/decoder.py), and for
    pinned memory, which takes a GPU's driver, at each geometry call (model/geometry_encoders.py: _encode_boxes).
    """

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.pin_memory:
            return args[0]
        if kwargs and kwargs.get("device") == "cuda":
            kwargs = {**kwargs, "device": "cpu"}
        return func(*args, **(kwargs or {}))


@contextmanager
def _unallocated_parameters() -> Iterator[None]:
    """Keep the random numbers of 840 million parameters from being drawn: they are all replaced by a checkpoint's."""

    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        return None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=False)

    hook: Any = to_meta  # torch's annotation leaves out that a hook may return a replacement
    handle = register_module_parameter_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _depths(config_file: Path) -> dict[str, int]:
    if not config_file.is_file():
        return {}
    config = json.loads(config_file.read_text())
    config = config.get("detector_config", config)  # the hub's file describes the video model
    found = {name: _at(config, path) for name, path in _DEPTHS.items()}
    return {name: depth for name, depth in found.items() if isinstance(depth, int)}


def _at(config: object, path: tuple[str, ...]) -> object:
    for key in path:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config
