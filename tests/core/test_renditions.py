from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.core.masks import Mask
from service.core.renditions import MAX_OVERLAY_PX, index_mask, mask_png, overlay_webp, scaled
from service.core.results import Instance, PromptResult
from service.errors import TooLarge

SIZE_HW = (6, 8)


def block(score: float, top: int, left: int, side: int, size_hw: tuple[int, int] = SIZE_HW) -> Instance:
    mask = Mask.of(np.ones((side, side), np.uint8), top, left, size_hw)
    return Instance(score, (left, top, left + side, top + side), mask)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_instances_are_numbered_through_all_results_and_the_better_one_is_on_top() -> None:
    results = [
        PromptResult("a", (block(0.9, 0, 0, 2), block(0.6, 1, 1, 3))),
        PromptResult("nothing", ()),
        PromptResult("b", (block(0.7, 3, 3, 2),)),
    ]
    expected = [
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 2, 2, 0, 0, 0, 0],
        [0, 2, 2, 2, 0, 0, 0, 0],
        [0, 2, 2, 3, 3, 0, 0, 0],
        [0, 0, 0, 3, 3, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(index_mask(results, SIZE_HW), expected)
    with opened(mask_png(results, SIZE_HW)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_of_equal_scores_the_earlier_one_is_on_top() -> None:
    assert index_mask([PromptResult("a", (block(0.5, 0, 0, 1), block(0.5, 0, 0, 2)))], SIZE_HW)[0, 0] == 1


@pytest.mark.parametrize(("count", "mode"), [(0, "L"), (255, "L"), (256, "I;16")])
def test_sixteen_bits_where_eight_do_not_number_all(count: int, mode: str) -> None:
    size_hw = (1, 300)
    results = [PromptResult("a", tuple(block(0.5, 0, left, 1, size_hw) for left in range(count)))]
    with opened(mask_png(results, size_hw)) as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image)[0, :count], np.arange(1, count + 1))


def test_more_instances_than_can_be_numbered() -> None:
    result = PromptResult("a", (block(0.5, 0, 0, 1),) * 65536)
    with pytest.raises(TooLarge, match="mask_png: 65536 instances"):
        index_mask([result], SIZE_HW)


def photo(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), (200, 100, 50), np.uint8)


def test_the_overlay_is_a_webp_of_the_photos_size_and_colours() -> None:
    with opened(overlay_webp(photo(120, 200), [])) as image:
        assert (image.format, image.size) == ("WEBP", (200, 120))
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - (200, 100, 50)).max() <= 8


@pytest.mark.parametrize(("height", "width"), [(8, 20_000), (20_000, 8), (3000, 9000)])
def test_a_larger_photo_is_scaled_down_with_what_was_found(height: int, width: int) -> None:
    side = min(height, width) // 2
    top, left = height - side, width - side
    found = [PromptResult("a", (block(0.9, top, left, side, (height, width)),))]
    plain, drawn = (opened(overlay_webp(photo(height, width), results)) for results in ([], found))
    assert max(drawn.size) == MAX_OVERLAY_PX
    assert drawn.size == (max(1, round(width * MAX_OVERLAY_PX / max(height, width))), plain.size[1])
    before, after = (np.asarray(image.convert("RGB")).astype(int) for image in (plain, drawn))
    different = np.abs(after - before).max(axis=2) > 30
    assert different[-1, -1], "the instance is in the last corner"
    assert not different[0, 0]


def test_a_mask_is_sampled_at_the_nearest_pixel() -> None:
    """A checkerboard of blocks of 4 on 8192 pixels becomes one of blocks of 2 on 4096."""
    board = (np.indices((40, 8192)) // 4).sum(axis=0) % 2
    instance = Instance(0.9, (0, 0, 8192, 40), Mask.of(board.astype(np.uint8), 0, 0, (40, 8192)))
    smaller = scaled(PromptResult("a", (instance,)), (20, 4096)).instances[0]
    np.testing.assert_array_equal(smaller.mask.pixels, (np.indices((20, 4096)) // 2).sum(axis=0) % 2)
    assert smaller.box_xyxy == (0, 0, 4096, 20)
