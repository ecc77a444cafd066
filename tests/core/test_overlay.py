from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.core.masks import Mask
from service.core.overlay import PALETTE, draw_overlay
from service.core.results import Instance, PromptResult

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def grey(height: int, width: int) -> Picture:
    return np.full((height, width, 3), 128, np.uint8)


def square(top: int, left: int, side: int, size_hw: tuple[int, int]) -> Mask:
    return Mask.of(np.ones((side, side), np.uint8), top, left, size_hw)


def empty(size_hw: tuple[int, int]) -> Mask:
    return Mask.of(np.zeros((0, 0), np.uint8), 0, 0, size_hw)


def one(mask: Mask, box_xyxy: Box, label: str = "cat") -> list[PromptResult]:
    return [PromptResult(label, (Instance(0.875, box_xyxy, mask),))]


def test_an_instance_is_tinted_inside_and_outlined_and_the_photo_stays_as_it_is() -> None:
    photo = grey(200, 300)
    picture = draw_overlay(photo, one(square(80, 100, 60, (200, 300)), (100, 80, 160, 140)))
    colour = np.array(PALETTE[0])
    np.testing.assert_allclose(picture[110, 130], 128 * 0.55 + colour * 0.45, atol=1)
    np.testing.assert_array_equal(picture[110, 160], colour)
    np.testing.assert_array_equal(picture[190, 290], 128)
    np.testing.assert_array_equal(photo, grey(200, 300))
    assert picture.shape == photo.shape
    assert picture.dtype == np.uint8


def test_the_label_stands_above_the_box_and_inside_it_where_there_is_no_room() -> None:
    mask = square(80, 100, 60, (200, 300))
    above = draw_overlay(grey(200, 300), one(mask, (100, 80, 160, 140)))
    assert (above[70:78, 102:140] != 128).any()
    at_the_top = draw_overlay(grey(200, 300), one(empty((200, 300)), (100, 0, 160, 140)))
    assert (at_the_top[2:10, 102:140] != 128).any()


def test_a_label_at_the_right_border_is_moved_in() -> None:
    picture = draw_overlay(grey(200, 300), one(empty((200, 300)), (290, 100, 300, 150)))
    assert (picture[85:98, 250:290] != 128).any()


def test_each_prompt_has_its_colour_and_colours_come_again() -> None:
    size_hw = (60, 400)
    results = [
        PromptResult(str(i), (Instance(0.5, (0, 0, 1, 1), square(40, 40 * i + 5, 11, size_hw)),))
        for i in range(len(PALETTE) + 1)
    ]
    picture = draw_overlay(grey(*size_hw), results)
    centers = [tuple(picture[45, 40 * i + 10].tolist()) for i in range(len(results))]
    assert len(set(centers)) == len(PALETTE)
    assert centers[0] == centers[-1]


def test_the_best_instance_is_drawn_last() -> None:
    size_hw = (200, 300)
    worse, better = square(80, 100, 60, size_hw), square(80, 130, 60, size_hw)
    result = PromptResult("x", (Instance(0.9, (130, 80, 190, 140), better), Instance(0.6, (100, 80, 160, 140), worse)))
    picture = draw_overlay(grey(*size_hw), [result])
    np.testing.assert_array_equal(picture[120, 130], PALETTE[0])  # the better one's outline, over the worse one


def test_nothing_found_changes_nothing() -> None:
    photo = grey(20, 30)
    np.testing.assert_array_equal(draw_overlay(photo, []), photo)
    np.testing.assert_array_equal(draw_overlay(photo, [PromptResult("cat", ())]), photo)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (40, 1), (3, 3)])
@pytest.mark.parametrize("filled", [False, True])
def test_tiny_pictures(size_hw: tuple[int, int], filled: bool) -> None:
    mask = square(0, 0, 1, size_hw) if filled else empty(size_hw)
    picture = draw_overlay(grey(*size_hw), one(mask, (0, 0, size_hw[1], size_hw[0])))
    assert picture.shape == (*size_hw, 3)


@pytest.mark.parametrize(
    "box_xyxy", [(-5, -5, 400, 400), (299.6, 199.7, 300, 200), (10, 10, 10, 10), (0, 199, 300, 200)]
)
def test_boxes_at_and_over_the_border_and_without_area(box_xyxy: Box) -> None:
    picture = draw_overlay(grey(200, 300), one(empty((200, 300)), box_xyxy))
    assert (picture != 128).any()


@pytest.mark.parametrize("label", ["Küche", "猫", "🐈", "a" * 1000, "-"])
def test_any_label_can_be_drawn(label: str) -> None:
    draw_overlay(grey(50, 80), one(square(10, 10, 20, (50, 80)), (10, 10, 30, 30), label))


@pytest.mark.parametrize("box_xyxy", [(0, 0, 60, 60), (50, 50, 60, 60), (0, 55, 5, 60)])
@pytest.mark.parametrize("label", ["cat", "a mug cup on a plate", "a" * 1000, "猫"])
def test_a_label_on_a_small_picture_is_cut_so_that_it_never_leaves_it(label: str, box_xyxy: Box) -> None:
    picture = draw_overlay(grey(60, 60), one(empty((60, 60)), box_xyxy, label))
    letters: NDArray[np.bool_] = np.all(picture > 200, axis=2)
    assert letters.any()
    for border in (letters[:, 0], letters[:, -1], letters[0], letters[-1]):
        assert not border.any()


@pytest.mark.parametrize("size_hw", [(40, 40), (8, 200), (200, 8)])
def test_a_label_that_would_hide_an_icon_or_leave_a_strip_is_left_out(size_hw: tuple[int, int]) -> None:
    picture = draw_overlay(grey(*size_hw), one(empty(size_hw), (2, 2, size_hw[1] - 2, size_hw[0] - 2)))
    assert {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} == {PALETTE[0], (128, 128, 128)}
