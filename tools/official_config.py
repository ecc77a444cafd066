"""The sizes of an official detector, read from its weights, as transformers' Sam3Config."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor
from transformers.models.sam3.configuration_sam3 import Sam3Config

from service.engine.official_weights import BadCheckpoint

_TRUNK = "backbone.vision_backbone.trunk"
_TEXT = "backbone.language_backbone.encoder"
_HEAD_WIDTH = 64  # of the vision and the text encoder (model_builder.py: 1024 / 16); no shape tells it


class _Weights:
    """Shapes and depths by name; what is missing is named."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self._weights:
            raise BadCheckpoint(f"lacks the weight {name}")
        return tuple(self._weights[name].shape)

    def reach(self, rotary_code: str, index: int) -> int:
        """How many cells wide a vision block looks; without its rotary code, as in the full model: every 8th wider."""
        if rotary_code in self._weights:
            return isqrt(len(self._weights[rotary_code]))
        return 72 if index % 8 == 7 else 24

    def depth(self, prefix: str) -> int:
        """How many numbered layers there are under a name."""
        found = {name[len(prefix) + 1 :].split(".")[0] for name in self._weights if name.startswith(f"{prefix}.")}
        return len(found)


def config_of(weights: Mapping[str, Tensor]) -> Any:
    """The Sam3Config under which transformers computes what upstream computes with these weights.

    Upstream's vision encoder has layer norms with 1e-5 (model/vitdet.py: ViT), transformers' default is 1e-6.
    """
    read = _Weights(weights)
    vision = _vision(read)
    cells = vision["image_size"] // vision["patch_size"]
    width = read.shape("backbone.language_backbone.resizer.weight")[0]
    heads = read.shape("transformer.decoder.boxRPB_embed_x.layers.1.weight")[0]
    shared = {"hidden_size": width, "num_attention_heads": heads}
    return Sam3Config(
        vision_config={
            "backbone_config": {"model_type": "sam3_vit_model", **vision},
            "fpn_hidden_size": width,
            "backbone_feature_sizes": [[cells * scale] * 2 for scale in (4, 2, 1)],
        },
        text_config={"model_type": "clip_text_model", **_text(read)},
        geometry_encoder_config={
            **shared,
            **_transformer(read, "geometry_encoder.encode"),
            "roi_size": read.shape("geometry_encoder.boxes_pool_project.weight")[-1],
        },
        detr_encoder_config={**shared, **_transformer(read, "transformer.encoder.layers")},
        detr_decoder_config={
            **shared,
            **_transformer(read, "transformer.decoder.layers"),
            "num_queries": read.shape("transformer.decoder.query_embed.weight")[0],
        },
        mask_decoder_config={
            **shared,
            "num_upsampling_stages": read.depth("segmentation_head.pixel_decoder.conv_layers"),
        },
    )


def _transformer(read: _Weights, layers: str) -> dict[str, int]:
    return {"num_layers": read.depth(layers), "intermediate_size": read.shape(f"{layers}.0.linear1.weight")[0]}


def _vision(read: _Weights) -> dict[str, Any]:
    """The length of a block's rotary code tells how far it looks: over a window, or over the whole image."""
    width, channels, _, patch = read.shape(f"{_TRUNK}.patch_embed.proj.weight")
    inner = read.shape(f"{_TRUNK}.blocks.0.mlp.fc1.weight")[0]
    depth = read.depth(f"{_TRUNK}.blocks")
    reach = [read.reach(f"{_TRUNK}.blocks.{index}.attn.freqs_cis", index) for index in range(depth)]
    return {
        "hidden_size": width,
        "num_channels": channels,
        "patch_size": patch,
        "num_hidden_layers": depth,
        "num_attention_heads": width // _HEAD_WIDTH,
        "intermediate_size": inner,
        "image_size": max(reach) * patch,
        "window_size": min(reach),
        "global_attn_indexes": [index for index, cells in enumerate(reach) if cells == max(reach)],
        "pretrain_image_size": isqrt(read.shape(f"{_TRUNK}.pos_embed")[1]) * patch,
        "layer_norm_eps": 1e-5,
    }


def _text(read: _Weights) -> dict[str, Any]:
    vocabulary, width = read.shape(f"{_TEXT}.token_embedding.weight")
    layers = f"{_TEXT}.transformer.resblocks"
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": read.depth(layers),
        "num_attention_heads": width // _HEAD_WIDTH,
        "intermediate_size": read.shape(f"{layers}.0.mlp.c_fc.weight")[0],
        "max_position_embeddings": read.shape(f"{_TEXT}.positional_embedding")[0],
        "projection_dim": read.shape(f"{_TEXT}.text_projection")[1],
        "hidden_act": "gelu",
    }
