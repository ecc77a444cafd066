"""The Engine protocol: what a SAM 3 implementation offers, and nothing about HTTP or buckets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.core.results import ModelInfo


class Features(Protocol):
    """What an encoder returns: opaque to callers, but for what it occupies."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, on whichever device."""


ImageT = TypeVar("ImageT")
TextT = TypeVar("TextT", bound=Features)


@dataclass(frozen=True)
class Exemplar:
    """A box on the image that shows what is meant, or (not `positive`) what is not: xyxy in [0, 1] of the image."""

    box_xyxy: tuple[float, float, float, float]
    positive: bool = True


@dataclass(frozen=True)
class Phrase:
    """One prompt as the model reads it: its text, and boxes on the image that say more."""

    text: str
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True)
class Query(Generic[ImageT, TextT]):
    """One prompt on one image.

    `threshold`: a query's score must be greater. `limit`: only the best so many get masks at all.
    """

    image: ImageT
    text: TextT
    threshold: float
    limit: int
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True)
class Grounding:
    """The N instances of one query, best first, on the host.

    scores: (N,) float32 in [0, 1]. boxes: (N, 4) float32 xyxy in [0, 1] of the image.
    mask_logits: (N, h, w) float32 at the model's own resolution; a pixel belongs to the mask where the
    logit, resized to the image, is greater than the logit of the mask threshold.
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    mask_logits: NDArray[np.float32]


class Engine(Protocol[ImageT, TextT]):
    """A SAM 3 model. Not thread-safe: one thread owns it (see batcher.py); only `prepare` may run beside it.

    What `encode_image` and `encode_text` return means nothing to callers; it goes back into `ground`. A call raises
    OutOfMemory when it may succeed with fewer items, NotFinite when the model puts out NaN or infinity, and
    EngineBroken when no further call can succeed.
    """

    @property
    def info(self) -> ModelInfo:
        """Identity of the loaded checkpoint."""

    def check(self) -> None:
        """Run what has warmed it up (warming.py): it raises, NotFinite too, when nothing that is asked can succeed."""

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an RGB image (H, W, 3) to the model's square (3, S, S). Thread-safe; runs on the host."""

    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageT]:
        """Encode prepared images, each (3, S, S) uint8, in one forward, which is done when this returns."""

    def encode_text(self, texts: Sequence[str]) -> list[TextT]:
        """Encode phrases in one forward."""

    def ground(self, queries: Sequence[Query[ImageT, TextT]]) -> list[Grounding]:
        """Find the instances of each query in one forward; images and texts may repeat and mix freely."""
