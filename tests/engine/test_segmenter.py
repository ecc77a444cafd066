from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image

from service.core.exemplars import VISUAL_TEXT, ExemplarBox
from service.core.masks import paste
from service.core.options import Options
from service.core.prompts import Prompt, PromptSet
from service.core.results import Instance, Segmentation
from service.engine.base import Grounding, Query
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.images import ImageLimits
from service.engine.loading import EngineConfig, load_engine
from service.engine.queue_slot import Terms
from service.engine.segmenter import Segmenter
from service.engine.weights import EMBEDDED
from service.errors import BadField, DeadlineExceeded, NotAnImage, TooLong
from tests.scripted import ScriptedEngine

PHOTOS = Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="module")
def segmenter() -> Iterator[Segmenter]:
    model = ModelThread(partial(load_engine, EngineConfig()), BatchPolicy(queue_size=32, image_batch=3))
    model.start().result(120)
    yield Segmenter(model, ImageLimits())
    model.close()


def request(*texts: str, options: Options | None = None) -> PromptSet:
    return PromptSet(tuple(Prompt(text) for text in texts), options or Options())


def assert_same(one: Segmentation, other: Segmentation) -> None:
    """The same instances: what shares a forward with others may differ in the last bits, and so in single pixels."""
    assert [(r.label, len(r.instances)) for r in one.results] == [(r.label, len(r.instances)) for r in other.results]
    for ours, theirs in zip(instances(one), instances(other), strict=True):
        assert abs(ours.score - theirs.score) < 1e-5
        np.testing.assert_allclose(ours.box_xyxy, theirs.box_xyxy, atol=1e-5 * max(one.image.width, one.image.height))
        union = (paste(ours.mask) | paste(theirs.mask)).sum()
        assert (paste(ours.mask) ^ paste(theirs.mask)).sum() <= 1 + union / 1000


def instances(segmentation: Segmentation) -> list[Instance]:
    return [instance for result in segmentation.results for instance in result.instances]


def test_a_real_photograph_goes_through(segmenter: Segmenter) -> None:
    data = (PHOTOS / "chelsea.png").read_bytes()
    answer = segmenter.segment(data, request("cat", "dog", "dog", options=Options(threshold=0.0, max_instances=3)))
    assert (answer.image.width, answer.image.height) == (451, 300)
    assert [result.label for result in answer.results] == ["cat", "dog", "dog"]
    assert list(answer.timing_ms) == ["decode", "queue", "encode_image", "ground", "postprocess"]
    for result in answer.results:
        scores = [instance.score for instance in result.instances]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 3
        for instance in result.instances:
            x0, y0, x1, y1 = instance.box_xyxy
            assert 0 <= x0 <= x1 <= 451
            assert 0 <= y0 <= y1 <= 300
            assert paste(instance.mask).shape == (300, 451)


def test_many_threads_get_what_one_gets(segmenter: Segmenter) -> None:
    photos = [(PHOTOS / name).read_bytes() for name in ("chelsea.png", "coffee.png", "rocket.jpg", "coins.png")]
    asked = request("cat", "circle", "cup", "rocket", "fruit", options=Options(threshold=0.01))
    alone = [segmenter.segment(photo, asked) for photo in photos]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda photo: segmenter.segment(photo, asked), photos * 4))
    for ours, theirs in zip(together, alone * 4, strict=True):
        assert_same(ours, theirs)


def test_a_higher_mask_threshold_gives_smaller_masks(segmenter: Segmenter) -> None:
    data = (PHOTOS / "coins.png").read_bytes()

    def area(mask_threshold: float) -> int:
        options = Options(threshold=0.0, mask_threshold=mask_threshold, max_instances=5)
        [result] = segmenter.segment(data, request("circle", options=options)).results
        return sum(int(instance.mask.pixels.sum()) for instance in result.instances)

    assert area(0.1) > area(0.5) > area(0.9)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_tiny_and_thin_images_are_answered(segmenter: Segmenter, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), 128, np.uint8)).save(file, "PNG")
    answer = segmenter.segment(file.getvalue(), request("cat", options=Options(threshold=0.0, max_instances=2)))
    assert (answer.image.height, answer.image.width) == size
    assert len(answer.results[0].instances) == 2


def test_what_is_no_image_costs_the_model_nothing(segmenter: Segmenter) -> None:
    with pytest.raises(NotAnImage):
        segmenter.segment(b"no image", request("cat"))


DEMO = EMBEDDED.parent / "demo" / "scene.png"
STRAWBERRIES = ((472.0, 275.0, 699.0, 521.0), (737.0, 167.0, 929.0, 441.0))
"""All there are in the demo scene, beside three frogs and a sunflower."""


def by_example(*boxes: ExemplarBox) -> PromptSet:
    return PromptSet((Prompt(VISUAL_TEXT, boxes),))


