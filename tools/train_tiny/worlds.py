"""What may be drawn: the drawings that training uses, and those that it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from tools.train_tiny.sprites import Sheet, Sprite, sprite_of
from tools.train_tiny.vocabulary import EMOJI_CONCEPTS, HELD_OUT_COMBINATIONS, TRAINED_COMBINATIONS, Concept

Item = TypeVar("Item")


@dataclass(frozen=True)
class Drawing:
    """A concept as one sheet shows it; coloured shapes are the same on all."""

    concept: Concept
    sheet: Sheet = Sheet.NOTO

    @property
    def sprite(self) -> Sprite:
        """Its pixels, at several sizes."""
        return sprite_of(self.concept, self.sheet)


@dataclass(frozen=True)
class World:
    """The drawings of a set of scenes; an empty kind is never drawn, nor asked for."""

    shapes: tuple[Drawing, ...]
    emoji: tuple[Drawing, ...]

    def pool(self, rng: np.random.Generator, shape_share: float) -> tuple[Drawing, ...]:
        """The coloured shapes with the given probability, else the emoji."""
        if not self.shapes or not self.emoji:
            return self.shapes or self.emoji
        return self.shapes if rng.random() < shape_share else self.emoji

    @cached_property
    def concepts(self) -> frozenset[Concept]:
        """Every concept that is drawn, and may be asked for."""
        return frozenset(drawing.concept for drawing in (*self.shapes, *self.emoji))


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One of the items, each as likely."""
    return items[int(rng.integers(len(items)))]


def _drawings(concepts: Sequence[Concept], sheet: Sheet = Sheet.NOTO) -> tuple[Drawing, ...]:
    return tuple(Drawing(concept, sheet) for concept in concepts)


_TRAINED_SHAPES = _drawings(TRAINED_COMBINATIONS)
_NOTO = _drawings(EMOJI_CONCEPTS)

TRAINED = World(_TRAINED_SHAPES, _NOTO + _drawings(EMOJI_CONCEPTS[::2], Sheet.TWEMOJI))
"""All that training draws: every emoji as Noto draws it, and every second one as Twemoji does, too."""

UNSEEN_DRAWINGS = World((), _drawings(EMOJI_CONCEPTS[1::2], Sheet.TWEMOJI))
"""Known concepts in drawings that training never shows: Twemoji's of the other half."""

UNSEEN_COMBINATIONS = World(3 * _drawings(HELD_OUT_COMBINATIONS) + _TRAINED_SHAPES, ())
"""Coloured shapes, three in ten of them in the combinations that training never draws."""

SEEN_DRAWINGS = World((), _drawings(EMOJI_CONCEPTS[1::2]))
"""The control of `UNSEEN_DRAWINGS`: the same concepts as Noto draws them."""

TRAINED_SHAPES = World(_TRAINED_SHAPES, ())
"""The control of `UNSEEN_COMBINATIONS`: the same shapes, each as often, and none in a colour that is held out."""
