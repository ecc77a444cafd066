"""The two phases of training: the vision tower alone on dense targets, then the whole model on prompts.

Schedules count steps and step i draws its data from the address (stream, seed, i), so a run can be stopped and resumed
without changing what it sees.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tools.train_tiny.architecture import AuxiliaryHeads, Size, build_model, normalise_pyramid
from tools.train_tiny.attention import use_float32_attention
from tools.train_tiny.batches import Batch, BatchPlan, VisionBatch, training_batch, vision_batch
from tools.train_tiny.export import export
from tools.train_tiny.forward import forward, vision_features
from tools.train_tiny.losses import Losses, all_losses, dense_losses
from tools.train_tiny.prompts import PromptMix
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.tokenizer import build_tokenizer

log = logging.getLogger(__name__)

Drawn = TypeVar("Drawn", Batch, VisionBatch)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a run, beside the code and the kind of machine."""

    seed: int = 0
    pretraining_steps: int = 1300
    pretraining_images: int = 32
    steps: int = 4000
    learning_rate: float = 1e-3
    vision_rate: float = 0.4
    frozen_share: float = 0.45
    hold_share: float = 0.3
    weight_decay: float = 0.02
    ema_decay: float = 0.998
    clip_norm: float = 2.0
    bfloat16: bool = True
    size: Size = field(default_factory=Size)
    plan: BatchPlan = field(default_factory=BatchPlan)
    mix: PromptMix = field(default_factory=PromptMix)


@dataclass(frozen=True)
class Place:
    """Where a run happens: its folder, device, and processes that draw batches ahead of it (0: none)."""

    folder: Path
    device: torch.device
    workers: int = 0
    checkpoint_every: int = 400

    @property
    def checkpoint(self) -> Path:
        """The file from which an interrupted run resumes."""
        return self.folder / "train.pt"


class _Steps(Dataset[Drawn], Generic[Drawn]):
    """The batches of steps `first` up to `last`, drawn on demand."""

    def __init__(self, draw: Any, first: int, last: int) -> None:
        self._draw, self._first, self._last = draw, first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, index: int) -> Drawn:
        return self._draw(self._first + index)  # type: ignore[no-any-return]


def _batches(draw: Any, first: int, last: int, place: Place) -> Iterator[Any]:
    ahead = 4 if place.workers else None
    loader = DataLoader(_Steps(draw, first, last), batch_size=None, num_workers=place.workers, prefetch_factor=ahead)
    for batch in loader:
        yield batch.to(place.device)


