"""Decode → model → instances: the one call that both doors use."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from service.core.exemplars import on_image
from service.core.masks import crop_masks
from service.core.observe import SILENT, Observer, Stage, timed
from service.core.options import Options
from service.core.prompts import Prompt, PromptSet
from service.core.results import ImageInfo, Instance, ModelInfo, PromptResult, Segmentation
from service.engine.base import Exemplar, Grounding, Phrase
from service.engine.batcher import ModelThread
from service.engine.images import ImageLimits, decode
from service.engine.queue_slot import PERSON, QueueSlot, Terms
from service.engine.state import State
from service.engine.suppression import only, survivors
from service.engine.work import Answer, Task, excess, late
from service.errors import TooLong

# An estimate is no measurement: only what is beyond it by this factor is refused unseen.
_HOPELESS = 1.5


class Segmenter:
    """Finds every instance of each phrase in an encoded image; blocks the calling thread, never the model's."""

    def __init__(self, model: ModelThread, limits: ImageLimits, observer: Observer = SILENT) -> None:
        self._model = model
        self._limits = limits
        self._observer = observer

    @property
    def state(self) -> State:
        """The model's phase now."""
        return self._model.state

    @property
    def running_s(self) -> float:
        """For how long the model's forward has been running that runs now; 0 when there is none."""
        return self._model.running_s

    @property
    def info(self) -> ModelInfo:
        """Identity of the loaded checkpoint; NotReady before there is one."""
        return self._model.info

    def require_ready(self) -> None:
        """Raise NotReady before there is a model, for whoever would read something first."""
        _ = self.info

    def segment(self, data: bytes, prompt_set: PromptSet, terms: Terms = PERSON) -> Segmentation:
        """Segment the image file `data`; raises the ServiceError that names what is wrong with it or with us.

        A slot in the queue comes first, so that no more images are decoded at a time than the queue holds, and is kept
        until the masks are made, so that those that wait for that are no more than the host has memory for. TooLong
        when all of it would not be done within `terms.alone_s`, however short the queue. TooManyInstances before any
        mask of the image's size is made, and without `nms_iou` as soon as enough prompts are grounded to know it. The
        image is decoded and the masks are made within `terms.timeout_s` too, which is looked at after the image and
        between two prompts.
        """
        self._refuse_the_hopeless(len(prompt_set.prompts), terms.alone_s)
        timing: dict[str, float] = {}
        options = prompt_set.options
        with self._model.slot(terms) as slot:
            with timed(self._observer, "decode", timing):
                pixels, info = self._prepared(slot, data, len(prompt_set.prompts), terms)
            phrases = _phrases(prompt_set.prompts, (info.height, info.width))
            handed_over = time.monotonic()
            # Which of the instances nms_iou will drop is known only when all are found.
            at_once = terms.max_total if options.nms_iou is None else None
            answer = slot.run(Task(pixels, phrases, options.threshold, options.max_instances, at_once))
            timing |= self._told(answer, handed_over)
            with timed(self._observer, "postprocess", timing):
                stay = survivors(answer.groundings, options.nms_iou)
                if too_many := excess(map(len, stay), terms.max_total):
                    raise too_many
                pairs = zip(phrases, _in_time(answer, stay, terms, slot.deadline), strict=True)
                results = tuple(PromptResult(phrase.text, _instances(found, info, options)) for phrase, found in pairs)
        self._observer.found(sum(len(result.instances) for result in results))
        return Segmentation(info, self._model.info, results, timing)

    def _told(self, answer: Answer, began: float) -> dict[str, float]:
        """The stages of an answer, told as if they lay end to end: its forwards alternate with those of others."""
        stages: dict[Stage, float] = {
            "queue": answer.queue_ms,
            "encode_image": answer.encode_image_ms,
            "ground": answer.ground_ms,
        }
        for name, ms in stages.items():
            self._observer.stage(name, began, ms / 1000)
            began += ms / 1000
        return {str(name): ms for name, ms in stages.items()}

    def _refuse_the_hopeless(self, prompts: int, alone_s: float) -> None:
        estimate_s = self._model.estimate_s(prompts)
        if estimate_s is not None and estimate_s > _HOPELESS * alone_s:
            raise TooLong(prompts, estimate_s, alone_s)

    def _prepared(
        self, slot: QueueSlot, data: bytes, prompts: int, terms: Terms
    ) -> tuple[NDArray[np.uint8], ImageInfo]:
        """The model's square of the image, which itself is not kept; raises as the model does when it took too long."""
        began_s = time.thread_time()
        image = decode(data, self._limits)
        if time.monotonic() >= slot.deadline:
            raise late(prompts, time.thread_time() - began_s, terms.alone_s, f"within {terms.timeout_s:g} s")
        height, width = image.rgb.shape[:2]
        return slot.prepare(image.rgb), ImageInfo(width, height, image.exif_orientation)


def _in_time(answer: Answer, stay: Sequence[NDArray[np.intp]], terms: Terms, deadline: float) -> Iterator[Grounding]:
    """What stays of each prompt in its turn, while the caller has time; after that raises as the model does.

    What all would take alone is told by the masks made so far, in the thread's own time: others use the CPU as well.
    """
    began_s, made, wanted = time.thread_time(), 0, sum(map(len, stay))
    for found, indices in zip(answer.groundings, stay, strict=True):
        if time.monotonic() >= deadline:
            masks_s = (time.thread_time() - began_s) * wanted / made if made else 0.0
            raise late(len(stay), answer.needed_s + masks_s, terms.alone_s, f"within {terms.timeout_s:g} s")
        yield only(found, indices)
        made += len(indices)


def _phrases(prompts: Sequence[Prompt], size_hw: tuple[int, int]) -> tuple[Phrase, ...]:
    """The prompts with their boxes in [0, 1] of the image; BadField names a box that lies outside it."""
    return tuple(Phrase(prompt.text, _exemplars(f"prompts[{i}]", prompt, size_hw)) for i, prompt in enumerate(prompts))


def _exemplars(field: str, prompt: Prompt, size_hw: tuple[int, int]) -> tuple[Exemplar, ...]:
    pairs = zip(on_image(field, prompt.boxes, size_hw), prompt.boxes, strict=True)
    return tuple(Exemplar(unit_xyxy, positive=bool(box.label)) for unit_xyxy, box in pairs)


def _instances(found: Grounding, image: ImageInfo, options: Options) -> tuple[Instance, ...]:
    boxes = (found.boxes * (image.width, image.height, image.width, image.height)).tolist()
    masks = crop_masks(found.mask_logits, (image.height, image.width), options.mask_threshold)
    rows = zip(found.scores.tolist(), boxes, masks, strict=True)
    return tuple(Instance(score, (x0, y0, x1, y1), mask) for score, (x0, y0, x1, y1), mask in rows)
