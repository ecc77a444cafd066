"""CLIP's byte-pair merges, which make SAM 3's tokenizer: found in a checkpoint folder, written as upstream reads them.

The `sam3` package on PyPI lacks the file; the merges in a checkpoint's `tokenizer.json` are the same ones.
"""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

from service.engine.official_weights import BadCheckpoint

BPE_FILE = "bpe_simple_vocab_16e6.txt.gz"
# 49,408 tokens, less 2 × 256 bytes and the two special ones (upstream's model/tokenizer_ve.py: SimpleTokenizer).
MERGES = 49_408 - 2 * 256 - 2


def find_merges(folder: Path) -> list[str]:
    """The merges, `left right` each, in rank order: from the folder's BPE file or tokenizer.json, or open_clip's file.

    Raises BadCheckpoint when there is none, or it is not CLIP's.
    """
    tokenizer = folder / "tokenizer.json"
    places = [folder / BPE_FILE, *_from_open_clip()]
    if tokenizer.is_file() and not places[0].is_file():
        return _complete(_from_tokenizer(tokenizer), tokenizer)
    for path in places:
        if path.is_file():
            return _complete(_from_bpe(path), path)
    raise BadCheckpoint(
        f"lacks the text vocabulary: put tokenizer.json of facebook/sam3 or {BPE_FILE} beside it, "
        "or pip install 'sam3-service[official]'"
    )


def write_bpe(merges: list[str], path: Path) -> None:
    """Write the file that upstream's SimpleTokenizer reads: gzip, one line of heading, one merge a line."""
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *merges, ""]).encode(), compresslevel=1))


def _from_bpe(path: Path) -> list[str]:
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    except (OSError, EOFError, ValueError) as error:
        raise BadCheckpoint(f"{path.name} cannot be read ({error})") from error
    return [line for line in lines[1 : MERGES + 1] if line]


def _from_tokenizer(path: Path) -> list[str]:
    try:
        merges = json.loads(path.read_text())["model"]["merges"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{path.name} is no tokenizer of transformers ({error!r})") from error
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def _complete(merges: list[str], path: Path) -> list[str]:
    if len(merges) != MERGES or any(len(merge.split()) != 2 for merge in merges):
        raise BadCheckpoint(f"{path.name} is not CLIP's vocabulary: it holds {len(merges)} merges, not {MERGES}")
    return merges


def _from_open_clip() -> list[Path]:
    """Where open_clip_torch keeps the file, if it is installed; it is not imported."""
    spec = find_spec("open_clip")
    return [Path(folder) / BPE_FILE for folder in (spec.submodule_search_locations or ())] if spec else []
