"""The baseline: what a SAM 3 service does that fits into one file, as this project's predecessor did.

One prompt after another, each a forward of `Sam3Model` with its text encoded anew; every kept mask resized to the
whole frame in float32, sigmoid, > 0.5 (Sam3Processor._forward_grounding); pycocotools on the stack of full frames;
OpenCV on each full frame; `json.dumps`. The image is encoded once. An empty exemplar box makes `Sam3Model` use the
geometry encoder's CLS token as upstream's own code always does, so that both sides find the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer
from transformers.models.sam3.modeling_sam3 import Sam3Model

from service.engine.roi import install_roi_align

_PADDING_BOX = -10  # the label with which transformers' processor pads boxes


class OneFileService:
    """Serial prompts on one model. Adds up the seconds in the model, and those of them in the text encoder."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        install_roi_align()
        self._model = model
        self._tokenizer = tokenizer
        self.text_s = 0.0
        self.model_s = 0.0

    @classmethod
    def load(cls, folder: Path, device: str, dtype: torch.dtype) -> OneFileService:
        """From a checkpoint folder, as transformers loads it."""
        model = Sam3Model.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device).eval()
        return cls(model, CLIPTokenizer.from_pretrained(folder, local_files_only=True))

    @torch.inference_mode()
    def segment(self, rgb: NDArray[np.uint8], prompts: Sequence[str], threshold: float) -> bytes:
        """The JSON answer for an RGB image (H, W, 3), with masks and contours."""
        start = time.perf_counter()
        vision = self._model.get_vision_features(self._pixels(rgb))
        self.model_s += self._since(start)
        size_hw = (rgb.shape[0], rgb.shape[1])
        results = [self._prompt(vision, prompt, size_hw, threshold) for prompt in prompts]
        return json.dumps({"results": results}).encode()

    def _pixels(self, rgb: NDArray[np.uint8]) -> Tensor:
        side = self._model.config.vision_config.backbone_config.image_size
        square = F.interpolate(
            torch.from_numpy(rgb).permute(2, 0, 1)[None], (side, side), mode="bilinear", antialias=True
        )
        return (square.to(self._model.device).float() / 127.5 - 1).to(self._model.dtype)

    def _prompt(self, vision: Any, prompt: str, size_hw: tuple[int, int], threshold: float) -> dict[str, Any]:
        scores, boxes, logits = self._found(vision, prompt, threshold)
        masks = full_frames(logits, size_hw)
        height, width = size_hw
        return {
            "label": prompt,
            "boxes": (boxes * torch.tensor([width, height, width, height], device=boxes.device)).tolist(),
            "scores": scores.tolist(),
            "mask_shape": list(masks.shape),
            "masks_rle": rles(masks),
            "contours": contours(masks),
        }

    def _found(self, vision: Any, prompt: str, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (n,), boxes (n, 4) in [0, 1] and mask logits (n, h, w), best first."""
        start = time.perf_counter()
        mask, text = self._text(prompt)
        device, dtype = self._model.device, self._model.dtype
        output = self._model(
            vision_embeds=vision,
            text_embeds=text,
            attention_mask=mask,
            input_boxes=torch.zeros(1, 1, 4, dtype=dtype, device=device),
            input_boxes_labels=torch.full((1, 1), _PADDING_BOX, device=device),
        )
        scores = output.pred_logits[0].float().sigmoid() * output.presence_logits[0].float().sigmoid()
        order = scores.argsort(descending=True)
        kept = order[scores[order] > threshold]
        found = scores[kept], output.pred_boxes[0, kept].float(), output.pred_masks[0, kept].float()
        self.model_s += self._since(start)
        return found

    def _text(self, prompt: str) -> tuple[Tensor, Any]:
        start = time.perf_counter()
        context = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            [prompt], padding="max_length", max_length=context, truncation=True, return_tensors="pt"
        ).to(self._model.device)
        mask = tokens["attention_mask"]
        text = self._model.get_text_features(tokens["input_ids"], attention_mask=mask)
        self.text_s += self._since(start)
        return mask, text

    def _since(self, start: float) -> float:
        if self._model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def full_frames(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(n, h, w) logits → (n, 1, H, W) booleans by way of the full frames' probabilities."""
    if not len(logits):
        return torch.zeros(0, 1, *size_hw, dtype=torch.bool)
    probabilities = F.interpolate(logits[:, None], size_hw, mode="bilinear", align_corners=False).sigmoid()
    return probabilities > 0.5


def rles(masks: Tensor) -> list[dict[str, Any]]:
    """COCO RLE of (n, 1, H, W), in one call on the (H, W, n) stack in Fortran order."""
    stack = masks[:, 0].cpu().numpy().astype(np.uint8).transpose(1, 2, 0)
    encoded = pycocotools.mask.encode(np.asfortranarray(stack)) if stack.shape[2] else []
    return [{"size": list(each["size"]), "counts": each["counts"].decode("ascii")} for each in encoded]


def contours(masks: Tensor) -> list[list[list[list[int]]]]:
    """Outer rings of each of (n, 1, H, W), as lists of [x, y]."""
    frames = masks[:, 0].cpu().numpy().astype(np.uint8)
    return [_rings(frame) for frame in frames]


def _rings(frame: NDArray[np.uint8]) -> list[list[list[int]]]:
    found, _ = cv2.findContours(frame * 255, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [[[int(x), int(y)] for x, y in ring.reshape(-1, 2).tolist()] for ring in found]
