"""The regrouped arithmetic of the mask head."""

import pytest
import torch
import torch.nn.functional as F

from service.engine.mask_head import doubling_kernel


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (7, 7), (36, 20)])
def test_one_transposed_convolution_enlarges_and_convolves(size_hw: tuple[int, int]) -> None:
    """Also at the border, where both see zeros."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 5, *size_hw, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 5, 3, 3, generator=generator, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(maps, scale_factor=2, mode="nearest"), weight, padding=1)
    found = F.conv_transpose2d(maps, doubling_kernel(weight), stride=2, padding=1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