class Trainer:
    """One run: model, auxiliary heads, optimizer, running average of the weights, and the step it has reached."""

    def __init__(self, recipe: Recipe, place: Place) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.place = recipe, place
        self.tokenizer = build_tokenizer(place.folder / "tokenizer")
        self.model: Any = build_model(len(self.tokenizer), recipe.size).to(place.device).train()
        use_float32_attention(self.model)
        self.heads = AuxiliaryHeads(recipe.size.width).to(place.device)
        self.optimizer = torch.optim.AdamW(self._parameter_groups(), lr=recipe.learning_rate, betas=(0.9, 0.95))
        self.average: dict[str, Tensor] = {}
        self.step = 0

    def run(self) -> Path:
        """Train from the last checkpoint, or from the start, to the end; returns the folder of the exported model."""
        if self.place.checkpoint.exists():
            self._resume()
        else:
            self._pretrain()
            self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            self._save()
        self._train()
        return self.place.folder / "model"

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay for matrices only; the pre-trained vision tower learns more slowly than the rest."""
        vision = {id(p) for p in self._vision_parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in [*self.model.parameters(), *self.heads.parameters()]:
            groups.setdefault((parameter.dim() > 1, id(parameter) in vision), []).append(parameter)
        return [
            {"params": group, "weight_decay": self.recipe.weight_decay * matrix, "rate": self._rate(is_vision)}
            for (matrix, is_vision), group in sorted(groups.items(), key=lambda item: item[0])
        ]

    def _rate(self, is_vision: bool) -> float:
        return self.recipe.vision_rate if is_vision else 1.0

    def _vision_parameters(self) -> Iterable[nn.Parameter]:
        vision = self.model.vision_encoder
        return [*vision.backbone.parameters(), *vision.neck.fpn_layers[2].parameters()]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.place.device.type, torch.bfloat16, enabled=self.recipe.bfloat16)

    # Phase 1

    def _pretrain(self) -> None:
        """Teach the vision tower what lies where, at four times the images per second of the whole model."""
        recipe = self.recipe
        parameters = [*self._vision_parameters(), *self.heads.parameters()]
        optimizer = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
        )
        meter = Meter("pretraining", recipe.pretraining_steps)
        for step, batch in enumerate(_batches(self._draw_vision, 0, recipe.pretraining_steps, self.place)):
            warm_up = min(1.0, (step + 1) / 50)
            rate = 1.5 * recipe.learning_rate * warm_up * (0.1 + 0.9 * _cosine(step / recipe.pretraining_steps))
            losses = self._vision_losses(batch)
            self._descend(optimizer, parameters, losses, [rate] * len(optimizer.param_groups))
            meter.add(step + 1, losses)
        sample = vision_batch(generator(Stream.PRETRAINING, recipe.seed, 10**9), 16, recipe.size).to(self.place.device)
        log.info("pyramid scales %s", [round(scale, 2) for scale in normalise_pyramid(self.model, sample.pixel_values)])

    def _draw_vision(self, step: int) -> VisionBatch:
        rng = generator(Stream.PRETRAINING, self.recipe.seed, step)
        return vision_batch(rng, self.recipe.pretraining_images, self.recipe.size)

    def _vision_losses(self, batch: VisionBatch) -> Losses:
        with self._autocast():
            _, features = vision_features(self.model, batch.pixel_values)
        return dense_losses(features.float(), batch.tokens, self.heads)

    # Phase 2

    def _train(self) -> None:
        recipe = self.recipe
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        meter = Meter("training", recipe.steps)
        for batch in _batches(self._draw_training, self.step, recipe.steps, self.place):
            rate = self._learning_rate()
            losses = self._training_losses(batch)
            rates = [rate * group["rate"] for group in self.optimizer.param_groups]
            self._descend(self.optimizer, parameters, losses, rates)
            self.step += 1
            self._update_average()
            meter.add(self.step, losses)
            if self.step % self.place.checkpoint_every == 0 or self.step == recipe.steps:
                self._save()

    def _draw_training(self, step: int) -> Batch:
        recipe = self.recipe
        rng = generator(Stream.TRAINING, recipe.seed, step)
        return training_batch(rng, self.tokenizer, recipe.plan, recipe.size, recipe.mix)

    def _training_losses(self, batch: Batch) -> Losses:
        train_vision = self.step >= self.recipe.frozen_share * self.recipe.steps
        with self._autocast():
            output = forward(self.model, batch, self.recipe.plan.mask_images, train_vision=train_vision)
        return all_losses(output, batch, self.heads)

    def _learning_rate(self) -> float:
        """Warm up, hold, then fall along a cosine to 2 %."""
        recipe, progress = self.recipe, self.step / self.recipe.steps
        falling = max(0.0, (progress - recipe.hold_share) / (1 - recipe.hold_share))
        return recipe.learning_rate * min(1.0, (self.step + 1) / 150) * (0.02 + 0.98 * _cosine(falling))

    def _descend(
        self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], losses: Losses, rates: list[float]
    ) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm)
        if torch.isfinite(norm):
            optimizer.step()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.ema_decay, (1 + self.step) / (20 + self.step))
        current = self.model.state_dict()
        names = [name for name, tensor in self.average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in names], [current[n] for n in names], 1 - decay)

    # Checkpoints

    def _save(self) -> None:
        """Replace the checkpoint in one step, so that an interrupted save leaves the one before."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        partial = self.place.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.place.checkpoint)
        folder = self.place.folder / "model"
        export(self.model.config, self.average, self.tokenizer, self.recipe.size, folder)
        (self.place.folder / "recipe.json").write_text(json.dumps(asdict(self.recipe), indent=1) + "\n")

    def _resume(self) -> None:
        state = torch.load(self.place.checkpoint, map_location=self.place.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step = state["average"], state["step"]
        log.info("resuming at step %d", self.step)


class Meter:
    """Logs the mean of each loss every `every` steps, with the steps per second."""

    def __init__(self, phase: str, total: int, every: int = 50) -> None:
        self._phase, self._total, self._every = phase, total, every
        self._sums: dict[str, float] = {}
        self._since = time.perf_counter()

    def add(self, step: int, losses: Losses) -> None:
        """Count one step."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach()) / self._every
        if step % self._every:
            return
        speed = self._every / (time.perf_counter() - self._since)
        shown = " ".join(f"{name} {value:.3f}" for name, value in self._sums.items())
        log.info("%s %d/%d  %.2f steps/s  %s", self._phase, step, self._total, speed, shown)
        self._sums, self._since = {}, time.perf_counter()


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
