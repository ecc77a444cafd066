"""The default engine: transformers' Sam3Model behind the Engine protocol, by upstream's prompt and score rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import CLIPTokenizer, logging
from transformers.modeling_outputs import BaseModelOutputWithPooling

# Imported from its module: the top-level names are placeholders where torchvision is absent.
from transformers.models.sam3.modeling_sam3 import Sam3Model, Sam3VisionEncoderOutput

from service.core.results import ModelInfo
from service.engine.base import Grounding, Query
from service.engine.weights import Checkpoint
from service.errors import ModelUnavailable


@dataclass(frozen=True)
class Sam3Image:
    """Features of one image, kept on the device.

    levels: feature maps (1, C, h, w), finest first. positions: their position codes, same shapes.
    cls_token: (1, 1, C), the geometry encoder's summary of the image.
    """

    levels: tuple[torch.Tensor, ...]
    positions: tuple[torch.Tensor, ...]
    cls_token: torch.Tensor


@dataclass(frozen=True)
class Sam3Text:
    """Features of one phrase: tokens (1, L, C) and their mask (1, L), 1 where a token is no padding."""

    tokens: torch.Tensor
    mask: torch.Tensor


Sam3Query = Query[Sam3Image, Sam3Text]


class Sam3Engine:
    """Text-prompted SAM 3 on one device; see Engine for the contract."""

    def __init__(self, model: Any, tokenizer: Any, info: ModelInfo) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._info = info
        config = model.config
        self._side = int(config.vision_config.backbone_config.image_size)
        self._context = int(config.text_config.max_position_embeddings)

    @property
    def info(self) -> ModelInfo:
        """Identity of the loaded checkpoint."""
        return self._info

    @torch.inference_mode()
    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[Sam3Image]:
        """Encode RGB images, each (H, W, 3) uint8 of any size, in one forward."""
        pixels = torch.cat([self._pixels(image) for image in images])
        vision = self._model.get_vision_features(pixels)
        levels = vision.fpn_hidden_states
        positions = tuple(p[:1] for p in vision.fpn_position_encoding)
        cls_tokens = self._cls_tokens(levels[-2], positions[-2])
        return [
            Sam3Image(tuple(level[i : i + 1] for level in levels), positions, cls_tokens[i : i + 1])
            for i in range(len(images))
        ]

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> list[Sam3Text]:
        """Encode phrases in one forward; what exceeds the model's context (32 tokens) is left out."""
        tokens = self._tokenizer(
            list(texts), padding="max_length", max_length=self._context, truncation=True, return_tensors="pt"
        ).to(self._model.device)
        features = self._model.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return [
            Sam3Text(features.pooler_output[i : i + 1], tokens["attention_mask"][i : i + 1]) for i in range(len(texts))
        ]

    @torch.inference_mode()
    def ground(self, queries: Sequence[Sam3Query]) -> list[Grounding]:
        """Find the instances of each query in one forward; images and texts may repeat and mix freely."""
        text, mask = self._prompt(queries)
        output = self._model(
            vision_embeds=_stack_images([query.image for query in queries]),
            text_embeds=BaseModelOutputWithPooling(pooler_output=text),
            attention_mask=mask,
        )
        scores = _scores(output)
        return [
            _select(query, scores[i], output.pred_boxes[i], output.pred_masks[i]) for i, query in enumerate(queries)
        ]

    def _pixels(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, 3) uint8 → (1, 3, S, S) in [-1, 1]: a plain resize to the square, as Sam3ImageProcessor does it."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self._model.device)
        if pixels.shape[-2:] != (self._side, self._side):
            pixels = F.interpolate(pixels, (self._side, self._side), mode="bilinear", antialias=True)
        return (pixels.float() / 127.5 - 1).to(self._model.dtype)

    def _cls_tokens(self, features: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) features → (B, 1, C), the geometry encoder's CLS token.

        Upstream appends it to every prompt, also to text alone; transformers computes it only beside boxes
        (facebookresearch/sam3, model/geometry_encoders.py: SequenceGeometryEncoder.forward). It depends on
        the image alone, so it is computed with the image's features, by the encoder's own modules.
        """
        encoder = self._model.geometry_encoder
        token = encoder.cls_embed.weight.view(1, 1, -1).expand(features.shape[0], -1, -1)
        token = encoder.prompt_layer_norm(encoder.final_proj(token))
        flat_features = features.flatten(2).transpose(1, 2)
        flat_positions = positions.expand_as(features).flatten(2).transpose(1, 2)
        for layer in encoder.layers:
            token = layer(
                prompt_feats=token,
                vision_feats=flat_features,
                vision_pos_encoding=flat_positions,
                prompt_mask=None,
            )
        return encoder.output_layer_norm(token)  # type: ignore[no-any-return]

    def _prompt(self, queries: Sequence[Sam3Query]) -> tuple[torch.Tensor, torch.Tensor]:
        """Text tokens with each image's CLS token appended: (B, L + 1, C), and the mask (B, L + 1)."""
        tokens = torch.cat([torch.cat([query.text.tokens, query.image.cls_token], dim=1) for query in queries])
        mask = torch.cat([F.pad(query.text.mask, (0, 1), value=1) for query in queries])
        return tokens, mask


