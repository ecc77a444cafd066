"""An answer as values: numpy arrays, and what other tools of the field take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam3_client import rle

Floats = NDArray[np.float64]
Ring = list[list[int]]


@dataclass(frozen=True)
class Image:
    """The image as a person sees it: coordinates are its pixels; `exif_orientation` is the tag that was applied."""

    width: int
    height: int
    exif_orientation: int


@dataclass(frozen=True)
class Model:
    """What answered."""

    id: str
    revision: str
    device: str
    dtype: str


@dataclass(frozen=True, eq=False)
class PromptResult:
    """The n instances of one prompt, by falling score. `boxes_xyxy` (n, 4) in pixels, `scores` (n,).

    `contours` has the outer rings of each instance, `holes` all rings within those: of holes, and of islands in them.
    `masks_rle`, `contours` and `holes` are None where they were not asked for.
    """

    label: str
    boxes_xyxy: Floats
    scores: Floats
    size_hw: tuple[int, int]
    masks_rle: tuple[dict[str, Any], ...] | None
    contours: tuple[list[Ring], ...] | None
    holes: tuple[list[Ring], ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def masks(self) -> NDArray[np.bool_]:
        """All masks (n, H, W), decoded anew at each call. ValueError when they were not asked for."""
        frames = np.zeros((len(self), *self.size_hw), np.bool_)
        for i, one in enumerate(self._rles()):
            frames[i] = rle.decode(one)
        return frames

    def _rles(self) -> tuple[dict[str, Any], ...]:
        if self.masks_rle is None:
            raise ValueError("there are no masks: ask with return_masks=True")
        return self.masks_rle


@dataclass(frozen=True, eq=False)
class Segmentation:
    """All that was found, in the order of the prompts."""

    image: Image
    model: Model
    results: tuple[PromptResult, ...]
    timing_ms: Mapping[str, float]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Segmentation:
        """Read a result document of the event door, or an answer of `/segment`; keys that are not known are left out.

        Raises ValueError, with its code and detail, for an error document.
        """
        if "error" in document:
            raise ValueError(f"an error document: {document['error']['code']}: {document['error']['detail']}")
        image, model = document["image"], document["model"]
        return cls(
            Image(image["width"], image["height"], image.get("exif_orientation", 1)),
            Model(model["id"], model["revision"], model["device"], model["dtype"]),
            tuple(_prompt_result(result) for result in document["results"]),
            dict(document["timing_ms"]),
        )

    def to_coco(self, image_id: int = 1, file_name: str = "", first_id: int = 1) -> dict[str, Any]:
        """A COCO data set of this one image: `images`, `categories` (1 for the first prompt …) and `annotations`.

        The annotations have a `score` too, so that they serve as COCO results (`COCO.loadRes`). Needs masks.
        """
        pairs = [(category, result, i) for category, result in enumerate(self.results, 1) for i in range(len(result))]
        annotations = [
            {"id": number, "image_id": image_id, "category_id": category, **_annotation(result, i)}
            for number, (category, result, i) in enumerate(pairs, first_id)
        ]
        size = {"width": self.image.width, "height": self.image.height}
        return {
            "images": [{"id": image_id, "file_name": file_name, **size}],
            "categories": [{"id": number, "name": result.label} for number, result in enumerate(self.results, 1)],
            "annotations": annotations,
        }

    def to_supervision(self) -> Any:
        """`supervision.Detections` of all instances, `class_id` the place of the prompt, masks where there are any.

        Raises ImportError without supervision.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError("to_supervision() needs supervision: pip install supervision") from error
        sizes = [len(result) for result in self.results]
        masked = all(result.masks_rle is not None for result in self.results)
        return supervision.Detections(
            xyxy=np.concatenate([result.boxes_xyxy for result in self.results]).astype(np.float32),
            mask=np.concatenate([result.masks() for result in self.results]) if masked else None,
            confidence=np.concatenate([result.scores for result in self.results]).astype(np.float32),
            class_id=np.repeat(np.arange(len(sizes)), sizes),
            data={"class_name": np.repeat([result.label for result in self.results], sizes)},
        )


def _prompt_result(result: Mapping[str, Any]) -> PromptResult:
    height, width = result["mask_shape"][2:]
    masks_rle, contours, holes = (result.get(name) for name in ("masks_rle", "contours", "holes"))
    return PromptResult(
        result["label"],
        _fixed(np.array(result["boxes"], np.float64).reshape(-1, 4)),
        _fixed(np.array(result["scores"], np.float64)),
        (height, width),
        None if masks_rle is None else tuple(masks_rle),
        None if contours is None else tuple(contours),
        None if holes is None else tuple(holes),
    )


def _fixed(array: Floats) -> Floats:
    array.setflags(write=False)
    return array


def _annotation(result: PromptResult, i: int) -> dict[str, Any]:
    x0, y0, x1, y1 = result.boxes_xyxy[i].tolist()
    mask = result._rles()[i]
    return {
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "score": float(result.scores[i]),
        "segmentation": mask,
        "area": sum(rle.counts(mask["counts"])[1::2]),
        "iscrowd": 0,
    }
