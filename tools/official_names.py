"""Every weight of upstream's image model and what it is called in transformers' Sam3Model.

One row a name. `{n}` is a number, `{leaf}` is `weight` or `bias`, and a `{qkv}` on the right means that one tensor
becomes three. Written from the state dicts of both models; tests hold both sides to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

_FIELDS = {"{n}": r"(?P<n>\d+)", "{leaf}": r"(?P<leaf>weight|bias)"}


def _as_is(weight: Tensor) -> Tensor:
    return weight


def _without_first_row(weight: Tensor) -> Tensor:
    return weight[:, 1:]


def _transposed(weight: Tensor) -> Tensor:
    return weight.T


@dataclass(frozen=True)
class Row:
    """`official` becomes `default`, and its tensor what `change` makes of it."""

    official: str
    default: str
    change: Callable[[Tensor], Tensor] = _as_is

    def match(self, name: str) -> dict[str, str] | None:
        """The row's fields in an official name, or None when the row is not about it."""
        pattern = re.escape(self.official)
        for field, expression in _FIELDS.items():
            pattern = pattern.replace(re.escape(field), expression)
        found = re.fullmatch(pattern, name)
        return found.groupdict() if found else None

    def tensors(self, fields: Mapping[str, str], weight: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The default model's names and tensors."""
        changed = self.change(weight)
        if "{qkv}" not in self.default:
            yield self.default.format(**fields), changed
            return
        for part, third in zip("qkv", changed.chunk(3), strict=True):
            yield self.default.format(qkv=part, **fields), third.clone()


def _under(official: str, default: str, names: Mapping[str, str]) -> list[Row]:
    """Modules below one: each has a weight and, mostly, a bias."""
    return [Row(f"{official}.{old}.{{leaf}}", f"{default}.{new}.{{leaf}}") for old, new in names.items()]


def _attention(official: str, default: str, out: str = "o_proj") -> list[Row]:
    """A torch.nn.MultiheadAttention."""
    return [
        Row(f"{official}.in_proj_{{leaf}}", f"{default}.{{qkv}}_proj.{{leaf}}"),
        Row(f"{official}.out_proj.{{leaf}}", f"{default}.{out}.{{leaf}}"),
    ]


def _layers(official: str, default: str, count: int) -> list[Row]:
    """Upstream's MLP: `layers.0` there is `layer1` here."""
    return _under(official, default, {f"layers.{index}": f"layer{index + 1}" for index in range(count)})


_TRUNK, _VISION = "backbone.vision_backbone.trunk", "vision_encoder.backbone"
_TEXT, _CLIP = "backbone.language_backbone.encoder", "text_encoder.text_model"
_NORMS = {"norm1": "layer_norm1", "norm2": "layer_norm2", "norm3": "layer_norm3"}
_MLP = {"linear1": "mlp.fc1", "linear2": "mlp.fc2"}
_DECODER, _DETR = "transformer.decoder", "detr_decoder"

ROWS: tuple[Row, ...] = (
    # vision encoder; the trained position code's first row belongs to a class token that the model does not use
    Row(f"{_TRUNK}.pos_embed", f"{_VISION}.embeddings.position_embeddings", _without_first_row),
    Row(f"{_TRUNK}.blocks.{{n}}.attn.qkv.{{leaf}}", f"{_VISION}.layers.{{n}}.attention.{{qkv}}_proj.{{leaf}}"),
    *_under(_TRUNK, _VISION, {"patch_embed.proj": "embeddings.patch_embeddings.projection", "ln_pre": "layer_norm"}),
    *_under(
        f"{_TRUNK}.blocks.{{n}}",
        f"{_VISION}.layers.{{n}}",
        {
            "norm1": "layer_norm1",
            "attn.proj": "attention.o_proj",
            "norm2": "layer_norm2",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        },
    ),
    # feature pyramid; scale_layers.1 is the activation
    *_under(
        "backbone.vision_backbone.convs.{n}",
        "vision_encoder.neck.fpn_layers.{n}",
        {
            "dconv_2x2": "scale_layers.0",
            "dconv_2x2_0": "scale_layers.0",
            "dconv_2x2_1": "scale_layers.2",
            "conv_1x1": "proj1",
            "conv_3x3": "proj2",
        },
    ),
    # text encoder
    Row(f"{_TEXT}.positional_embedding", f"{_CLIP}.embeddings.position_embedding.weight"),
    Row(f"{_TEXT}.text_projection", "text_encoder.text_projection.weight", _transposed),
    *_under(_TEXT, _CLIP, {"token_embedding": "embeddings.token_embedding", "ln_final": "final_layer_norm"}),
    *_attention(f"{_TEXT}.transformer.resblocks.{{n}}.attn", f"{_CLIP}.encoder.layers.{{n}}.self_attn", out="out_proj"),
    *_under(
        f"{_TEXT}.transformer.resblocks.{{n}}",
        f"{_CLIP}.encoder.layers.{{n}}",
        {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"},
    ),
    Row("backbone.language_backbone.resizer.{leaf}", "text_projection.{leaf}"),
    # geometry encoder
    *_under(
        "geometry_encoder",
        "geometry_encoder",
        {
            "label_embed": "label_embed",
            "cls_embed": "cls_embed",
            "boxes_direct_project": "boxes_direct_project",
            "boxes_pool_project": "boxes_pool_project",
            "boxes_pos_enc_project": "boxes_pos_enc_project",
            "final_proj": "final_proj",
            "img_pre_norm": "vision_layer_norm",
            "norm": "prompt_layer_norm",
            "encode_norm": "output_layer_norm",
        },
    ),
    *_attention("geometry_encoder.encode.{n}.self_attn", "geometry_encoder.layers.{n}.self_attn"),
    *_attention("geometry_encoder.encode.{n}.cross_attn_image", "geometry_encoder.layers.{n}.cross_attn"),
    *_under("geometry_encoder.encode.{n}", "geometry_encoder.layers.{n}", _NORMS | _MLP),
    # DETR encoder
    *_attention("transformer.encoder.layers.{n}.self_attn", "detr_encoder.layers.{n}.self_attn"),
    *_attention("transformer.encoder.layers.{n}.cross_attn_image", "detr_encoder.layers.{n}.cross_attn"),
    *_under("transformer.encoder.layers.{n}", "detr_encoder.layers.{n}", _NORMS | _MLP),
    # DETR decoder
    *_attention(f"{_DECODER}.layers.{{n}}.self_attn", f"{_DETR}.layers.{{n}}.self_attn"),
    *_attention(f"{_DECODER}.layers.{{n}}.ca_text", f"{_DETR}.layers.{{n}}.text_cross_attn"),
    *_attention(f"{_DECODER}.layers.{{n}}.cross_attn", f"{_DETR}.layers.{{n}}.vision_cross_attn"),
    *_under(
        f"{_DECODER}.layers.{{n}}",
        f"{_DETR}.layers.{{n}}",
        {
            "norm2": "self_attn_layer_norm",
            "catext_norm": "text_cross_attn_layer_norm",
            "norm1": "vision_cross_attn_layer_norm",
            "norm3": "mlp_layer_norm",
            **_MLP,
        },
    ),
    *_under(
        _DECODER,
        _DETR,
        {
            "norm": "output_layer_norm",
            "query_embed": "query_embed",
            "reference_points": "reference_points",
            "presence_token": "presence_token",
            "presence_token_out_norm": "presence_layer_norm",
        },
    ),
    *_layers(f"{_DECODER}.bbox_embed", f"{_DETR}.box_head", 3),
    *_layers(f"{_DECODER}.presence_token_head", f"{_DETR}.presence_head", 3),
    *_layers(f"{_DECODER}.ref_point_head", f"{_DETR}.ref_point_head", 2),
    *_layers(f"{_DECODER}.boxRPB_embed_x", f"{_DETR}.box_rpb_embed_x", 2),
    *_layers(f"{_DECODER}.boxRPB_embed_y", f"{_DETR}.box_rpb_embed_y", 2),
    # mask head
    *_attention("segmentation_head.cross_attend_prompt", "mask_decoder.prompt_cross_attn"),
    *_under(
        "segmentation_head",
        "mask_decoder",
        {
            "cross_attn_norm": "prompt_cross_attn_norm",
            "pixel_decoder.conv_layers.{n}": "pixel_decoder.conv_layers.{n}",
            "pixel_decoder.norms.{n}": "pixel_decoder.norms.{n}",
            "mask_predictor.mask_embed.layers.{n}": "mask_embedder.layers.{n}",
            "instance_seg_head": "instance_projection",
            "semantic_seg_head": "semantic_projection",
        },
    ),
    # scores
    *_layers("dot_prod_scoring.prompt_mlp", "dot_product_scoring.text_mlp", 2),
    *_under(
        "dot_prod_scoring",
        "dot_product_scoring",
        {"prompt_mlp.out_norm": "text_mlp_out_norm", "prompt_proj": "text_proj", "hs_proj": "query_proj"},
    ),
)

# Not weights of the image model: rotary codes, which both sides compute, and point prompts, which it never gets.
LEFT_OUT = tuple(
    Row(name, "")
    for name in (
        f"{_TRUNK}.blocks.{{n}}.attn.freqs_cis",
        "geometry_encoder.points_direct_project.{leaf}",
        "geometry_encoder.points_pool_project.{leaf}",
        "geometry_encoder.points_pos_enc_project.{leaf}",
    )
)


def renamed(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The default model's weights, sharing the official ones' memory if they are equal, and the names without a row."""
    made: dict[str, Tensor] = {}
    unknown = []
    for name, weight in weights.items():
        found = next(((row, fields) for row in ROWS if (fields := row.match(name)) is not None), None)
        if found:
            made |= found[0].tensors(found[1], weight)
        elif not any(row.match(name) is not None for row in LEFT_OUT):
            unknown.append(name)
    return made, unknown
