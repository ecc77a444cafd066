"""The two phases of training: the vision tower alone on dense targets, then the whole model on prompts.

Schedules count steps, a step is made of shards, and shard k of step i draws its data from the address (stream, seed,
i x shards + k): a run can be stopped and resumed, or spread over processes, without changing what it sees.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tools.train_tiny.architecture import AuxiliaryHeads, Size, build_model, normalise_pyramid
from tools.train_tiny.attention import use_float32_attention
from tools.train_tiny.batches import Batch, BatchPlan, VisionBatch, training_batch, vision_batch
from tools.train_tiny.export import export
from tools.train_tiny.forward import forward, vision_features
from tools.train_tiny.losses import Losses, all_losses, dense_losses
from tools.train_tiny.meter import Meter
from tools.train_tiny.prompts import PromptMix
from tools.train_tiny.replicas import add_gradients, shards_of
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.tokenizer import build_tokenizer

log = logging.getLogger(__name__)

Drawn = TypeVar("Drawn", Batch, VisionBatch)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a run, beside the code and the kind of machine."""

    seed: int = 0
    pretraining_steps: int = 2000
    pretraining_images: int = 16
    steps: int = 9500
    cooling_steps: int = 5000
    shards: int = 2
    learning_rate: float = 8e-4
    vision_rate: float = 0.4
    weight_decay: float = 0.03
    ema_decay: float = 0.998
    clip_norm: float = 2.0
    bfloat16: bool = True
    size: Size = field(default_factory=Size)
    plan: BatchPlan = field(default_factory=BatchPlan)
    mix: PromptMix = field(default_factory=PromptMix)


@dataclass(frozen=True)
class Place:
    """Where a run happens: its folder and device, processes that draw batches ahead (0: none), its replicas."""

    folder: Path
    device: torch.device
    workers: int = 0
    checkpoint_every: int = 250
    rank: int = 0
    processes: int = 1
    threads: int = 1

    @property
    def checkpoint(self) -> Path:
        """The file from which an interrupted run resumes."""
        return self.folder / "train.pt"


class _Shards(Dataset[Drawn], Generic[Drawn]):
    """The batches of these addresses, drawn on demand."""

    def __init__(self, draw: Any, addresses: Sequence[int]) -> None:
        self._draw, self._addresses = draw, addresses

    def __len__(self) -> int:
        return len(self._addresses)

    def __getitem__(self, index: int) -> Drawn:
        return self._draw(self._addresses[index])  # type: ignore[no-any-return]


def _steps(draw: Any, steps: range, shards: int, place: Place) -> Iterator[list[Any]]:
    """For each step the batches of the shards that are this process's."""
    own = shards_of(place.rank, place.processes, shards)
    addresses = [step * shards + shard for step in steps for shard in own]
    ahead = 4 if place.workers else None
    loader = iter(
        DataLoader(_Shards(draw, addresses), batch_size=None, num_workers=place.workers, prefetch_factor=ahead)
    )
    for _ in steps:
        yield [next(loader).to(place.device) for _ in own]


