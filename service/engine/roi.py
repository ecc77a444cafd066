"""`torchvision.ops.roi_align` in pure torch, so that SAM 3's exemplar boxes work where torchvision is not installed.

Follows torchvision's CPU kernel with its defaults `aligned=False, sampling_ratio=-1`
(https://github.com/pytorch/vision/blob/main/torchvision/csrc/ops/cpu/roi_align_kernel.cpp). Bilinear sampling is
separable, so each box needs one small matrix per axis instead of a gather per sample.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

RoiAlign = Callable[[Tensor, Sequence[Tensor], int], Tensor]


def in_float32(pool: RoiAlign) -> RoiAlign:
    """`pool` in float32 on half-precision features: torchvision's kernel would place its samples in half, too."""

    @wraps(pool)
    def pool_exactly(features: Tensor, boxes: Sequence[Tensor], output_size: int) -> Tensor:
        inside = torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            return pool(features.to(inside), [each.to(inside) for each in boxes], output_size).to(features.dtype)

    return pool_exactly


def _sample_positions(low: Tensor, length: Tensor, output_size: int) -> tuple[Tensor, Tensor]:
    """Positions (n, out, most) in feature cells where each bin is sampled, and which of them (n, 1, most) are in use.

    A bin of a box that is `length` cells long takes ceil(length / output_size) samples; boxes with fewer samples than
    the longest one leave the rest unused.
    """
    bin_length = (length / output_size)[:, None, None]
    per_bin = torch.ceil(bin_length)
    sample = torch.arange(int(per_bin.max()), device=low.device)[None, None]
    bin_index = torch.arange(output_size, device=low.device)[None, :, None]
    # The kernel's own order of operations: in another, positions at cell 70 differ by the 1e-5 that results may.
    positions = low[:, None, None] + bin_index * bin_length + (sample + 0.5) * bin_length / per_bin
    return positions, sample < per_bin


def _axis_weights(low: Tensor, high: Tensor, cells: int, output_size: int) -> Tensor:
    """Weights (n, out, cells) that average one axis into bins; samples over a cell beyond the border count 0."""
    length = (high - low).clamp(min=1.0)
    positions, used = _sample_positions(low, length, output_size)
    counted = used & (positions >= -1) & (positions <= cells)
    positions = positions.clamp(0, cells - 1)
    distance = (positions[..., None] - torch.arange(cells, device=low.device)).abs()
    weights = (1 - distance).clamp(min=0) * counted[..., None]
    return weights.sum(2) / used.sum(2)[..., None]


@in_float32
def roi_align(features: Tensor, boxes: Sequence[Tensor], output_size: int) -> Tensor:
    """Average-pool each box of each image into a square grid of bins, with bilinear sampling.

    `features` is (N, C, H, W); `boxes` holds one (n_i, 4) tensor of x0, y0, x1, y1 in feature cells for each image.
    Returns (sum of n_i, C, output_size, output_size) in the dtype of the features, differentiable in the features;
    equals torchvision within 1e-5 in float32.
    """
    return torch.cat([_pool(*pair, output_size) for pair in zip(features, boxes, strict=True)])


def _pool(image: Tensor, boxes: Tensor, output_size: int) -> Tensor:
    """(C, H, W) and n boxes → (n, C, out, out); one image at a time, so that no copy of it is made for each box."""
    if not len(boxes):
        return image.new_zeros(0, len(image), output_size, output_size)
    x0, y0, x1, y1 = boxes.unbind(-1)
    across = _axis_weights(x0, x1, image.shape[2], output_size)
    down = _axis_weights(y0, y1, image.shape[1], output_size)
    return torch.einsum("ncyw,nxw->ncyx", torch.einsum("nyh,chw->ncyw", down, image), across)


class _TorchvisionStandIn(SimpleNamespace):
    """What `modeling_sam3` needs of torchvision."""


def install_roi_align() -> None:
    """Give transformers' SAM 3 an exact `roi_align`: torchvision's where that is installed, else the one above.

    `modeling_sam3` imports torchvision into its globals only when it finds it, and looks the name up at each call.
    """
    # `from transformers.models.sam3 import modeling_sam3` gives a placeholder until something has imported the module.
    modeling_sam3: Any = import_module("transformers.models.sam3.modeling_sam3")
    present = getattr(modeling_sam3, "torchvision", None)
    if isinstance(present, _TorchvisionStandIn):
        return
    pool = in_float32(present.ops.roi_align) if present else roi_align
    modeling_sam3.torchvision = _TorchvisionStandIn(ops=SimpleNamespace(roi_align=pool))
