from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.train_tiny.tokenizer import build_tokenizer, learn_merges
from tools.train_tiny.vocabulary import EMOJI, UNKNOWN_HELD_OUT, UNKNOWN_TRAINING, known_words, plural

Tokenizer = Any


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_each_known_word_is_one_token(tokenizer: Tokenizer) -> None:
    assert {word: tokenizer.tokenize(word) for word in known_words()} == {
        word: [word + "</w>"] for word in known_words()
    }


@pytest.mark.parametrize("text", ["helicopter", "Zebra", "x-ray", "naïve", "日本", "red helicopters"])
def test_other_text_falls_back_to_pieces_and_comes_back(tokenizer: Tokenizer, text: str) -> None:
    identifiers = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in identifiers[1:-1]
    decoded = tokenizer.decode(identifiers, skip_special_tokens=True)
    assert decoded.replace(" ", "") == text.lower().replace(" ", "")


def test_special_tokens_are_where_the_model_expects_them(tokenizer: Tokenizer) -> None:
    identifiers = tokenizer("red circle")["input_ids"]
    assert identifiers[0] == tokenizer.bos_token_id == len(tokenizer) - 2
    assert identifiers[-1] == tokenizer.eos_token_id == tokenizer.pad_token_id == len(tokenizer) - 1


def test_merges_are_the_same_each_time() -> None:
    assert learn_merges(known_words()) == learn_merges(known_words())


def test_saved_tokenizer_reads_alike(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(str(tmp_path))
    assert again("alarm clocks and a zebra")["input_ids"] == tokenizer("alarm clocks and a zebra")["input_ids"]


def test_unknown_words_are_unknown_and_held_out_ones_untrained() -> None:
    known = set(known_words())
    assert not known & {word for name in (*UNKNOWN_TRAINING, *UNKNOWN_HELD_OUT) for word in (name, plural(name))}
    assert not set(UNKNOWN_TRAINING) & set(UNKNOWN_HELD_OUT)


def test_no_two_drawings_share_a_name() -> None:
    names = [name for emoji in EMOJI for name in emoji.names]
    assert len(names) == len(set(names))
