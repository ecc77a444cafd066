"""The second engine: facebookresearch's own `sam3` package behind the Engine protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.core.results import ModelInfo
from service.engine.base import Exemplar, Grounding, Query
from service.engine.boxes import padded_boxes
from service.engine.faults import named_faults
from service.engine.finish import Finish, finish
from service.engine.official_weights import BadCheckpoint, read_detector
from service.engine.pixels import normalized, resize_to_square
from service.engine.selection import Selection, finite, select
from service.engine.upstream import build, on
from service.engine.vocabulary import find_merges, write_bpe
from service.engine.warming import is_quick, warm_up
from service.engine.weights import Checkpoint, refuse_wrong_keys
from service.errors import ModelUnavailable

SIDE = 1008  # model_builder.py: _create_vit_backbone
CHECKPOINT_FILE = "sam3.pt"


@dataclass(frozen=True)
class OfficialImage:
    """Features of one image, kept on the device: three levels (1, C, h, w), finest first; the last one's positions."""

    levels: tuple[Tensor, ...]
    positions: Tensor


@dataclass(frozen=True)
class OfficialText:
    """Features of one phrase as upstream has them: tokens (L, 1, C), and padding (1, L), true where it is."""

    tokens: Tensor
    padding: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors, which are no views of larger ones."""
        return self.tokens.nbytes + self.padding.nbytes


OfficialQuery = Query[OfficialImage, OfficialText]


class OfficialEngine:
    """Upstream's Sam3Image on one device; see Engine for the contract.

    Weights stay float32; a lower precision is autocast's, as upstream itself runs the model. `quick`: whether a whole
    request is, as in `warming`.
    """

    def __init__(self, model: Any, info: ModelInfo, finish: Finish = finish, *, quick: bool = True) -> None:
        self._model = model
        self._info = info
        self._finish = finish
        self._quick = quick
        self._device = torch.device(info.device)
        self._dtype: torch.dtype = getattr(torch, info.dtype)

    @property
    def info(self) -> ModelInfo:
        """Identity of the loaded checkpoint."""
        return self._info

    def check(self) -> None:
        """Run what has warmed it up: a whole request where that is quick, else its phrase."""
        warm_up(self, whole=self._quick)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an RGB image (H, W, 3) to the model's square (3, S, S), plainly, as Sam3Processor does it."""
        return resize_to_square(image, SIDE)

    @named_faults
    @torch.inference_mode()
    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[OfficialImage]:
        """Encode prepared images, each (3, S, S) uint8, in one forward."""
        with self._precision():
            found = self._model.backbone.forward_image(normalized(images, self._device))
        self._finish(self._device)
        levels, positions = found["backbone_fpn"], found["vision_pos_enc"][-1][:1]
        return [OfficialImage(tuple(level[i : i + 1] for level in levels), positions) for i in range(len(images))]

    @named_faults
    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> list[OfficialText]:
        """Encode phrases in one forward; what exceeds the model's context (32 tokens) is left out."""
        with self._precision():
            found = self._model.backbone.forward_text(list(texts), device=self._device)
        tokens, padding = found["language_features"], found["language_mask"]
        return [OfficialText(tokens[:, i : i + 1].clone(), padding[i : i + 1].clone()) for i in range(len(texts))]

    @named_faults
    @torch.inference_mode()
    def ground(self, queries: Sequence[OfficialQuery]) -> list[Grounding]:
        """Find the instances of each query in one forward; images and texts may repeat and mix freely.

        Score = presence × class probability, as in Sam3Processor._forward_grounding.
        """
        with self._precision(), on(self._device):
            found = self._model.forward_grounding(
                backbone_out=_features(queries),
                find_input=self._rows(queries),
                find_target=None,
                geometric_prompt=self._geometry([query.exemplars for query in queries]),
            )
        presence = found["presence_logit_dec"].float().sigmoid()  # (B, 1)
        scores = found["pred_logits"][..., 0].float().sigmoid() * presence
        selection = select(scores, [(query.threshold, query.limit) for query in queries])
        boxes = selection.of(found["pred_boxes_xyxy"].float().clamp(0, 1))
        masks = _masks(selection, found["pred_masks"])
        return [Grounding(*each) for each in zip(selection.scores, boxes, masks, strict=True)]

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)

    def _rows(self, queries: Sequence[OfficialQuery]) -> Any:
        """Which of the distinct images, and which text, each query is about."""
        places = {id(image): place for place, image in enumerate(_distinct_images(queries))}
        images = torch.tensor([places[id(query.image)] for query in queries], device=self._device)
        texts = torch.arange(len(queries), device=self._device)
        unused = dict.fromkeys(("boxes", "boxes_mask", "boxes_label", "points", "points_mask"))
        find_stage = import_module("sam3.model.data_misc").FindStage
        return find_stage(img_ids=images, text_ids=texts, **{f"input_{name}": value for name, value in unused.items()})

    def _geometry(self, exemplars: Sequence[Sequence[Exemplar]]) -> Any:
        """Upstream's Prompt of the boxes; a prompt with none gets its CLS token all the same."""
        boxes, labels, real = (torch.from_numpy(array).to(self._device) for array in padded_boxes(exemplars))
        prompt = import_module("sam3.model.geometry_encoders").Prompt
        return prompt(box_embeddings=boxes.float().transpose(0, 1), box_labels=labels.T, box_mask=~real)


