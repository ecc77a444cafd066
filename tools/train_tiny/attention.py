"""Attention in float32 under bfloat16 autocast.

On CPUs with bfloat16 matrix units the rest of a training step is 1.5 times faster in bfloat16, but the backward of
torch's fused CPU attention is ten times slower than in float32, which would eat the gain.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

FLOAT32_SDPA = "sdpa_float32"


def _float32_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **options: Any
) -> tuple[Tensor, None]:
    """The library's `sdpa` attention with inputs and additive mask in float32."""
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **options
        )
        return result


def use_float32_attention(model: nn.Module) -> None:
    """Register the attention with transformers and switch the model to it; the saved config does not mention it."""
    AttentionInterface.register(FLOAT32_SDPA, _float32_attention)
    AttentionMaskInterface.register(FLOAT32_SDPA, sdpa_mask)
    model.set_attn_implementation(FLOAT32_SDPA)  # type: ignore[operator]
