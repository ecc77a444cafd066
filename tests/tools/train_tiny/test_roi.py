from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from service.engine.roi import roi_align


def bilinear(image: Tensor, x: float, y: float) -> Tensor:
    """(C, H, W) sampled at one point as torchvision's kernel does: 0 beyond a cell outside, clamped before that."""
    height, width = image.shape[-2:]
    if not (-1 <= x <= width and -1 <= y <= height):
        return image.new_zeros(len(image))
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    x0, y0 = min(int(x), width - 1), min(int(y), height - 1)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    top = image[:, y0, x0] * (1 - (x - x0)) + image[:, y0, x1] * (x - x0)
    bottom = image[:, y1, x0] * (1 - (x - x0)) + image[:, y1, x1] * (x - x0)
    return top * (1 - (y - y0)) + bottom * (y - y0)


def by_loops(image: Tensor, box: list[float], out: int) -> Tensor:
    """One box, bin by bin and sample by sample."""
    x0, y0, x1, y1 = box
    width, height = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
    across, down = math.ceil(width / out), math.ceil(height / out)
    pooled = image.new_zeros(len(image), out, out)
    for row in range(out):
        for column in range(out):
            samples = [
                bilinear(
                    image,
                    x0 + (column + (i + 0.5) / across) * width / out,
                    y0 + (row + (j + 0.5) / down) * height / out,
                )
                for j in range(down)
                for i in range(across)
            ]
            pooled[:, row, column] = torch.stack(samples).mean(0)
    return pooled


BOXES = (
    [1.2, 2.4, 9.7, 10.1],
    [0.0, 0.0, 12.0, 11.0],  # the whole image
    [5.0, 5.0, 5.3, 5.1],  # smaller than a cell: counts as one
    [-3.0, 2.0, 14.0, 8.0],  # beyond both sides
    [10.5, 9.5, 30.0, 40.0],  # mostly outside
)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("out", [1, 4, 7])
def test_equals_the_definition(box: list[float], out: int) -> None:
    features = torch.randn(1, 3, 11, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        roi_align(features, [torch.tensor([box])], out)[0], by_loops(features[0], box, out), rtol=0, atol=1e-5
    )


def test_boxes_of_several_images_keep_their_order() -> None:
    features = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    boxes = [torch.tensor(BOXES[:2]), torch.zeros(0, 4), torch.tensor(BOXES[2:])]
    pooled = roi_align(features, boxes, 4)
    alone = [by_loops(features[image], box.tolist(), 4) for image in (0, 2) for box in boxes[image]]
    torch.testing.assert_close(pooled, torch.stack(alone), rtol=0, atol=1e-5)


def test_no_boxes_at_all() -> None:
    assert roi_align(torch.randn(2, 5, 4, 4), [torch.zeros(0, 4)] * 2, 3).shape == (0, 5, 3, 3)


def test_gradients_reach_the_features() -> None:
    """Pooling is linear in the features, so the gradient of the sum, times the features, is the sum."""
    features = torch.randn(1, 2, 6, 6, requires_grad=True, generator=torch.Generator().manual_seed(2))
    total = roi_align(features, [torch.tensor([[0.5, 1.0, 4.7, 5.0]])], 2).sum()
    total.backward()
    assert features.grad is not None
    torch.testing.assert_close((features.grad * features).sum(), total)


def boxes_on(side: int, count: int = 40) -> Tensor:
    """Boxes of every size in cells of a map of this side, some beyond its border; the last is the whole map."""
    generator = torch.Generator().manual_seed(3)
    centre, size = torch.rand(count, 2, generator=generator), torch.rand(count, 2, generator=generator) ** 3
    boxes = torch.cat([centre - size / 2, centre + size / 2], 1) * side
    boxes[-1] = torch.tensor([0, 0, side, side])
    return boxes


def test_equals_the_definition_on_a_map_of_full_size() -> None:
    features = torch.randn(1, 2, 72, 72, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    boxes = boxes_on(72, 12).double()
    expected = torch.stack([by_loops(features[0], box.tolist(), 7) for box in boxes])
    torch.testing.assert_close(roi_align(features, [boxes], 7), expected, rtol=0, atol=1e-9)


def test_equals_torchvision() -> None:
    torchvision = pytest.importorskip("torchvision")
    features = torch.randn(2, 8, 72, 72, generator=torch.Generator().manual_seed(5))
    boxes = [boxes_on(72), boxes_on(72, 5)]
    expected = torchvision.ops.roi_align(features, boxes, 7)
    torch.testing.assert_close(roi_align(features, boxes, 7), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    features = torch.randn(1, 4, 72, 72, generator=torch.Generator().manual_seed(6)).to(dtype)
    boxes = boxes_on(72).to(dtype)
    pooled = roi_align(features, [boxes], 7)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled, roi_align(features.float(), [boxes.float()], 7).to(dtype), rtol=0, atol=0)
