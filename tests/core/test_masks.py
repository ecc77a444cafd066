from __future__ import annotations

import math
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pycocotools.mask
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.core.masks import Mask, crop_masks, paste, rings, rle

# Without fused multiply-add torch itself rounds otherwise; every machine that Cloud Run offers has it.
FUSED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
needs_fused = pytest.mark.skipif(not FUSED, reason="torch runs without fused multiply-add on this CPU")

# pycocotools' own `decode` is not yet at home in NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Logits = NDArray[np.float32]
Frame = NDArray[np.bool_]


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def full_frames(logits: Logits, size_hw: tuple[int, int], mask_threshold: float) -> Frame:
    resized = F.interpolate(torch.from_numpy(logits)[:, None], size=size_hw, mode="bilinear", align_corners=False)
    frames: Frame = (resized[:, 0] > logit(mask_threshold)).numpy()
    return frames


def make_logits(kind: str, hw: tuple[int, int], level: float, seed: int) -> Logits:
    """Two (h, w) maps. Most kinds are made to lie close to the level, where rounding decides."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(2, *hw))
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    center = random.uniform(0, hw[0]), random.uniform(0, hw[1])
    maps = {
        "object": 8 - np.hypot(rows - center[0], columns - center[1]) * random.uniform(0.5, 8) + noise / 4,
        "noise": 5 * noise,
        "zeros": np.where(random.random((2, *hw)) < 0.5, 0, noise),
        "whole": np.round(noise * 2),
        "at the level": random.choice([level, -level, 2 * level, 0.0], size=(2, *hw)),
        "near the level": level + noise * 1e-3,
        "two values": np.where(noise < 0, -1, 1) * random.choice([0.1, 1, 3]),
        "all negative": -np.abs(noise) + min(level, 0) - 1e-6,
        "all positive": np.abs(noise) + max(level, 0) + 1e-6,
        "border": np.where((rows == 0) | (columns == hw[1] - 1), 5.0, -5.0) + noise,
        "tiny": noise * 1e-44,
    }
    return np.broadcast_to(maps[kind], (2, *hw)).astype(np.float32)


KINDS = st.sampled_from(
    [
        "object",
        "noise",
        "zeros",
        "whole",
        "at the level",
        "near the level",
        "two values",
        "all negative",
        "all positive",
        "border",
        "tiny",
    ]
)
MAP_HW = st.tuples(st.integers(1, 40), st.integers(1, 40))
# torch evaluates frames of H + W <= 128 in another order: both sides of that line.
SIZE_HW = st.tuples(st.integers(1, 60), st.integers(1, 60)) | st.tuples(st.integers(1, 260), st.integers(1, 260))
THRESHOLDS = st.sampled_from([0.5, 0.5, 0.1, 0.9]) | st.floats(0.001, 0.999)
SEEDS = st.integers(0, 2**32 - 1)


@needs_fused
@settings(max_examples=400, deadline=None)
@given(KINDS, MAP_HW, SIZE_HW, THRESHOLDS, SEEDS)
@example("noise", (1, 1), (7, 5), 0.5, 0)
@example("two values", (40, 40), (60, 68), 0.5, 0)
@example("two values", (40, 40), (60, 69), 0.5, 0)
@example("tiny", (10, 7), (37, 32), 0.5, 5)
@example("near the level", (40, 40), (9, 13), 0.9, 2)
@example("at the level", (20, 20), (200, 100), 0.1, 3)
@example("whole", (20, 20), (20, 200), 0.5, 4)
def test_crops_equal_the_full_frames_of_torch_bit_for_bit(
    kind: str, map_hw: tuple[int, int], size_hw: tuple[int, int], mask_threshold: float, seed: int
) -> None:
    logits = make_logits(kind, map_hw, logit(mask_threshold), seed)
    masks = crop_masks(logits, size_hw, mask_threshold)
    np.testing.assert_array_equal(
        np.stack([paste(mask) for mask in masks]), full_frames(logits, size_hw, mask_threshold)
    )


@needs_fused
@pytest.mark.parametrize("mask_threshold", [0.5, 0.1, 0.9])
@pytest.mark.parametrize("size_hw", [(480, 640), (1500, 1000), (288, 288), (100, 150)])
def test_maps_of_the_models_own_size_are_bit_identical(size_hw: tuple[int, int], mask_threshold: float) -> None:
    for kind in ("object", "near the level"):
        logits = make_logits(kind, (288, 288), logit(mask_threshold), seed=7)
        masks = crop_masks(logits, size_hw, mask_threshold)
        expected = full_frames(logits, size_hw, mask_threshold)
        assert all((paste(mask) == frame).all() for mask, frame in zip(masks, expected, strict=True))


@needs_fused
def test_rounding_may_lift_a_pixel_over_a_level_that_no_cell_exceeds() -> None:
    logits = np.full((1, 5, 7), logit(0.9), np.float32)
    assert not (logits > np.float32(logit(0.9))).any()
    sizes = [(height, 3 * height) for height in range(6, 60, 3)]
    expected = [full_frames(logits, size_hw, 0.9)[0] for size_hw in sizes]
    assert any(frame.any() for frame in expected)
    for size_hw, frame in zip(sizes, expected, strict=True):
        np.testing.assert_array_equal(paste(crop_masks(logits, size_hw, 0.9)[0]), frame)


@needs_fused
@pytest.mark.parametrize("size_hw", [(50, 60), (90, 110)])
def test_a_mask_does_not_depend_on_how_many_others_there_are(size_hw: tuple[int, int]) -> None:
    logits = np.concatenate([make_logits("near the level", (30, 40), logit(0.9), seed) for seed in range(10)])
    for count in (1, 3, 8, 20):  # as channels, torch would round 3, 8 and 20 otherwise
        masks = crop_masks(logits[:count], size_hw, 0.9)
        np.testing.assert_array_equal(
            np.stack([paste(mask) for mask in masks]), full_frames(logits[:count], size_hw, 0.9)
        )


def test_a_map_of_the_frames_size_is_only_thresholded() -> None:
    logits = make_logits("zeros", (9, 11), 0.0, seed=3)
    for mask, one in zip(crop_masks(logits, (9, 11)), logits, strict=True):
        np.testing.assert_array_equal(paste(mask), one > 0)


def test_pixels_nearer_to_a_positive_cell_than_to_its_neighbours_are_set() -> None:
    logits = np.full((1, 2, 3), -1, np.float32)
    logits[0, 0, 2] = 3
    (mask,) = crop_masks(logits, (4, 6))
    expected = ["000011", "000011", "000000", "000000"]
    assert ["".join(str(int(pixel)) for pixel in row) for row in paste(mask)] == expected


def test_a_crop_is_no_larger_than_the_object_and_one_cell() -> None:
    logits = np.full((1, 100, 100), -5, np.float32)
    logits[0, 40:50, 20:30] = 5
    (mask,) = crop_masks(logits, (1000, 1000))
    assert (mask.top, mask.left) >= (390, 190)
    assert max(mask.pixels.shape) <= 120
    assert mask.pixels.dtype == np.uint8


def test_no_instances_no_masks() -> None:
    assert crop_masks(np.zeros((0, 288, 288), np.float32), (100, 200)) == []


@pytest.mark.parametrize("value", [-3.0, 0.0])
def test_a_mask_without_pixels_is_empty(value: float) -> None:
    (mask,) = crop_masks(np.full((1, 8, 8), value, np.float32), (60, 80))
    assert mask.pixels.shape == (0, 0)
    assert not paste(mask).any()
    assert rings(mask) == []
    assert pycocotools.mask.decode(rle(mask)).sum() == 0


def test_an_object_that_falls_between_the_pixels_of_a_small_frame_is_empty() -> None:
    logits = np.full((1, 100, 100), -5, np.float32)
    logits[0, 3, 3] = 5
    (mask,) = crop_masks(logits, (5, 5))
    assert mask.pixels.shape == (0, 0)


@pytest.mark.parametrize(("side", "most_bytes"), [(20, 20e6), (280, 150e6)], ids=["small objects", "whole frames"])
def test_memory_is_that_of_one_object_however_many_there_are(side: int, most_bytes: float) -> None:
    logits = np.full((50, 288, 288), -5, np.float32)
    logits[:, 4 : 4 + side, 4 : 4 + side] = 5
    tracemalloc.start()
    masks = crop_masks(logits, (3000, 4000))
    kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < most_bytes  # fifty frames of bytes would be 600e6
    assert kept_bytes < 50 * 40_000
    assert all(mask.counts.size > 1 for mask in masks)


@st.composite
def crops(draw: st.DrawFn) -> Mask:
    """Any mask: noise, solid, empty; anywhere in its frame, also over the whole of it."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    shape = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    random = np.random.default_rng(draw(SEEDS))
    pixels = (random.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))).astype(np.uint8)
    return Mask.of(pixels, top, left, (height, width))