def load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> OfficialEngine:
    """Load the folder's `sam3.pt`; ModelUnavailable when it is no checkpoint, or a weight is missing or left over."""
    try:
        weights = read_detector(checkpoint.folder / CHECKPOINT_FILE)
        merges = find_merges(checkpoint.folder)
    except BadCheckpoint as error:
        raise ModelUnavailable(f"SAM3_MODEL: {checkpoint.id}: {CHECKPOINT_FILE} {error}") from error
    with TemporaryDirectory() as folder:
        bpe_file = Path(folder) / "bpe.txt.gz"
        write_bpe(merges, bpe_file)
        model = build(bpe_file, checkpoint.folder / "config.json", device)
    _assign(checkpoint, model, weights)
    info = ModelInfo(checkpoint.id, checkpoint.revision, device.type, str(dtype).removeprefix("torch."))
    return OfficialEngine(model.float().to(device).eval(), info, quick=is_quick(checkpoint, device.type))


def _assign(checkpoint: Checkpoint, model: Any, weights: Mapping[str, Tensor]) -> None:
    """Put the weights into the model, all of them; what it computes itself (rotary codes) may be absent."""
    own = model.state_dict()
    needed = {name for name, _ in model.named_parameters()}
    refuse_wrong_keys(
        checkpoint,
        {
            "missing": needed - weights.keys(),
            "unexpected": weights.keys() - own.keys(),
            "mismatched": [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape],
        },
    )
    model.load_state_dict(weights, strict=False, assign=True)


def _distinct_images(queries: Sequence[OfficialQuery]) -> list[OfficialImage]:
    return list({id(query.image): query.image for query in queries}.values())


def _features(queries: Sequence[OfficialQuery]) -> dict[str, Any]:
    """What upstream's backbone would have put out for the distinct images and all the texts."""
    images = _distinct_images(queries)
    levels = zip(*(image.levels for image in images), strict=True)
    return {
        "backbone_fpn": [level[0] if len(level) == 1 else torch.cat(level) for level in levels],
        "vision_pos_enc": [images[0].positions.expand(len(images), -1, -1, -1)],
        "language_features": torch.cat([query.text.tokens for query in queries], dim=1),
        "language_mask": torch.cat([query.text.padding for query in queries]),
    }


def _masks(selection: Selection, logits: Tensor) -> list[NDArray[np.float32]]:
    """The kept ones' (n, h, w) of `logits` (B, Q, h, w), the only ones that leave the device."""
    kept = (torch.from_numpy(indices).to(logits.device) for indices in selection.kept)
    return [finite(logits[row, indices].float().cpu().numpy()) for row, indices in enumerate(kept)]
