"""An official `.pt`, also a fine-tuned one → the detector's weights by upstream's names, or one line saying why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

WRAPPERS = ("model", "state_dict", "model_state_dict")
DETECTOR = "detector."
# What belongs to the tracker although it lies among the detector's weights (model_builder.py: _create_vision_backbone,
# build_sam3_image_model).
_TRACKER = ("backbone.vision_backbone.sam2_convs.", "inst_interactive_predictor.", "tracker.")
_SIGN_OF_A_DETECTOR = "backbone.vision_backbone.trunk.patch_embed.proj.weight"


class BadCheckpoint(ValueError):
    """A file that holds no detector; its text is one line without the file's name."""


def read_detector(path: Path) -> dict[str, Tensor]:
    """Map the weights of the image model in `path` into memory, on the host, by their names in upstream's Sam3Image.

    The full `sam3.pt` holds `detector.*` and `tracker.*`; a training run holds the image model alone, under `model`
    and, from several GPUs, with `module.` before each name. Raises BadCheckpoint.
    """
    weights = _unwrapped(_load(path))
    if any(name.startswith(DETECTOR) for name in weights):
        weights = {name.removeprefix(DETECTOR): w for name, w in weights.items() if name.startswith(DETECTOR)}
    weights = {name: weight for name, weight in weights.items() if not name.startswith(_TRACKER)}
    if _SIGN_OF_A_DETECTOR not in weights:
        raise BadCheckpoint(f"lacks SAM 3's detector: there is no weight {_SIGN_OF_A_DETECTOR}{_instead(weights)}")
    return weights


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise BadCheckpoint("does not exist") from None
    except UnpicklingError as error:
        raise BadCheckpoint(f"holds more than weights, and is not read for safety: {_offender(error)}") from error
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise BadCheckpoint(f"is no torch checkpoint, or a truncated one ({_first_line(error)})") from error


def _unwrapped(found: Any) -> dict[str, Tensor]:
    while isinstance(found, Mapping):
        inner = next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping):
        raise BadCheckpoint(f"holds a {type(found).__name__} where a state dict is needed")
    weights = {str(name): weight for name, weight in found.items() if isinstance(weight, Tensor)}
    if weights and all(name.startswith("module.") for name in weights):
        return {name.removeprefix("module."): weight for name, weight in weights.items()}
    return weights


def _instead(weights: Mapping[str, Tensor]) -> str:
    return f", but {min(weights)}" if weights else " nor any other"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _offender(error: Exception) -> str:
    """The line of torch's long message that names what it refused."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0] if lines else "pickle")
