"""The default engine: transformers' Sam3Model behind the Engine protocol, by upstream's prompt and score rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.models.sam3.modeling_sam3 import box_cxcywh_to_xyxy, inverse_sigmoid

from service.core.results import ModelInfo
from service.engine.base import Grounding, Query
from service.engine.faults import named_faults
from service.engine.finish import Finish, finish
from service.engine.fusion import Prompts, attended, flat, fuse
from service.engine.geometry import cls_tokens, exemplar_tokens
from service.engine.mask_head import MaskHead
from service.engine.pixels import normalized, resize_to_square
from service.engine.selection import Selection, finite, select
from service.engine.warming import warm_up


@dataclass(frozen=True)
class Sam3Image:
    """Features of one image, kept on the device.

    features: the coarsest map (1, C, h, w) that the model reads. positions: its position code, same shape.
    cls_token: (1, 1, C), the geometry encoder's summary of the image. attended: (1, h * w, C), what the DETR encoder
    makes of the image before it looks at a prompt. skips: (1, C, 2h, 2w) and (1, C, 4h, 4w), what the image adds in the
    mask head.
    """

    features: Tensor
    positions: Tensor
    cls_token: Tensor
    attended: Tensor
    skips: tuple[Tensor, ...]


@dataclass(frozen=True)
class Sam3Text:
    """Features of one phrase: tokens (L, C), without the padding that the text encoder needs."""

    tokens: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens, which are no view of a larger tensor."""
        return self.tokens.nbytes


Sam3Query = Query[Sam3Image, Sam3Text]


