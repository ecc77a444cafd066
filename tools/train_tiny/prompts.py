"""Prompts about a scene, with their truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from service.core.exemplars import VISUAL_TEXT
from tools.train_tiny.scenes import SceneObject, random_concept
from tools.train_tiny.vocabulary import COLOUR_NAMES, UNKNOWN_TRAINING, Concept, PromptKind, plural

Item = TypeVar("Item")

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Prompt:
    """A prompt, the indices of the objects that it names, and the indices of the objects whose boxes go with it."""

    text: str
    kind: PromptKind
    matches: tuple[int, ...]
    exemplars: tuple[int, ...] = ()


@dataclass(frozen=True)
class PromptMix:
    """Shares of a prompt sample; `unknown_words` are the words that the model is asked for and never shown."""

    visual: float = 0.12
    unknown: float = 0.07
    present: float = 0.67
    unknown_words: tuple[str, ...] = UNKNOWN_TRAINING


def _pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def matching(phrase: str, objects: Sequence[SceneObject]) -> tuple[int, ...]:
    """Indices of the objects of which the undecorated phrase ("cat", "red shape") is true."""
    return tuple(index for index, item in enumerate(objects) if phrase in item.concept.names)


def _visual_prompt(rng: np.random.Generator, objects: Sequence[SceneObject]) -> Prompt:
    """One object's box, sometimes a second one's, stands for all objects of its concept."""
    first = int(rng.integers(len(objects)))
    alike = tuple(index for index, item in enumerate(objects) if item.concept == objects[first].concept)
    second = (_pick(rng, alike),) if len(alike) > 1 and rng.random() < 0.3 else ()
    return Prompt(VISUAL_TEXT, PromptKind.VISUAL, alike, (first, *second))


def _unknown_prompt(rng: np.random.Generator, words: Sequence[str]) -> Prompt:
    """A word without a drawing, or random letters; sometimes with a colour in front."""
    if rng.random() < 0.6:
        word = _pick(rng, words)
    else:
        word = "".join(_pick(rng, _LETTERS) for _ in range(int(rng.integers(3, 9))))
    colour = f"{_pick(rng, COLOUR_NAMES)} " if rng.random() < 0.2 else ""
    return Prompt(colour + word, PromptKind.UNKNOWN, ())


def _half_right(rng: np.random.Generator, concept: Concept, shapes: Sequence[Concept]) -> Concept:
    """A coloured shape whose colour, shape, or both (from two objects) are in the scene: the hard way to be absent."""
    other = _pick(rng, shapes)
    swap = rng.random()
    if swap < 0.5:
        return Concept(shape=other.shape, colour=_pick(rng, shapes).colour)
    if swap < 0.75:
        return Concept(shape=other.shape, colour=concept.colour)
    return Concept(shape=concept.shape, colour=other.colour)


def _perhaps_absent_concept(rng: np.random.Generator, objects: Sequence[SceneObject]) -> Concept:
    """A concept that need not be in the scene; usually of the sort that the scene shows, often half right."""
    shape_share = 0.5
    if objects and rng.random() < 0.7:
        shape_share = 0.0 if _pick(rng, objects).concept.emoji else 1.0
    concept = random_concept(rng, shape_share)
    shapes = [item.concept for item in objects if item.concept.emoji is None]
    if concept.emoji is None and shapes and rng.random() < 0.6:
        return _half_right(rng, concept, shapes)
    return concept


def _kind_for(rng: np.random.Generator, concept: Concept) -> PromptKind:
    draw = rng.random()
    if concept.emoji is None:
        limits = ((0.43, PromptKind.COLOUR_SHAPE), (0.72, PromptKind.SHAPE), (0.93, PromptKind.COLOUR))
        return next((kind for limit, kind in limits if draw < limit), PromptKind.ANY_SHAPE)
    return PromptKind.SUPERCLASS if concept.emoji.superclass and draw < 0.3 else PromptKind.EMOJI


def _decorate(rng: np.random.Generator, phrase: str) -> str:
    """A quarter of the phrases get a plural or an article; the model answers all of them alike."""
    draw = rng.random()
    if draw < 0.15:
        return plural(phrase)
    if draw < 0.25:
        indefinite = "an " if phrase[0] in "aeiou" else "a "
        return ("the " if draw < 0.2 else indefinite) + phrase
    return phrase


def sample_prompt(rng: np.random.Generator, objects: Sequence[SceneObject], mix: PromptMix) -> Prompt:
    """One prompt about the scene's objects, drawn from the mix; its matches are complete."""
    if objects and rng.random() < mix.visual:
        return _visual_prompt(rng, objects)
    draw = rng.random()
    if draw < mix.unknown:
        return _unknown_prompt(rng, mix.unknown_words)
    if objects and draw < mix.unknown + mix.present:
        concept = _pick(rng, objects).concept
    else:
        concept = _perhaps_absent_concept(rng, objects)
    kind = _kind_for(rng, concept)
    phrases = concept.phrases[kind]
    phrase = phrases[0] if rng.random() < 0.7 else _pick(rng, phrases)
    return Prompt(_decorate(rng, phrase), kind, matching(phrase, objects))


def sample_prompts(
    rng: np.random.Generator, objects: Sequence[SceneObject], count: int, mix: PromptMix
) -> list[Prompt]:
    """`count` prompts about one scene; a few redraws keep them different from each other where the scene allows it."""
    prompts: list[Prompt] = []
    for _ in range(count):
        for _attempt in range(4):
            prompt = sample_prompt(rng, objects, mix)
            if prompt not in prompts:
                break
        prompts.append(prompt)
    return prompts
