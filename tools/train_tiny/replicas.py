"""Shards of a step on several processes: each adds up the gradients of its own, and their sum is the step's.

Every process holds the whole model and takes the same steps, so nothing but gradients is ever exchanged. On a CPU one
thread a process is far faster than several threads in one: these layers are too small to be split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.multiprocessing.spawn import spawn

Job = Callable[[int], Any]


def run_replicas(job: Job, processes: int, folder: Path) -> None:
    """Call `job(rank)` in as many processes, joined in one group; in this one where it is just one."""
    if processes == 1:
        job(0)
        return
    meeting = folder / "replicas"
    meeting.unlink(missing_ok=True)
    spawn(_replica, (job, processes, f"file://{meeting.absolute()}"), nprocs=processes)


def _replica(rank: int, job: Job, processes: int, meeting: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    try:
        job(rank)
    finally:
        torch.distributed.destroy_process_group()


def shards_of(rank: int, processes: int, shards: int) -> range:
    """The shards of each step that a process draws and computes."""
    return range(rank, shards, processes)


def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients, which all parameters have, by their sum over all processes."""
    if not torch.distributed.is_initialized():
        return
    whole = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    torch.distributed.all_reduce(whole)
    for parameter, part in zip(parameters, whole.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