class Sam3Engine:
    """SAM 3 on one device; see Engine for the contract. `quick`: whether a whole request is, as in `warming`."""

    def __init__(
        self, model: Any, tokenizer: Any, info: ModelInfo, finish: Finish = finish, *, quick: bool = True
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._info = info
        self._finish = finish
        self._quick = quick
        self._compiled = False
        self._mask_head = MaskHead(model.mask_decoder)
        config = model.config
        self._side = int(config.vision_config.backbone_config.image_size)
        self._context = int(config.text_config.max_position_embeddings)

    @property
    def info(self) -> ModelInfo:
        """Identity of the loaded checkpoint."""
        return self._info

    def check(self) -> None:
        """Run what has warmed it up: a whole request where that is quick, else its phrase."""
        warm_up(self, whole=self._quick)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an RGB image (H, W, 3) to the model's square (3, S, S), plainly, as Sam3ImageProcessor does it."""
        return resize_to_square(image, self._side)

    def compile_vision(self) -> None:
        """Let torch.compile rewrite the vision encoder: once for one image, at its first forward, and once for more."""
        self._model.vision_encoder.compile(dynamic=False)
        self._compiled = True

    @named_faults
    @torch.inference_mode()
    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[Sam3Image]:
        """Encode prepared images, each (3, S, S) uint8, in one forward."""
        pixels = self._pixels(images)
        if self._compiled and len(images) > 1:
            torch._dynamo.mark_dynamic(pixels, 0)  # else each number of images would be compiled anew
        vision = self._model.get_vision_features(pixels)
        levels = vision.fpn_hidden_states[:-1]  # the model itself leaves the coarsest one out
        positions = vision.fpn_position_encoding[-2][:1]
        summaries = cls_tokens(self._model.geometry_encoder, levels[-1], positions)
        looked = attended(self._model.detr_encoder, levels[-1], positions)
        skips = self._mask_head.skips(levels)
        self._finish(self._model.device)
        rows = [slice(i, i + 1) for i in range(len(images))]
        return [
            Sam3Image(levels[-1][i], positions, summaries[i], looked[i], tuple(skip[i] for skip in skips)) for i in rows
        ]

    @named_faults
    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> list[Sam3Text]:
        """Encode phrases in one forward; what exceeds the model's context (32 tokens) is left out."""
        tokens = self._tokenizer(
            list(texts), padding="max_length", max_length=self._context, truncation=True, return_tensors="pt"
        ).to(self._model.device)
        features = self._model.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        lengths = tokens["attention_mask"].sum(1).tolist()
        return [Sam3Text(row[:length].clone()) for row, length in zip(features.pooler_output, lengths, strict=True)]

    @named_faults
    @torch.inference_mode()
    def ground(self, queries: Sequence[Sam3Query]) -> list[Grounding]:
        """Find the instances of each query in one forward; images and texts may repeat and mix freely.

        The steps are those of `Sam3Model.forward`, but what depends on the image alone has been done with it, and the
        mask head runs for the instances that are kept, and not at all for a prompt that found none.
        """
        prompts = self._prompts(queries)
        images = [query.image for query in queries]
        positions = flat(images[0].positions)
        encoded = fuse(self._model.detr_encoder, _rows([image.attended for image in images]), positions, prompts)
        decoded = self._model.detr_decoder(
            vision_features=encoded,
            text_features=prompts.tokens,
            vision_pos_encoding=positions,
            text_mask=prompts.mask,
            spatial_shapes=torch.tensor([images[0].features.shape[-2:]]),  # on the host, where it is read
        )
        hidden = decoded.intermediate_hidden_states[-1]
        selection = select(self._scores(decoded, hidden, prompts), [(q.threshold, q.limit) for q in queries])
        boxes = selection.of(self._boxes(decoded, hidden))
        masks = self._masks(selection, images, prompts, encoded, hidden)
        return [Grounding(*found) for found in zip(selection.scores, boxes, masks, strict=True)]

    def _pixels(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(3, S, S) uint8 each → (B, 3, S, S) in [-1, 1]."""
        return normalized(images, self._model.device).to(self._model.dtype)

    def _prompts(self, queries: Sequence[Sam3Query]) -> Prompts:
        """Text tokens, then those of the exemplars and the CLS token; shorter prompts are padded at the end."""
        pairs = zip(queries, self._geometry(queries), strict=True)
        tokens = [torch.cat([query.text.tokens, geometry[0]]) for query, geometry in pairs]
        mask = [torch.ones(len(each), dtype=torch.bool, device=each.device) for each in tokens]
        return Prompts(pad_sequence(tokens, batch_first=True), pad_sequence(mask, batch_first=True))

    def _geometry(self, queries: Sequence[Sam3Query]) -> list[Tensor]:
        """(1, n + 1, C) for each query with n exemplars; those without take their image's CLS token."""
        tokens = [query.image.cls_token for query in queries]
        rows = [row for row, query in enumerate(queries) if query.exemplars]
        if rows:
            features = _rows([queries[row].image.features for row in rows])
            groups = [queries[row].exemplars for row in rows]
            encoded = exemplar_tokens(self._model.geometry_encoder, features, queries[0].image.positions, groups)
            for row, found in zip(rows, encoded, strict=True):
                tokens[row] = found
        return tokens

    def _scores(self, decoded: Any, hidden: Tensor, prompts: Prompts) -> Tensor:
        """(B, Q) float32: presence and class probabilities multiply (Sam3Processor._forward_grounding)."""
        logits = self._model.dot_product_scoring(
            decoder_hidden_states=hidden[None], text_features=prompts.tokens, text_mask=prompts.mask
        )
        presence = decoded.presence_logits[-1].float().sigmoid()
        return logits[0, ..., 0].float().sigmoid() * presence  # type: ignore[no-any-return]

    def _boxes(self, decoded: Any, hidden: Tensor) -> Tensor:
        """(B, Q, 4) float32 xyxy in [0, 1]; the last refinement is added in float32: bfloat16 has steps of 4 pixels."""
        reference = decoded.reference_boxes[-1].float()
        offsets = self._model.detr_decoder.box_head(hidden).float()
        return box_cxcywh_to_xyxy((inverse_sigmoid(reference) + offsets).sigmoid()).clamp(0, 1)  # type: ignore[no-any-return]

    def _masks(
        self, selection: Selection, images: Sequence[Sam3Image], prompts: Prompts, encoded: Tensor, hidden: Tensor
    ) -> list[NDArray[np.float32]]:
        """The mask head for the kept instances alone: one (n, h, w) float32 a query."""
        height, width = images[0].skips[-1].shape[-2:]
        masks = [np.zeros((0, height, width), np.float32)] * len(images)
        rows = selection.rows
        if not rows:
            return masks
        skips = [_rows([images[row].skips[i] for row in rows]) for i in range(len(images[0].skips))]
        found = self._mask_head.masks(selection.gather(hidden), skips, encoded[rows], prompts.of(rows))
        for row, logits in zip(rows, found, strict=True):
            masks[row] = finite(logits[: selection.counts[row]].float().cpu().numpy())
        return masks


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """One row per query; prompts on one image share its memory instead of copying it."""
    first = tensors[0]
    if all(tensor is first for tensor in tensors):
        return first.expand(len(tensors), *(-1 for _ in first.shape[1:]))
    return torch.cat(list(tensors))