def load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Sam3Engine:
    """Load a checkpoint folder; ModelUnavailable when a weight is missing or left over.

    transformers would fill a missing weight with random numbers and only log it.
    """
    logging.disable_progress_bar()
    try:
        model, report = Sam3Model.from_pretrained(
            checkpoint.folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below by name
        )
        tokenizer = CLIPTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailable(f"SAM3_MODEL: {checkpoint.id}: {first_line}") from error
    _refuse_wrong_keys(checkpoint, report)
    info = ModelInfo(checkpoint.id, checkpoint.revision, device.type, str(dtype).removeprefix("torch."))
    return Sam3Engine(model.to(device).eval(), tokenizer, info)


def _refuse_wrong_keys(checkpoint: Checkpoint, report: dict[str, Any]) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(str(key) for key in report.get(kind) or ())
        if keys:
            shown = ", ".join(islice(keys, 3)) + (", …" if len(keys) > 3 else "")
            label = kind.replace("_keys", " weights")
            raise ModelUnavailable(f"SAM3_MODEL: {checkpoint.id} is no complete SAM 3: {len(keys)} {label} ({shown})")


def _stack_images(images: Sequence[Sam3Image]) -> Sam3VisionEncoderOutput:
    """One row per query; prompts on one image share its memory instead of copying it."""
    first, count = images[0], len(images)
    if all(image is first for image in images):
        levels = tuple(level.expand(count, -1, -1, -1) for level in first.levels)
    else:
        levels = tuple(torch.cat(rows) for rows in zip(*(image.levels for image in images), strict=True))
    positions = tuple(position.expand(count, -1, -1, -1) for position in first.positions)
    return Sam3VisionEncoderOutput(fpn_hidden_states=levels, fpn_position_encoding=positions)


def _scores(output: Any) -> torch.Tensor:
    """(B, Q) in [0, 1]: presence and class probabilities multiply (upstream: Sam3Processor._forward_grounding)."""
    presence = output.presence_logits.float().sigmoid().reshape(-1, 1)
    return output.pred_logits.float().sigmoid() * presence  # type: ignore[no-any-return]


def _select(query: Sam3Query, scores: torch.Tensor, boxes: torch.Tensor, masks: torch.Tensor) -> Grounding:
    """Keep what scores above the threshold, best first; only those leave the device."""
    order = scores.argsort(descending=True, stable=True)
    kept = order[scores[order] > query.threshold][: query.limit]
    return Grounding(
        scores=scores[kept].cpu().numpy(),
        boxes=boxes[kept].float().clamp(0, 1).cpu().numpy(),
        mask_logits=masks[kept].float().cpu().numpy(),
    )
