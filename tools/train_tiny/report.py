"""Pairs → the tables of the model card: by kind and by concept, confusions of names, calibration of the score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from tools.train_tiny.evaluation import AGAIN, NO_OBJECT, Exclusions, Pair
from tools.train_tiny.figures import Figures, matches
from tools.train_tiny.vocabulary import EMOJI, PromptKind

ALL = "all"
LOWEST_SCORE = 0.1
_SCORE_BINS = tuple(np.linspace(LOWEST_SCORE, 1, 10).round(1).tolist())
_USUAL_NAME = {name: emoji.names[0] for emoji in EMOJI for name in emoji.names}


@dataclass
class Tally:
    """What the pairs of one plan add up to."""

    kinds: dict[str, Figures] = field(default_factory=lambda: {ALL: Figures()})
    concepts: dict[str, Figures] = field(default_factory=dict)
    mistakes: Counter[tuple[str, str]] = field(default_factory=Counter)
    calibration: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in _SCORE_BINS[1:]])

    @property
    def whole(self) -> Figures:
        """The figures over all pairs."""
        return self.kinds[ALL]

    @property
    def known(self) -> Figures:
        """The figures of all phrases but unknown words."""
        known = Figures()
        for kind, figures in self.kinds.items():
            if kind not in (ALL, PromptKind.UNKNOWN.value):
                known.add(figures)
        return known

    def add(self, pair: Pair) -> None:
        """Count one more pair."""
        figures = pair.figures
        self.whole.add(figures)
        self.kinds.setdefault(pair.prompt.kind.value, Figures()).add(figures)
        if pair.prompt.kind in (PromptKind.EMOJI, PromptKind.SHAPE, PromptKind.COLOUR, PromptKind.SUPERCLASS):
            name = _USUAL_NAME.get(pair.prompt.phrase, pair.prompt.phrase)
            self.concepts.setdefault(name, Figures()).add(figures)
        self.mistakes.update((pair.prompt.phrase or pair.prompt.text, name) for name in pair.mistaken())
        self._calibrate(pair)

    def _calibrate(self, pair: Pair) -> None:
        right = {row for row, _, _ in matches(pair.found.masks, pair.truth)}
        for row, score in enumerate(pair.found.scores.tolist()):
            at = int(np.clip(np.searchsorted(_SCORE_BINS, score, "right") - 1, 0, len(self.calibration) - 1))
            self.calibration[at][0] += 1
            self.calibration[at][1] += row in right


def tally(pairs: Iterable[Pair]) -> Tally:
    """Count all pairs."""
    total = Tally()
    for pair in pairs:
        total.add(pair)
    return total


_COLUMNS: dict[str, Callable[[Figures], str]] = {
    "pairs": lambda f: str(f.pairs),
    "instances": lambda f: str(f.instances),
    "precision": lambda f: _share(f.precision, f.found),
    "recall": lambda f: _share(f.recall, f.instances),
    "mask IoU": lambda f: _share(f.mask_iou, f.matched),
    "box IoU": lambda f: _share(f.box_iou, f.matched),
    "presence right": lambda f: f"{f.presence:.3f}",
    "absent prompts": lambda f: str(f.absent),
    "of these answered": lambda f: _share(f.false_answers, f.absent),
}


def figures_table(title: str, rows: dict[str, Figures]) -> str:
    """One row for each name, all figures."""
    lines = (" | ".join([name, *(show(figures) for show in _COLUMNS.values())]) for name, figures in rows.items())
    return _table(" | ".join([title, *_COLUMNS]), lines)


def concept_table(concepts: dict[str, Figures], abreast: int = 3) -> str:
    """Instances, precision and recall of every name of one attribute, `abreast` names a row."""
    cells = [
        f"{name} | {f.instances} | {_share(f.precision, f.found)} | {_share(f.recall, f.instances)}"
        for name, f in sorted(concepts.items())
    ]
    cells += ["| | |"] * (-len(cells) % abreast)
    rows = len(cells) // abreast
    lines = (" | ".join(cells[row::rows]) for row in range(rows))
    return _table(" | ".join(["asked for | instances | precision | recall"] * abreast), lines)


def mistake_table(mistakes: Counter[tuple[str, str]]) -> str:
    """How often a wrong find shows another object, the same one again, or none."""
    counts = Counter({"another object": 0, AGAIN: 0, NO_OBJECT: 0})
    for (_, shown), count in mistakes.items():
        counts[shown if shown in counts else "another object"] += count
    return _table("wrong finds show | finds", (f"{shown} | {count}" for shown, count in counts.items()))


def confusion_table(mistakes: Counter[tuple[str, str]], most: int = 15) -> str:
    """The objects that are commonest found instead of what was asked for."""
    named = Counter({key: count for key, count in mistakes.items() if key[1] not in (AGAIN, NO_OBJECT)})
    lines = (f"{phrase} | {name} | {count}" for (phrase, name), count in named.most_common(most))
    return _table("asked for | found instead | finds", lines)


def calibration_table(calibration: list[list[int]]) -> str:
    """For each range of the score the share of finds that are right."""
    bins = zip(_SCORE_BINS[:-1], _SCORE_BINS[1:], calibration, strict=True)
    lines = (
        f"{low:.1f} – {high:.1f} | {finds} | {_share(right / max(1, finds), finds)}"
        for low, high, (finds, right) in bins
    )
    return _table("score | finds | right", lines)


def exclusion_table(rows: dict[str, Exclusions]) -> str:
    """What a negative box does."""
    lines = (f"{name} | {e.cases} | {e.removed_share:.3f} | {e.kept_share:.3f}" for name, e in rows.items())
    return _table("scenes | cases | excluded look gone | other finds kept", lines)


def _table(head: str, lines: Iterable[str]) -> str:
    rule = "|".join(["---"] * (head.count("|") + 1))
    return "\n".join(_row(line) for line in [head, rule, *lines])


def _row(line: str) -> str:
    return f"|{line}|" if set(line) <= {"|", "-"} else f"| {line} |"


def _share(value: float, count: int) -> str:
    return f"{value:.3f}" if count else "–"
