"""The client: an image and prompts in, a Segmentation out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from urllib3 import encode_multipart_formdata

from sam3_client.images import image_field
from sam3_client.results import Segmentation
from sam3_client.transport import Backoff, Transport

Boxes = Sequence[Sequence[float] | NDArray[Any]] | NDArray[Any]
TIMEOUT_S = 330.0  # a little more than the service itself gives a request


class Options(TypedDict, total=False):
    """The options of `POST /segment`, which the service checks. None, as if it were left out, is the default."""

    threshold: float | None
    mask_threshold: float | None
    max_instances: int | None
    nms_iou: float | None
    return_masks: bool | None
    return_contours: bool | None
    simplify: float | None
    contour_holes: bool | None


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

        image: a path, the bytes of a file (or a bytearray or memoryview), a file open in binary mode, a `gs://` URI, an
        array (H, W) or (H, W, 3) of uint8 RGB, or a PIL image; the last two are taken as they are, whatever an EXIF tag
        says. PIL's modes of wide grey values (F, I, I;16) are sent as TIFF, which the service stretches from their 1st
        to their 99th percentile; what PIL has read from a PNG stays one. Raises TypeError for anything else, ValueError
        for a URL, and a Sam3Error: BadRequest, TooLarge, Unavailable and so on.
        """
        fields = [image_field(image), *(("prompts", _prompt_text(prompt)) for prompt in _listed(prompts))]
        # None is the default, as in a request of JSON; a form has no word for it.
        chosen = {"return_masks": True, **{name: value for name, value in options.items() if value is not None}}
        fields += [(name, _json(value)) for name, value in chosen.items()]
        body, content_type = encode_multipart_formdata(fields)
        answer = self._transport.post("/segment", body, lambda: {"Content-Type": content_type, **self._authorization()})
        return Segmentation.from_document(json.loads(answer))

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
