"""The size of the tiny SAM 3, its initial weights, and the auxiliary heads that exist only during training."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Sam3Config
from transformers.models.sam3.modeling_sam3 import Sam3Model

from service.engine.roi import install_roi_align
from tools.train_tiny.backgrounds import NATIVE_PX
from tools.train_tiny.vocabulary import TOKEN_CLASSES

PATCH_PX = 14
MASK_CELLS_PER_TOKEN = 4
"""The finest pyramid level, and with it each mask, has 4x4 cells for each vision token."""


@dataclass(frozen=True)
class Size:
    """Everything that sets the number of parameters: 3.3 million by default."""

    image_px: int = NATIVE_PX
    vision_width: int = 128
    vision_layers: int = 5
    width: int = 96
    text_width: int = 96
    encoder_layers: int = 2
    decoder_layers: int = 4
    queries: int = 36

    @property
    def tokens_per_side(self) -> int:
        """Vision tokens along one side of the image."""
        return self.image_px // PATCH_PX

    @property
    def mask_px(self) -> int:
        """Side of a mask that the model puts out."""
        return self.tokens_per_side * MASK_CELLS_PER_TOKEN


def make_config(vocabulary_size: int, size: Size) -> Sam3Config:
    """A `Sam3Config` in which only numbers differ from the full model's; no dropout anywhere."""
    side = size.tokens_per_side
    heads = {"num_attention_heads": 4}
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": size.vision_width,
        "intermediate_size": size.vision_width * 3,
        "num_hidden_layers": size.vision_layers,
        "image_size": size.image_px,
        "pretrain_image_size": size.image_px,
        "patch_size": PATCH_PX,
        "window_size": side // 2,
        "global_attn_indexes": [layer for layer in range(size.vision_layers) if layer != 1],
    }
    vision = {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": size.width,
        "backbone_feature_sizes": [[side * factor] * 2 for factor in (4, 2, 1)],
        "backbone_config": backbone | heads,
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary_size,
        "hidden_size": size.text_width,
        "intermediate_size": size.text_width * 2,
        "projection_dim": size.text_width,
        "num_hidden_layers": 2,
        "max_position_embeddings": 32,
        "hidden_act": "gelu",
        "bos_token_id": vocabulary_size - 2,
        "eos_token_id": vocabulary_size - 1,
        "pad_token_id": vocabulary_size - 1,
    }
    detr = heads | {"hidden_size": size.width, "intermediate_size": 3 * size.width, "dropout": 0.0}
    geometry = detr | {"num_layers": 1, "intermediate_size": 2 * size.width, "roi_size": 4}
    return Sam3Config(
        vision_config=vision,
        text_config=text | heads,
        geometry_encoder_config=geometry,
        detr_encoder_config=detr | {"num_layers": size.encoder_layers},
        detr_decoder_config=detr | {"num_layers": size.decoder_layers, "num_queries": size.queries},
        mask_decoder_config=heads | {"hidden_size": size.width},
    )


def _unit_gain(model: Sam3Model) -> None:
    """Weights that keep the scale of their input.

    transformers draws from N(0, 0.02), which fits a width of 1024; at a width of 96 every layer would shrink the signal
    fivefold, positions and box bias would vanish, and the detection transformer would not start to learn.
    """
    for name, module in model.named_modules():
        if name.startswith("text_encoder") or not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        else:
            fan_in = module.weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
            nn.init.normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _frequency_patterns(patch_px: int) -> Tensor:
    """The 28 lowest 2-D cosine patterns (28, px, px), weighted to rise with frequency: edges count like mean colour."""
    position = torch.arange(patch_px)
    waves = torch.cos(math.pi * position[:, None] * (position[None] + 0.5) / patch_px)
    waves /= waves.norm(dim=1, keepdim=True)
    pairs = [(down, across) for down in range(7) for across in range(7 - down)]
    return torch.stack([torch.outer(waves[v], waves[u]) * (0.08 + 0.12 * (u + v)) for v, u in pairs])


