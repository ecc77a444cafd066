"""Prompts about a scene, with their truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.core.exemplars import VISUAL_TEXT
from tools.train_tiny.scenes import SceneObject
from tools.train_tiny.vocabulary import COLOUR_NAMES, UNKNOWN_TRAINING, Concept, PromptKind, plural
from tools.train_tiny.worlds import TRAINED, World, pick

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Prompt:
    """A prompt, the indices of the objects that it names, and the objects whose boxes go with it.

    `phrase` is the text without article and plural, empty where there is none; `exemplars` are positive boxes,
    `excluded` negative ones: objects of their concepts are not among the matches.
    """

    text: str
    kind: PromptKind
    matches: tuple[int, ...]
    exemplars: tuple[int, ...] = ()
    excluded: tuple[int, ...] = ()
    phrase: str = ""


@dataclass(frozen=True)
class PromptMix:
    """Shares of a prompt sample; `unknown_words` are the words that the model is asked for and never shown.

    `letters`: of the unknown words, those that are random letters.
    `visual`: boxes without a phrase; `negatives`: of these, those with a negative box, too. `excluding`: a phrase and
    the negative box of one of the looks that it names. `pointed`: of the phrases with something to find, those that
    come with a positive box.
    """

    visual: float = 0.13
    excluding: float = 0.08
    negatives: float = 0.3
    pointed: float = 0.05
    unknown: float = 0.07
    letters: float = 0.4
    present: float = 0.65
    unknown_words: tuple[str, ...] = UNKNOWN_TRAINING


def matching(phrase: str, objects: Sequence[SceneObject]) -> tuple[int, ...]:
    """Indices of the objects of which the undecorated phrase ("cat", "red shape") is true."""
    return tuple(index for index, item in enumerate(objects) if phrase in item.concept.names)


def _alike(index: int, objects: Sequence[SceneObject]) -> tuple[int, ...]:
    return tuple(other for other, item in enumerate(objects) if item.concept == objects[index].concept)


def _visual_prompt(rng: np.random.Generator, objects: Sequence[SceneObject], negatives: float) -> Prompt:
    """One object's box, sometimes a second one's, stands for all of its concept; often a negative box is on another."""
    first = int(rng.integers(len(objects)))
    alike = _alike(first, objects)
    second = (pick(rng, alike),) if len(alike) > 1 and rng.random() < 0.3 else ()
    others = tuple(index for index in range(len(objects)) if index not in alike)
    excluded = (pick(rng, others),) if others and rng.random() < negatives else ()
    return Prompt(VISUAL_TEXT, PromptKind.VISUAL, alike, tuple({first: None, **dict.fromkeys(second)}), excluded)


def excluding_prompts(objects: Sequence[SceneObject]) -> list[Prompt]:
    """Every way to ask for a phrase that names several looks and to exclude one of these by a box."""
    staged = []
    for phrase in dict.fromkeys(phrase for item in objects for phrase in sorted(item.concept.names)):
        named = matching(phrase, objects)
        for index in named:
            rest = tuple(other for other in named if objects[other].concept != objects[index].concept)
            if rest:
                staged.append(Prompt(phrase, PromptKind.EXCLUDING, rest, excluded=(index,), phrase=phrase))
    return staged


def _unknown_prompt(rng: np.random.Generator, mix: PromptMix) -> Prompt:
    """A word without a drawing, or random letters; sometimes with a colour in front."""
    if rng.random() < 1 - mix.letters:
        word = pick(rng, mix.unknown_words)
    else:
        word = "".join(pick(rng, _LETTERS) for _ in range(int(rng.integers(3, 9))))
    colour = f"{pick(rng, COLOUR_NAMES)} " if rng.random() < 0.2 else ""
    return Prompt(colour + word, PromptKind.UNKNOWN, (), phrase=colour + word)


def _half_right(rng: np.random.Generator, concept: Concept, shapes: Sequence[Concept]) -> Concept:
    """A coloured shape whose colour, shape, or both (from two objects) are in the scene: the hard way to be absent."""
    other = pick(rng, shapes)
    swap = rng.random()
    if swap < 0.5:
        return Concept(shape=other.shape, colour=pick(rng, shapes).colour)
    if swap < 0.75:
        return Concept(shape=other.shape, colour=concept.colour)
    return Concept(shape=concept.shape, colour=other.colour)


def _perhaps_absent_concept(rng: np.random.Generator, objects: Sequence[SceneObject], world: World) -> Concept:
    """A concept that need not be in the scene; usually of the sort that the scene shows, often half right."""
    shape_share = 0.5
    if objects and rng.random() < 0.7:
        shape_share = 0.0 if pick(rng, objects).concept.emoji else 1.0
    concept = pick(rng, world.pool(rng, shape_share)).concept
    shapes = [item.concept for item in objects if item.concept.emoji is None]
    if concept.emoji is None and shapes and rng.random() < 0.6:
        half_right = _half_right(rng, concept, shapes)
        return half_right if half_right in world.concepts else concept
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


def _phrase_prompt(rng: np.random.Generator, objects: Sequence[SceneObject], concept: Concept) -> Prompt:
    kind = _kind_for(rng, concept)
    phrases = concept.phrases[kind]
    phrase = phrases[0] if rng.random() < 0.7 else pick(rng, phrases)
    return Prompt(_decorate(rng, phrase), kind, matching(phrase, objects), phrase=phrase)


def _excluding_prompt(rng: np.random.Generator, objects: Sequence[SceneObject]) -> Prompt | None:
    staged = excluding_prompts(objects)
    if not staged:
        return None
    prompt = pick(rng, staged)
    return replace(prompt, text=_decorate(rng, prompt.phrase))


def sample_prompt(
    rng: np.random.Generator, objects: Sequence[SceneObject], mix: PromptMix, world: World = TRAINED
) -> Prompt:
    """One prompt about the scene's objects, drawn from the mix; its matches are complete."""
    boxes = rng.random()
    if objects and boxes < mix.visual:
        return _visual_prompt(rng, objects, mix.negatives)
    if boxes < mix.visual + mix.excluding and (excluding := _excluding_prompt(rng, objects)):
        return excluding
    draw = rng.random()
    if draw < mix.unknown:
        return _unknown_prompt(rng, mix)
    if not objects or draw >= mix.unknown + mix.present:
        return _phrase_prompt(rng, objects, _perhaps_absent_concept(rng, objects, world))
    prompt = _phrase_prompt(rng, objects, pick(rng, objects).concept)
    return replace(prompt, exemplars=(pick(rng, prompt.matches),)) if rng.random() < mix.pointed else prompt


def sample_prompts(
    rng: np.random.Generator, objects: Sequence[SceneObject], count: int, mix: PromptMix, world: World = TRAINED
) -> list[Prompt]:
    """`count` prompts about one scene; a few redraws keep them different from each other where the scene allows it."""
    prompts: list[Prompt] = []
    for _ in range(count):
        for _attempt in range(4):
            prompt = sample_prompt(rng, objects, mix, world)
            if prompt not in prompts:
                break
        prompts.append(prompt)
    return prompts
