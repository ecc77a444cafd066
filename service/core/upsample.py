"""Where a low-resolution map, bilinearly resized, exceeds a level – without ever making the resized map.

The answer is that of `torch.nn.functional.interpolate(map[None, None], size, mode="bilinear",
align_corners=False) > level` on float32 on a CPU, bit for bit. torch's kernel
(aten/src/ATen/native/cpu/UpSampleKernel.cpp) is compiled with fused multiply-add for AVX2 and AVX-512, so its
last bits depend on the order of its operations: plain float32 decides the pixels that are clear of the level, and
the few within rounding of it are done again in torch's order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Index = NDArray[np.intp]

# Two orders of evaluation differ by less than 12 roundings of 2^-24 of the largest value that goes in.
_TOLERANCE = np.float32(2.0**-20)
_SMALLEST_NORMAL = np.finfo(np.float32).tiny
# torch goes another way for frames this small ("_use_vectorized_kernel_cond_2d"): one weight per corner.
_SMALL_FRAME_H_PLUS_W = 128
_BLOCK_PIXELS = 1 << 16  # stays in the cache


@dataclass(frozen=True, eq=False)
class Axis:
    """For each output position of one axis, its two input positions and their weights."""

    lower: Index
    upper: Index
    lower_weight: Float32
    upper_weight: Float32

    def __getitem__(self, part: slice) -> Axis:
        return Axis(self.lower[part], self.upper[part], self.lower_weight[part], self.upper_weight[part])

    def __len__(self) -> int:
        return len(self.lower)

    def near(self, first: int, last: int) -> slice:
        """The output positions that any input position of `first..last` has a part in; may be empty."""
        start, stop = np.searchsorted(self.upper, first, "left"), np.searchsorted(self.lower, last, "right")
        return slice(int(start), int(stop))


@dataclass(frozen=True, eq=False)
class Grid:
    """The resizing of an (h, w) map to a frame of `size_hw`."""

    rows: Axis
    columns: Axis
    size_hw: tuple[int, int]


def make_grid(map_hw: tuple[int, int], size_hw: tuple[int, int]) -> Grid:
    """Prepare to resize maps of `map_hw` to `size_hw`."""
    return Grid(_axis(map_hw[0], size_hw[0]), _axis(map_hw[1], size_hw[1]), size_hw)


def exceeding(logits: Float32, grid: Grid, level: float) -> tuple[NDArray[np.bool_], int, int] | None:
    """The part of the frame where the resized (h, w) map may exceed `level`: what does, and its top and left.

    Weights are not negative and add up to one, so a pixel can exceed the level only next to an input that does,
    give or take rounding. None where no pixel can. `logits` must be finite.
    """
    level32 = np.float32(level)
    high = logits > level32 - _TOLERANCE * abs(level32)
    map_rows, map_columns = np.flatnonzero(high.any(axis=1)), np.flatnonzero(high.any(axis=0))
    if not map_rows.size:
        return None
    rows = grid.rows.near(map_rows[0], map_rows[-1])
    columns = grid.columns.near(map_columns[0], map_columns[-1])
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return None
    small_frame = sum(grid.size_hw) <= _SMALL_FRAME_H_PLUS_W
    above = _above(logits, grid.rows[rows], grid.columns[columns], level32, small_frame)
    return above, rows.start, columns.start


def _axis(n_in: int, n_out: int) -> Axis:
    """`compute_source_index_and_lambda` of aten/src/ATen/native/UpSample.h, in float32 with its one fused step."""
    if n_in == n_out:
        same = np.arange(n_out)
        return Axis(same, same, np.ones(n_out, np.float32), np.zeros(n_out, np.float32))
    scale = np.float64(np.float32(n_in) / np.float32(n_out))
    centers = np.arange(n_out, dtype=np.float32) + np.float32(0.5)
    position = np.maximum((scale * centers - 0.5).astype(np.float32), np.float32(0))
    lower = np.minimum(position.astype(np.intp), n_in - 1)
    upper_weight = np.clip(position - lower.astype(np.float32), np.float32(0), np.float32(1))
    return Axis(lower, np.minimum(lower + 1, n_in - 1), np.float32(1) - upper_weight, upper_weight)


def _above(logits: Float32, rows: Axis, columns: Axis, level: np.float32, small_frame: bool) -> NDArray[np.bool_]:
    """Resize to `rows` × `columns` and compare: along the rows once, then down the columns in blocks."""
    first = rows.lower[0]
    source = logits[first : rows.upper[-1] + 1]
    wide = source[:, columns.lower] * columns.lower_weight
    wide += source[:, columns.upper] * columns.upper_weight
    tolerance = _TOLERANCE * max(abs(level), np.abs(source).max(), _SMALLEST_NORMAL)
    above = np.empty((len(rows), len(columns)), np.bool_)
    step = max(1, _BLOCK_PIXELS // len(columns))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        values = wide[block.lower - first] * block.lower_weight[:, None]
        values += wide[block.upper - first] * block.upper_weight[:, None]
        surely = np.greater(values, level + tolerance, out=above[start : start + step])
        unsure = np.flatnonzero(surely != (values > level - tolerance))
        if unsure.size:
            row, column = np.divmod(unsure, len(columns))
            exact = _exact_in_small_frame if small_frame else _exact
            surely[row, column] = exact(logits, block, row, columns, column) > level
    return above


def _exact(logits: Float32, rows: Axis, row: Index, columns: Axis, column: Index) -> Float32:
    """The resized map at (row, column), in the order of `Interpolate::eval`: along the rows, then down."""
    (x00, x01), (x10, x11) = _corners(logits, rows, row, columns, column)
    left, right = columns.lower_weight[column], columns.upper_weight[column]
    top, bottom = rows.lower_weight[row], rows.upper_weight[row]
    upper_row, lower_row = fused_multiply_add(x00, left, x01 * right), fused_multiply_add(x10, left, x11 * right)
    return fused_multiply_add(upper_row, top, lower_row * bottom)


def _exact_in_small_frame(logits: Float32, rows: Axis, row: Index, columns: Axis, column: Index) -> Float32:
    """The same in the order of `cpu_upsample_linear_channels_last`: four corners, each with its own weight."""
    (x00, x01), (x10, x11) = _corners(logits, rows, row, columns, column)
    left, right = columns.lower_weight[column], columns.upper_weight[column]
    top, bottom = rows.lower_weight[row], rows.upper_weight[row]
    upper_row = fused_multiply_add(x00, top * left, x01 * (top * right))
    return fused_multiply_add(x11, bottom * right, fused_multiply_add(x10, bottom * left, upper_row))


def _corners(
    logits: Float32, rows: Axis, row: Index, columns: Axis, column: Index
) -> tuple[tuple[Float32, Float32], tuple[Float32, Float32]]:
    top, bottom, left, right = rows.lower[row], rows.upper[row], columns.lower[column], columns.upper[column]
    return (logits[top, left], logits[top, right]), (logits[bottom, left], logits[bottom, right])


def fused_multiply_add(x: Float32, y: Float32, z: Float32) -> Float32:
    """x·y + z rounded once to float32.

    The product is exact in float64; rounding the sum to odd there keeps the second rounding from erring
    (Boldo & Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    product, addend = x.astype(np.float64) * y, z.astype(np.float64)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    even = total.view(np.int64) % 2 == 0
    toward = np.nextafter(total, np.copysign(np.inf, error))
    odd = np.where((error != 0) & even, toward, total)
    return odd.astype(np.float32)