def _smooth_patch_filters(weight: Tensor) -> None:
    """Patch filters (out, 3, px, px) as random mixes of low frequencies instead of white noise."""
    patterns = _frequency_patterns(weight.shape[-1])
    mix = torch.randn(weight.shape[0], 3, len(patterns)) / (3 * len(patterns)) ** 0.5
    weight.copy_(8 * torch.einsum("ock,kxy->ocxy", mix, patterns))


def _query_grid(queries: int) -> Tensor:
    """Logits (queries, 4) of boxes a fifth of the image wide, centred on a regular grid."""
    side = math.isqrt(queries)
    centre = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    width = torch.full((side * side,), 0.2)
    return torch.logit(torch.stack([x.flatten(), y.flatten(), width, width], dim=1))


def _box_local_attention(embedding: Any, slopes: tuple[float, ...] = (10.0, 6.0, 3.0, 0.0)) -> None:
    """Start the position bias of one axis at -slope times the log distance outside the box, one slope a head."""
    first, second = embedding.layer1, embedding.layer2
    second.weight.mul_(0.1)
    second.weight[:, :2] = 0
    first.weight[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    first.bias[:2] = 0
    for head in range(second.weight.shape[0]):
        second.weight[head, :2] = -slopes[head % len(slopes)]


@torch.no_grad()
def _initialise(model: Sam3Model) -> None:
    _unit_gain(model)
    vision, decoder = model.vision_encoder, model.detr_decoder
    _smooth_patch_filters(vision.backbone.embeddings.patch_embeddings.projection.weight)
    vision.backbone.embeddings.position_embeddings.normal_(0, 0.3)
    model.text_encoder.text_model.embeddings.token_embedding.weight.normal_(0, 0.3)
    decoder.reference_points.weight.copy_(_query_grid(decoder.config.num_queries))
    decoder.query_embed.weight.normal_(0, 0.5)
    decoder.presence_token.weight.normal_(0, 0.5)
    _box_local_attention(decoder.box_rpb_embed_x)
    _box_local_attention(decoder.box_rpb_embed_y)
    # Boxes start on the grid, and scores and masks near logit 0.
    decoder.box_head.layer3.weight.zero_()
    decoder.presence_head.layer3.weight.mul_(0.1)
    model.dot_product_scoring.query_proj.weight.mul_(0.3)
    model.mask_decoder.mask_embedder.layers[-1].weight.mul_(0.1)
    for layer in vision.neck.fpn_layers:
        layer.proj2.weight.mul_(0.5)


def build_model(vocabulary_size: int, size: Size) -> Sam3Model:
    """A freshly initialised model; the caller seeds torch."""
    install_roi_align()
    model = Sam3Model(make_config(vocabulary_size, size))
    _initialise(model)
    return model


@torch.no_grad()
def normalise_pyramid(model: Sam3Model, pixel_values: Tensor) -> list[float]:
    """Rescale the last convolution of each pyramid level to unit variance on these images; returns the scales found.

    The transformer adds position codes of order 1 to the raw features: at a scale of 20, as pre-training leaves them,
    they would drown positions, text and box bias.
    """
    vision = model.vision_encoder
    scales = [level.std().item() for level in vision(pixel_values).fpn_hidden_states]
    for layer, scale in zip(vision.neck.fpn_layers, scales, strict=True):
        layer.proj2.weight.div_(scale)
        layer.proj2.bias.div_(scale)
    return scales


def _head(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))


class AuxiliaryHeads(nn.Module):
    """Linear readouts of single vision tokens, supervised in training and thrown away after it.

    `token_class` and `token_box` read the vision tower's features, `relevance` the features after fusion with the
    prompt.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token_class = _head(width, len(TOKEN_CLASSES))
        self.token_box = _head(width, 4)
        self.relevance = _head(width, 1)
        # Most tokens show nothing of most classes: start near probability 0.02.
        nn.init.constant_(self.token_class[1].bias, -4.0)  # type: ignore[arg-type]
