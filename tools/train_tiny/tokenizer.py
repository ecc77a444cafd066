"""A byte-pair tokenizer in CLIP's format, small enough for the tiny model.

Each known word becomes exactly one token; any other text falls back to shorter pieces, down to single bytes.
Format: https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py
"""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

from tools.train_tiny.vocabulary import known_words

MAX_TOKENS = 32
WORD_END = "</w>"
Merge = tuple[str, str]


def byte_alphabet() -> list[str]:
    """CLIP's 256 printable stand-ins for bytes: printable Latin-1 keeps its character, the rest moves above U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(hidden))]


def _apply_merges(pieces: list[str], ranks: dict[Merge, int]) -> list[str]:
    while True:
        known = [(ranks[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not known:
            return pieces
        _, at = min(known)
        pieces = [*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :]]


def learn_merges(words: Iterable[str]) -> list[Merge]:
    """Merges, in rank order, under which each of the words is one token."""
    ranks: dict[Merge, int] = {}
    for word in words:
        pieces = _apply_merges([*word[:-1], word[-1] + WORD_END], ranks)
        while len(pieces) > 1:
            ranks[(pieces[0], pieces[1])] = len(ranks)
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return list(ranks)


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write `vocab.json` and `merges.txt` for the known words into `folder` and load them as a CLIP tokenizer."""
    return tokenizer_of(learn_merges(known_words()), folder)


def tokenizer_of(merges: Sequence[Merge], folder: Path) -> CLIPTokenizer:
    """Write `vocab.json` and `merges.txt`, numbered as CLIP numbers its tokens, and load them as a CLIP tokenizer."""
    alphabet = byte_alphabet()
    tokens = [*alphabet, *(byte + WORD_END for byte in alphabet), *("".join(merge) for merge in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(merge) for merge in merges)]) + "\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=MAX_TOKENS)
