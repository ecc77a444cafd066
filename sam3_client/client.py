"""The client: an image and prompts in, a Segmentation out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from urllib3 import encode_multipart_formdata

from sam3_client.results import Segmentation, segmentation
from sam3_client.transport import Backoff, Transport

Boxes = Sequence[Sequence[float] | NDArray[Any]] | NDArray[Any]
Field = tuple[str, Any]
TIMEOUT_S = 330.0  # a little more than the service itself gives a request


class Options(TypedDict, total=False):
    """The options of `POST /segment`, which the service checks."""

    threshold: float
    mask_threshold: float
    max_instances: int
    nms_iou: float
    return_masks: bool
    return_contours: bool
    simplify: float
    contour_holes: bool


@dataclass(frozen=True)
class Prompt:
    """A phrase, exemplar boxes (n, 4) xyxy in pixels, or both; `box_labels` 1, like this, or 0, not like this (all 1).

    The boxes of a result are taken as they are: `Prompt(boxes=result.boxes_xyxy[:2])`.
    """

    text: str | None = None
    boxes: Boxes = ()
    box_labels: Sequence[int] | NDArray[Any] | None = None


class Sam3Client:
    """A client of one service. Safe to use from several threads; close it, or use it in a `with`.

    `token`: an identity token or what returns one, such as `IdentityTokens(url)` for Cloud Run. `timeout_s`: how long
    one try waits for an answer, which is not tried again then; `backoff` bounds the tries and the whole call.
    HTTP_PROXY, HTTPS_PROXY and NO_PROXY are read once, here.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[], str] | None = None,
        timeout_s: float = TIMEOUT_S,
        backoff: Backoff | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._token = token
        self._transport = transport or Transport(url, timeout_s, backoff or Backoff())

    def __enter__(self) -> Sam3Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def ready(self) -> bool:
        """Whether the model answers: True for 200, False for 503.

        Raises the Sam3Error that any other answer is (Forbidden, NotFound and so on), and Unreachable without one.
        """
        return self._transport.available("/ready", self._authorization())

    def segment(
        self,
        image: Any,
        prompts: str | Prompt | Mapping[str, Any] | Sequence[str | Prompt | Mapping[str, Any]],
        **options: Unpack[Options],
    ) -> Segmentation:
        """Find every instance of each prompt, with masks unless `return_masks=False`.

        image: a path, the bytes of a file (or a bytearray or memoryview), a `gs://` URI, an array (H, W) or (H, W, 3)
        of uint8 RGB, or a PIL image; the last two are taken as they are, whatever an EXIF tag says. Raises a
        Sam3Error: BadRequest, TooLarge, Unavailable and so on.
        """
        fields = [_image_field(image), *(("prompts", _prompt_text(prompt)) for prompt in _listed(prompts))]
        chosen: dict[str, Any] = {"return_masks": True, **options}
        fields += [(name, json.dumps(value)) for name, value in chosen.items()]
        body, content_type = encode_multipart_formdata(fields)
        answer = self._transport.post("/segment", body, lambda: {"Content-Type": content_type, **self._authorization()})
        return segmentation(json.loads(answer))

    def _authorization(self) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        return {} if token is None else {"Authorization": f"Bearer {token}"}


def _listed(prompts: Any) -> list[Any]:
    return [prompts] if isinstance(prompts, str | Prompt | Mapping) else list(prompts)


def _prompt_text(prompt: str | Prompt | Mapping[str, Any]) -> str:
    """As the form has it: a phrase that would look like JSON there is sent as JSON."""
    if isinstance(prompt, str):
        return _json({"text": prompt}) if prompt.lstrip().startswith("{") else prompt
    if isinstance(prompt, Mapping):
        return _json(dict(prompt))
    boxes = prompt.boxes if len(prompt.boxes) else None
    given = {"text": prompt.text, "boxes": boxes, "box_labels": prompt.box_labels}
    return _json({name: value for name, value in given.items() if value is not None})


def _json(value: Any) -> str:
    """JSON, with numpy's arrays and numbers as what they hold."""
    return json.dumps(value, default=_held)


def _held(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def _image_field(image: Any) -> Field:
    if isinstance(image, str) and image.startswith("gs://"):
        return "image_uri", image
    return "image", ("image", _image_bytes(image), "application/octet-stream")


def _image_bytes(image: Any) -> bytes:
    if isinstance(image, str | Path):
        return Path(image).read_bytes()
    return bytes(image) if isinstance(image, bytes | bytearray | memoryview) else _png(image)


def _png(image: Any) -> bytes:
    """Encode an array or a PIL image without loss. TypeError for anything else, and for arrays that are no picture."""
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise ImportError("arrays need Pillow: pip install pillow") from error
    if isinstance(image, np.ndarray):
        image = Pillow.fromarray(_picture(image))
    if not isinstance(image, Pillow.Image):
        raise TypeError(f"image: {type(image).__name__} is not a path, bytes, gs:// URI, array or PIL image")
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=b"", compress_level=1)
    return buffer.getvalue()


def _picture(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise TypeError(f"image: an array {array.shape} of {array.dtype}; it must be (H, W) or (H, W, 3) of uint8")
    return array