@settings(max_examples=300, deadline=None)
@given(crops())
@example(Mask.of(np.zeros((0, 0), np.uint8), 0, 0, (3, 4)))
@example(Mask.of(np.ones((3, 4), np.uint8), 0, 0, (3, 4)))
@example(Mask.of(np.ones((3, 1), np.uint8), 0, 3, (3, 4)))
@example(Mask.of(np.ones((1, 1), np.uint8), 0, 0, (1, 1)))
def test_rle_is_that_of_the_full_frame_and_decodes_to_it(mask: Mask) -> None:
    frame = paste(mask)
    expected: dict[str, Any] = pycocotools.mask.encode(np.asfortranarray(frame.astype(np.uint8)))
    assert rle(mask) == {"size": list(frame.shape), "counts": expected["counts"].decode()}
    np.testing.assert_array_equal(pycocotools.mask.decode(rle(mask)), frame)


@settings(max_examples=300, deadline=None)
@given(crops())
def test_pixels_come_back_from_the_run_lengths(mask: Mask) -> None:
    again = Mask.of(mask.pixels, mask.top, mask.left, mask.size_hw)
    assert mask.pixels.shape == again.pixels.shape == mask.crop_hw
    np.testing.assert_array_equal(again.counts, mask.counts)
    assert int(mask.counts.sum()) == mask.size_hw[0] * mask.size_hw[1]


def points(found: list[NDArray[np.int32]]) -> list[Any]:
    return [ring.tolist() for ring in found]


@settings(max_examples=300, deadline=None)
@given(crops())
def test_rings_are_those_of_the_full_frame_in_the_same_order(mask: Mask) -> None:
    frame = paste(mask).astype(np.uint8)
    found, _ = cv2.findContours(frame, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    assert points(rings(mask)) == [ring.reshape(-1, 2).tolist() for ring in found]


def test_literal_rle_and_rings_of_two_squares() -> None:
    pixels = np.array([[1, 1, 0, 0], [1, 1, 0, 1]], np.uint8)
    mask = Mask.of(pixels, top=2, left=1, size_hw=(5, 6))
    assert rle(mask) == {"size": [5, 6], "counts": "72306OM"}
    assert points(rings(mask)) == [[[4, 3]], [[1, 2], [1, 3], [2, 3], [2, 2]]]
