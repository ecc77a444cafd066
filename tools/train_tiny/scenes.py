"""Scenes with their truth: a drawn image and, for each object, its concept, visible mask and box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.train_tiny.drawing import REFERENCE_PX, Canvas, Patch, background, place, random_pose, scale_of
from tools.train_tiny.sprites import sprite_of
from tools.train_tiny.vocabulary import COLOURS, EMOJI_CONCEPTS, SHAPE_CONCEPTS, Concept

MAX_OBJECTS = 8
_SMALLEST_DRAWN = 60
_SMALLEST_VISIBLE = 40
"""Areas in square reference pixels below which an object is not drawn, or no longer counts as visible."""
_MAX_HIDDEN_SHARE = 0.15


@dataclass(frozen=True)
class SceneObject:
    """One object: its concept, the mask (H, W) of its visible pixels, and that mask's box (x0, y0, x1, y1) in pixels.

    The box is half-open: x1 and y1 are one past the last visible column and row.
    """

    concept: Concept
    mask: NDArray[np.bool_]
    box_xyxy: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """A uint8 RGB image (H, W, 3) and its objects, from back to front."""

    image: NDArray[np.uint8]
    objects: list[SceneObject]


def random_concept(rng: np.random.Generator, shape_share: float) -> Concept:
    """Any concept, a coloured shape with the given probability."""
    pool = SHAPE_CONCEPTS if rng.random() < shape_share else EMOJI_CONCEPTS
    return pool[int(rng.integers(len(pool)))]


def _shape_share(rng: np.random.Generator) -> float:
    """A third of the scenes hold shapes only, four ninths emoji only, the rest both."""
    return float(rng.choice([1, 1, 1, 0, 0, 0, 0, 0.4, 0.4]))


def _paint(rng: np.random.Generator, canvas: Canvas, patch: Patch, concept: Concept) -> None:
    alpha = patch.rgba[..., 3:]
    if concept.colour:
        tint = np.clip(np.array(COLOURS[concept.colour]) + rng.uniform(-20, 20, 3), 0, 255)
        colour = tint.astype(np.float32) * alpha
    else:
        colour = patch.rgba[..., :3] * np.float32(255 * rng.uniform(0.75, 1.12))
    region = canvas[patch.rows, patch.columns]
    region *= 1 - alpha
    region += colour


def _may_cover(rng: np.random.Generator, covered: NDArray[np.bool_], area: int) -> bool:
    """Half of the objects may hide a little of others; the rest are placed free."""
    hidden = int(covered.sum())
    return hidden == 0 or (hidden <= _MAX_HIDDEN_SHARE * area and rng.random() >= 0.5)


def _visible_object(owner: NDArray[np.int16], index: int, concept: Concept, smallest: float) -> SceneObject | None:
    mask = owner == index
    if mask.sum() <= smallest:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return SceneObject(concept, mask, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def draw_scene(
    rng: np.random.Generator, size_hw: tuple[int, int] = (REFERENCE_PX, REFERENCE_PX), min_objects: int = 1
) -> Scene:
    """Draw a random scene of up to `MAX_OBJECTS` objects, most of them from a small palette so that kinds repeat."""
    canvas = background(rng, size_hw)
    unit_area = scale_of(size_hw) ** 2
    wanted = int(rng.integers(min_objects, MAX_OBJECTS + 1))
    shape_share = _shape_share(rng)
    palette = [random_concept(rng, shape_share) for _ in range(int(rng.integers(1, 6)))]
    owner = np.full(size_hw, -1, np.int16)
    placed: list[Concept] = []
    for _ in range(wanted * 3):
        if len(placed) == wanted:
            break
        from_palette = rng.random() < 0.8
        concept = palette[int(rng.integers(len(palette)))] if from_palette else random_concept(rng, shape_share)
        patch = place(sprite_of(concept), random_pose(rng, size_hw, can_mirror=concept.emoji is not None), size_hw)
        solid = patch.rgba[..., 3] > 0.5
        area = int(solid.sum())
        region = owner[patch.rows, patch.columns]
        if area < _SMALLEST_DRAWN * unit_area or not _may_cover(rng, region[solid] >= 0, area):
            continue
        _paint(rng, canvas, patch, concept)
        region[solid] = len(placed)
        placed.append(concept)
    objects = [
        _visible_object(owner, index, concept, _SMALLEST_VISIBLE * unit_area) for index, concept in enumerate(placed)
    ]
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), [found for found in objects if found])