class Trainer:
    """One run: model, auxiliary heads, optimizer, running average of the weights, and the step it has reached."""

    def __init__(self, recipe: Recipe, place: Place) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.place = recipe, place
        self.tokenizer = build_tokenizer(place.folder / f"tokenizer{place.rank or ''}")
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

    def _vision_parameters(self) -> list[nn.Parameter]:
        vision = self.model.vision_encoder
        return [*vision.backbone.parameters(), *vision.neck.fpn_layers[2].parameters()]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.place.device.type, torch.bfloat16, enabled=self.recipe.bfloat16)

    def _pretrain(self) -> None:
        """Teach the vision tower what lies where, at four times the images per second of the whole model."""
        recipe = self.recipe
        parameters = [*self._vision_parameters(), *self.heads.parameters()]
        optimizer = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
        )
        meter = Meter("pretraining", recipe.pretraining_steps)
        steps = range(recipe.pretraining_steps)
        for step, batches in enumerate(_steps(self._draw_vision, steps, recipe.shards, self.place)):
            warm_up = min(1.0, (step + 1) / 50)
            rate = 1.5 * recipe.learning_rate * warm_up * (0.1 + 0.9 * _cosine(step / recipe.pretraining_steps))
            losses = self._gradients(parameters, batches, self._vision_losses)
            self._descend(optimizer, parameters, [rate] * len(optimizer.param_groups))
            meter.add(step + 1, losses)
        sample = vision_batch(generator(Stream.PRETRAINING, recipe.seed, 10**9), 16, recipe.size).to(self.place.device)
        log.info("pyramid scales %s", [round(scale, 2) for scale in normalise_pyramid(self.model, sample.pixel_values)])

    def _draw_vision(self, address: int) -> VisionBatch:
        rng = generator(Stream.PRETRAINING, self.recipe.seed, address)
        return vision_batch(rng, self.recipe.pretraining_images, self.recipe.size)

    def _vision_losses(self, batch: VisionBatch) -> Losses:
        with self._autocast():
            _, features = vision_features(self.model, batch.pixel_values)
        return dense_losses(features.float(), batch.tokens, self.heads)

    def _train(self) -> None:
        recipe = self.recipe
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        meter = Meter("training", recipe.steps)
        for batches in _steps(self._draw_training, range(self.step, recipe.steps), recipe.shards, self.place):
            losses = self._gradients(parameters, batches, self._training_losses)
            rate = self._learning_rate()
            self._descend(self.optimizer, parameters, [rate * group["rate"] for group in self.optimizer.param_groups])
            self.step += 1
            self._update_average()
            meter.add(self.step, losses)
            if self.step % self.place.checkpoint_every == 0 or self.step == recipe.steps:
                self._save()

    def _draw_training(self, address: int) -> Batch:
        recipe = self.recipe
        rng = generator(Stream.TRAINING, recipe.seed, address)
        return training_batch(rng, self.tokenizer, recipe.plan, recipe.size, recipe.mix)

    def _training_losses(self, batch: Batch) -> Losses:
        with self._autocast():
            output = forward(self.model, batch, self.recipe.plan.mask_images)
        return all_losses(output, batch, self.heads)

    def _learning_rate(self) -> float:
        """Warm up, hold, then fall along a cosine to 2 %."""
        recipe = self.recipe
        cooled = max(0.0, 1 - (recipe.steps - self.step) / recipe.cooling_steps)
        return recipe.learning_rate * min(1.0, (self.step + 1) / 150) * (0.02 + 0.98 * _cosine(cooled))

    def _gradients(
        self, parameters: list[nn.Parameter], batches: Sequence[Drawn], losses_of: Callable[[Drawn], Losses]
    ) -> Losses:
        """Gradients of the mean over all shards; returns the losses of this process's last one.

        A parameter that no loss reaches has a gradient of zero, so that its weight decays with any number of processes.
        """
        for parameter in [*self.model.parameters(), *self.heads.parameters()]:
            parameter.grad = torch.zeros_like(parameter)
        losses: Losses = {}
        for batch in batches:
            losses = losses_of(batch)
            (torch.stack(list(losses.values())).sum() / self.recipe.shards).backward()
        add_gradients(parameters)
        return losses

    def _descend(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], rates: list[float]) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm)
        if torch.isfinite(norm):
            optimizer.step()
        else:
            log.warning("a step was skipped: the norm of its gradients is %s", norm.item())

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.ema_decay, (1 + self.step) / (20 + self.step))
        current = self.model.state_dict()
        names = [name for name, tensor in self.average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in names], [current[n] for n in names], 1 - decay)

    def _save(self) -> None:
        """Replace the checkpoint in one step, so that an interrupted save leaves the one before."""
        if self.place.rank:
            return
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "recipe": asdict(self.recipe),
        }
        partial = self.place.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.place.checkpoint)
        self._export()

    def _export(self) -> None:
        export(self.model.config, self.average, self.tokenizer, self.recipe.size, self.place.folder / "model")
        (self.place.folder / "recipe.json").write_text(json.dumps(asdict(self.recipe), indent=1) + "\n")

    def _resume(self) -> None:
        """Go on where the checkpoint is; ValueError when another recipe has led there."""
        state = torch.load(self.place.checkpoint, map_location=self.place.device, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"{self.place.checkpoint} is of another recipe, the one of recipe.json beside it")
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step = state["average"], state["step"]
        log.info("resuming at step %d", self.step)
        if self.step == self.recipe.steps and not self.place.rank:
            self._export()  # the run may have ended between checkpoint and export


def train_replica(recipe: Recipe, place: Place, rank: int) -> None:
    """The whole run, as one of `place.processes` processes; the first of them logs, and saves."""
    logging.basicConfig(level=logging.WARNING if rank else logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(place.threads)
    cv2.setNumThreads(place.threads)
    Trainer(recipe, replace(place, rank=rank)).run()


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
