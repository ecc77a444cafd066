from __future__ import annotations

import torch

from service.engine.selection import select


def test_a_score_must_be_greater_than_the_threshold() -> None:
    found = select(torch.tensor([[0.5, 0.25, 0.75]]), [(0.5, 10)])
    assert [indices.tolist() for indices in found.kept] == [[2]]


def test_the_best_come_first_and_no_more_than_the_limit() -> None:
    found = select(torch.tensor([[0.5, 0.25, 0.75], [0.1, 0.2, 0.3]]), [(0.0, 2), (0.25, 9)])
    assert [indices.tolist() for indices in found.kept] == [[2, 0], [2]]
    assert [scores.tolist() for scores in found.scores] == [[0.75, 0.5], [torch.tensor(0.3).item()]]
