"""The closed world of the tiny model: which things can be drawn, and every phrase that names them.

A phrase is true of a thing exactly when it is one of `Concept.names`; prompts, truth files and the tokenizer all read
this one table.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (40, 165, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (140, 50, 180),
    "orange": (240, 130, 20),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
COLOUR_NAMES = tuple(COLOURS)
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond")


class PromptKind(StrEnum):
    """What sort of phrase a prompt is; the evaluation tables have one row for each."""

    COLOUR_SHAPE = "colour + shape"
    SHAPE = "shape"
    COLOUR = "colour"
    ANY_SHAPE = "any shape"
    EMOJI = "emoji name"
    SUPERCLASS = "superclass"
    UNKNOWN = "unknown word"
    VISUAL = "exemplar box"
    EXCLUDING = "phrase and negative box"


@dataclass(frozen=True)
class Emoji:
    """One everyday drawing: its Unicode text, its names (the usual one first) and its superclass, if any."""

    text: str
    names: tuple[str, ...]
    superclass: str | None


def _group(superclass: str | None, rows: dict[str, str]) -> list[Emoji]:
    return [Emoji(text, tuple(names.split("|")), superclass) for text, names in rows.items()]


_ANIMALS = {
    "🐱": "cat|kitten", "🐶": "dog|puppy", "🐰": "rabbit|bunny", "🐼": "panda", "🦊": "fox", "🐸": "frog",
    "🐧": "penguin", "🦉": "owl", "🐟": "fish", "🐢": "turtle|tortoise", "🦋": "butterfly", "🐘": "elephant",
    "🐷": "pig|piglet", "🐮": "cow",
}  # fmt: skip
_FRUITS = {
    "🍎": "apple", "🍌": "banana", "🍇": "grapes", "🍓": "strawberry", "🍉": "watermelon", "🍋": "lemon",
    "🍍": "pineapple",
}  # fmt: skip
_FOODS = {"🍕": "pizza", "🍔": "hamburger|burger", "🍩": "donut|doughnut", "🥕": "carrot"}
_VEHICLES = {
    "🚗": "car|automobile", "🚌": "bus", "🚲": "bicycle|bike", "🚚": "truck|lorry", "⛵": "sailboat|boat",
    "🚀": "rocket", "✈": "airplane|plane",
}  # fmt: skip
_OTHERS = {
    "🏠": "house|home", "🌳": "tree", "🌻": "sunflower|flower", "☕": "cup|coffee", "📕": "book",
    "⏰": "alarm clock|clock", "🔑": "key", "⚽": "soccer ball|ball", "🎁": "gift|present", "🎸": "guitar",
    "🎈": "balloon", "👑": "crown",
}  # fmt: skip

EMOJI: tuple[Emoji, ...] = tuple(
    _group("animal", _ANIMALS)
    + _group("fruit", _FRUITS)
    + _group("food", _FOODS)
    + _group("vehicle", _VEHICLES)
    + _group(None, _OTHERS)
)
SUPERCLASSES = ("animal", "food", "fruit", "vehicle")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# The two lists share no word: the held-out one measures what the model does with words it has never been asked for.
UNKNOWN_TRAINING = _words(
    "lion monkey bear horse cheese castle cactus hat camera bell zebra "
    "whale snake chair window road person man child hand sky cloud train spoon fork plate bottle phone television "
    "wall grass bridge tower street bench shoe shirt lamp pencil paper box bucket hammer drum violin potato onion "
    "mushroom egg bread soup dragon sword snowman moon planet hexagon arrow spiral oval"
)
UNKNOWN_HELD_OUT = _words(
    "helicopter laptop giraffe shark table woman face water mountain ship knife door sand sign bag bed post "
    "pen ladder piano tomato rice robot shield ghost sun umbrella bicyclist scissors kettle pumpkin"
)

_IRREGULAR_PLURALS = {
    "grapes": "grapes", "fish": "fish", "strawberry": "strawberries", "bus": "buses", "puppy": "puppies",
    "bunny": "bunnies", "butterfly": "butterflies", "cross": "crosses", "coffee": "coffee", "fox": "foxes",
    "lorry": "lorries",
}  # fmt: skip


def plural(phrase: str) -> str:
    """The phrase with its last word in the plural: "red cross" becomes "red crosses"."""
    *front, last = phrase.split()
    return " ".join([*front, _IRREGULAR_PLURALS.get(last, last + "s")])


@dataclass(frozen=True)
class Concept:
    """A kind of thing that can be drawn: either a shape in a colour, or an emoji; the fields of the other are None."""

    shape: str | None = None
    colour: str | None = None
    emoji: Emoji | None = None

    @cached_property
    def phrases(self) -> dict[PromptKind, tuple[str, ...]]:
        """Every phrase that is true of the thing, by kind; the usual name of a kind comes first."""
        if self.emoji is None:
            return {
                PromptKind.COLOUR_SHAPE: (f"{self.colour} {self.shape}",),
                PromptKind.SHAPE: (str(self.shape),),
                PromptKind.COLOUR: (f"{self.colour} shape",),
                PromptKind.ANY_SHAPE: ("shape",),
            }
        named = {PromptKind.EMOJI: self.emoji.names}
        return named | ({PromptKind.SUPERCLASS: (self.emoji.superclass,)} if self.emoji.superclass else {})

    @cached_property
    def names(self) -> frozenset[str]:
        """All phrases of the thing, whatever their kind."""
        return frozenset(phrase for phrases in self.phrases.values() for phrase in phrases)

    @property
    def name(self) -> str:
        """The most specific usual phrase: "red circle", "cat"."""
        return next(iter(self.phrases.values()))[0]


SHAPE_CONCEPTS = tuple(Concept(shape=shape, colour=colour) for shape in SHAPES for colour in COLOUR_NAMES)
EMOJI_CONCEPTS = tuple(Concept(emoji=emoji) for emoji in EMOJI)

HELD_OUT_COMBINATIONS = tuple(
    Concept(shape=shape, colour=colour) for shape, colour in zip(SHAPES, reversed(COLOUR_NAMES), strict=True)
)
"""Each shape in one colour and each colour on one shape: training neither draws these nor asks for them."""
TRAINED_COMBINATIONS = tuple(concept for concept in SHAPE_CONCEPTS if concept not in HELD_OUT_COMBINATIONS)

# What the auxiliary per-token classifier of the vision tower tells apart.
TOKEN_CLASSES = (*SHAPES, *COLOUR_NAMES, *(emoji.names[0] for emoji in EMOJI))
_TOKEN_CLASS_INDEX = {name: index for index, name in enumerate(TOKEN_CLASSES)}


def token_classes(concept: Concept) -> tuple[int, ...]:
    """Indices into `TOKEN_CLASSES` that hold for the thing: its shape and its colour, or its emoji."""
    names = (concept.emoji.names[0],) if concept.emoji else (str(concept.shape), str(concept.colour))
    return tuple(_TOKEN_CLASS_INDEX[name] for name in names)


def known_words() -> list[str]:
    """Every word, singular and plural, that gets a token of its own; in a fixed order."""
    phrases = [*COLOUR_NAMES, *SHAPES, "shape", "visual", "a", "the", "an", *SUPERCLASSES]
    phrases += [name for emoji in EMOJI for name in emoji.names]
    words = [word for phrase in [*phrases, *map(plural, phrases)] for word in phrase.split()]
    return list(dict.fromkeys(words))