@pytest.mark.parametrize("shown", STRAWBERRIES)
def test_an_exemplar_alone_finds_all_that_is_alike(
    segmenter: Segmenter, shown: tuple[float, float, float, float]
) -> None:
    [result] = segmenter.segment(DEMO.read_bytes(), by_example(ExemplarBox(shown))).results
    assert result.label == "visual"
    boxes = sorted(instance.box_xyxy for instance in result.instances)
    np.testing.assert_allclose(boxes, STRAWBERRIES, atol=40)


def test_what_of_a_box_lies_outside_the_image_does_not_matter(segmenter: Segmenter) -> None:
    data = DEMO.read_bytes()
    inside, beyond = ExemplarBox((700, 100, 960, 640)), ExemplarBox((700, 100, 5000, 9000))
    options = Options(threshold=0.1)
    one, other = (segmenter.segment(data, PromptSet(by_example(box).prompts, options)) for box in (inside, beyond))
    assert_same(one, other)
    assert one.results[0].instances


def test_a_box_outside_the_image_is_the_callers_error(segmenter: Segmenter) -> None:
    asked = PromptSet((Prompt("cat"), Prompt("fruit", (ExemplarBox((0, 0, 9, 9)), ExemplarBox((960, 0, 970, 9))))))
    with pytest.raises(BadField) as caught:
        segmenter.segment(DEMO.read_bytes(), asked)
    assert caught.value.field == "prompts[1].boxes[1]"
    assert "960 pixels wide and 640 high" in caught.value.detail


def test_what_could_never_be_done_in_time_is_refused_before_it_is_decoded() -> None:
    """Only where this process has measured it, and only far beyond the limit."""
    model = ModelThread(partial(load_engine, EngineConfig()))
    model.start().result(120)
    segmenter = Segmenter(model, ImageLimits())
    hopeless = Terms(urgent=False, alone_s=1e-9)
    with pytest.raises(NotAnImage):
        segmenter.segment(b"no image", request("cat"), hopeless)
    segmenter.segment((PHOTOS / "chelsea.png").read_bytes(), request("cat"))
    with pytest.raises(TooLong, match="prompts: 2 on this image take at least"):
        segmenter.segment(b"no image", request("cat", "dog"), hopeless)
    needed_s = model.estimate_s(2)
    assert needed_s is not None
    with pytest.raises(NotAnImage):
        segmenter.segment(b"no image", request("cat", "dog"), Terms(urgent=False, alone_s=needed_s / 1.4))
    model.close()


class Unasked(ScriptedEngine):
    """Must not be given an image."""

    def prepare(self, image: Any) -> Any:
        raise AssertionError("prepared for nothing")


@pytest.mark.parametrize(
    ("alone_s", "error", "said"),
    [
        (float("inf"), DeadlineExceeded, "not done within 1e-09 s"),
        (1e-9, TooLong, "prompts: 1 on this image take at least"),
    ],
)
def test_an_image_is_decoded_within_the_callers_time_too(alone_s: float, error: type[Exception], said: str) -> None:
    model = ModelThread(lambda report: Unasked())
    model.start().result(10)
    data = (PHOTOS / "chelsea.png").read_bytes()
    with pytest.raises(error, match=said):
        Segmenter(model, ImageLimits()).segment(data, request("cat"), Terms(timeout_s=1e-9, alone_s=alone_s))
    model.close()


class ManyMasks(ScriptedEngine):
    """Finds fifty instances as large as the image for every prompt, in no time."""

    def ground(self, queries: Sequence[Query[str, Any]]) -> list[Grounding]:
        noise = np.random.default_rng(1).normal(size=(50, 72, 72)).astype(np.float32)
        return [Grounding(np.ones(50, np.float32), np.ones((50, 4), np.float32), noise) for _ in queries]


@pytest.fixture
def many_masks() -> Iterator[Segmenter]:
    model = ModelThread(lambda report: ManyMasks())
    model.start().result(10)
    yield Segmenter(model, ImageLimits())
    model.close()


@pytest.mark.parametrize(
    ("alone_s", "error", "said"),
    [
        (float("inf"), DeadlineExceeded, "not done within 0.3 s"),
        (0.4, TooLong, "prompts: 20 on this image take at least"),
    ],
)
def test_masks_are_made_within_the_callers_time_too(
    many_masks: Segmenter, alone_s: float, error: type[Exception], said: str
) -> None:
    """What would not end in time even alone is not tried again."""
    data = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(data, "PNG")
    asked = request(*map(str, range(20)))
    with pytest.raises(error, match=said):
        many_masks.segment(data.getvalue(), asked, Terms(timeout_s=0.3, alone_s=alone_s))
    few = many_masks.segment(data.getvalue(), request("one"), Terms(timeout_s=30))
    assert len(few.results[0].instances) == 50
