"""Scenes with their truth: a drawn image and, for each object, its concept, visible mask and box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.train_tiny.backgrounds import NATIVE_PX, Canvas, background, expose, scale_of
from tools.train_tiny.drawing import Patch, place, random_pose
from tools.train_tiny.vocabulary import COLOURS, Concept
from tools.train_tiny.worlds import TRAINED, Drawing, World, pick

MAX_OBJECTS = 12
_SMALLEST_DRAWN = 60
_SMALLEST_VISIBLE = 40
"""Areas in square reference pixels below which an object is not drawn, or no longer counts as visible."""
_COVER_SHARE = 0.4
_LEAST_SHOWN_SHARE = 0.65
"""How often an object may cover others, and how much of each of these must stay visible."""


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


def _shape_share(rng: np.random.Generator) -> float:
    """A third of the scenes hold shapes only, four ninths emoji only, the rest both."""
    return float(rng.choice([1, 1, 1, 0, 0, 0, 0, 0.4, 0.4]))


def _relatives(drawing: Drawing, pool: tuple[Drawing, ...]) -> tuple[Drawing, ...]:
    """The drawings of other concepts that share an attribute: the colour, the shape, or the superclass."""
    concept = drawing.concept
    own = concept.names - {"shape"}
    return tuple(other for other in pool if other.concept != concept and own & other.concept.names)


def _palette(rng: np.random.Generator, world: World, shape_share: float) -> list[Drawing]:
    """One to five drawings; half of the later ones are mistaken easily for one before them."""
    palette = [pick(rng, world.pool(rng, shape_share))]
    for _ in range(int(rng.integers(0, 5))):
        pool = world.pool(rng, shape_share)
        relatives = _relatives(pick(rng, palette), pool) if rng.random() < 0.5 else ()
        palette.append(pick(rng, relatives or pool))
    return palette


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


class _Ledger:
    """Which object owns each pixel, and how much of every object is still visible."""

    def __init__(self, size_hw: tuple[int, int]) -> None:
        self.owner = np.full(size_hw, -1, np.int16)
        self.concepts: list[Concept] = []
        self._areas: list[int] = []

    def admits(self, rng: np.random.Generator, covered: NDArray[np.int16]) -> bool:
        """Whether one more object may take these pixels from their owners (-1: none)."""
        taken = self._counts(covered)
        if not taken.any():
            return True
        shown = self._counts(self.owner) - taken
        enough = shown >= _LEAST_SHOWN_SHARE * np.array(self._areas)
        return bool(rng.random() < _COVER_SHARE and enough[taken > 0].all())

    def add(self, concept: Concept, region: NDArray[np.int16], solid: NDArray[np.bool_]) -> None:
        """Give the solid pixels of a region of `owner` to a new object."""
        region[solid] = len(self.concepts)
        self.concepts.append(concept)
        self._areas.append(int(solid.sum()))

    def _counts(self, owners: NDArray[np.int16]) -> NDArray[np.int64]:
        return np.bincount(owners[owners >= 0], minlength=len(self.concepts))


def _visible_object(owner: NDArray[np.int16], index: int, concept: Concept, smallest: float) -> SceneObject | None:
    mask = owner == index
    if mask.sum() <= smallest:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return SceneObject(concept, mask, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def draw_scene(
    rng: np.random.Generator,
    size_hw: tuple[int, int] = (NATIVE_PX, NATIVE_PX),
    min_objects: int = 1,
    world: World = TRAINED,
) -> Scene:
    """Draw a random scene of up to `MAX_OBJECTS` objects, most of them from a small palette so that kinds repeat."""
    canvas = background(rng, size_hw)
    unit_area = scale_of(size_hw) ** 2
    wanted = int(rng.integers(min_objects, MAX_OBJECTS + 1))
    shape_share = _shape_share(rng)
    palette = _palette(rng, world, shape_share)
    ledger = _Ledger(size_hw)
    for _ in range(wanted * 4):
        if len(ledger.concepts) == wanted:
            break
        drawing = pick(rng, palette if rng.random() < 0.8 else world.pool(rng, shape_share))
        concept = drawing.concept
        patch = place(drawing.sprite, random_pose(rng, size_hw, can_mirror=concept.emoji is not None), size_hw)
        solid = patch.rgba[..., 3] > 0.5
        region = ledger.owner[patch.rows, patch.columns]
        if solid.sum() < _SMALLEST_DRAWN * unit_area or not ledger.admits(rng, region[solid]):
            continue
        _paint(rng, canvas, patch, concept)
        ledger.add(concept, region, solid)
    expose(rng, canvas)
    objects = [
        _visible_object(ledger.owner, index, concept, _SMALLEST_VISIBLE * unit_area)
        for index, concept in enumerate(ledger.concepts)
    ]
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), [found for found in objects if found])
