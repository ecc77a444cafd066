"""What a segmentation is, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.core.masks import Mask


@dataclass(frozen=True)
class Instance:
    """One found object: score in [0, 1], box xyxy in pixels of the upright image, and its mask."""

    score: float
    box_xyxy: tuple[float, float, float, float]
    mask: Mask


@dataclass(frozen=True)
class PromptResult:
    """The instances of one prompt, by falling score."""

    label: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class ImageInfo:
    """The image as a person sees it; `exif_orientation` (1..8) is the tag that was applied."""

    width: int
    height: int
    exif_orientation: int = 1


@dataclass(frozen=True)
class ModelInfo:
    """What answered: `id` and `revision` of the checkpoint, and where and in which precision it ran."""

    id: str
    revision: str
    device: str
    dtype: str


@dataclass(frozen=True)
class Segmentation:
    """Everything one request found, in the order of its prompts."""

    image: ImageInfo
    model: ModelInfo
    results: tuple[PromptResult, ...]
    timing_ms: dict[str, float] = field(default_factory=dict)
