from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.sam3.modeling_sam3 import Sam3Model

from service.engine.loading import EngineConfig, load_engine
from service.engine.weights import Source
from tools.train_tiny.architecture import AuxiliaryHeads, Size, build_model
from tools.train_tiny.batches import PADDING_LABEL, Batch, BatchPlan, training_batch
from tools.train_tiny.forward import forward
from tools.train_tiny.losses import all_losses, giou
from tools.train_tiny.prompts import PromptMix
from tools.train_tiny.replicas import run_replicas, shards_of
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.tokenizer import build_tokenizer
from tools.train_tiny.training import Place, Recipe, Trainer, train_replica

SMALL = Size(
    image_px=56,
    vision_width=32,
    vision_layers=2,
    width=32,
    text_width=32,
    encoder_layers=1,
    decoder_layers=2,
    queries=9,
)
PLAN = BatchPlan(images=3, prompts=4, mask_images=2, mask_rows=6)
MIX = PromptMix(visual=0.4)
RECIPE = Recipe(
    pretraining_steps=2,
    pretraining_images=2,
    steps=4,
    cooling_steps=2,
    size=SMALL,
    plan=PLAN,
    mix=MIX,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small lose more to the threads' waiting for each other than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def batch(tokenizer: Any) -> Batch:
    drawn = training_batch(generator(Stream.TRAINING, 0, 3), tokenizer, PLAN, SMALL, MIX)
    with_boxes = (drawn.exemplar_labels != PADDING_LABEL).any(1)
    assert with_boxes.any() and not with_boxes.all(), "the batch should hold prompts with and without boxes"
    assert (drawn.exemplar_labels == 0).any() and (drawn.exemplar_labels == 1).any(), "and boxes of both signs"
    assert len(drawn.mask_rows)
    return drawn


def small_model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    return build_model(len(tokenizer), SMALL)


def test_the_training_forward_is_the_models_own(tokenizer: Any, batch: Batch) -> None:
    """`Sam3Model.forward` gets each row by itself; a row of padded boxes only is text with the geometry CLS token."""
    model = small_model(tokenizer).eval()
    with torch.no_grad():
        ours = forward(model, batch, PLAN.mask_images)
        theirs = model(
            pixel_values=batch.pixel_values.repeat_interleave(PLAN.prompts, 0),
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            input_boxes=batch.exemplar_boxes,
            input_boxes_labels=batch.exemplar_labels,
        )
    assert_close = partial(torch.testing.assert_close, rtol=0, atol=1e-5)
    assert_close(ours.boxes[-1], theirs.pred_boxes)
    assert_close(ours.logits[-1], theirs.pred_logits)
    assert_close(ours.presence[-1], theirs.presence_logits.squeeze(-1))
    assert_close(ours.masks, theirs.pred_masks[batch.mask_rows])
    assert_close(ours.relevance, theirs.semantic_seg[batch.mask_rows, 0])


def test_targets_point_at_their_objects(batch: Batch) -> None:
    """The box of a target lies around its mask, and the relevance map is the union of the targets' masks."""
    for row, count in enumerate(batch.target_count.tolist()):
        masks = batch.object_masks[row // PLAN.prompts, batch.target_objects[row, :count]]
        torch.testing.assert_close(batch.relevance[row], masks.sum(0).clamp(max=1))
        for box, mask in zip(batch.target_boxes[row, :count], masks, strict=True):
            rows, columns = torch.nonzero(mask.amax(1))[:, 0], torch.nonzero(mask.amax(0))[:, 0]
            cells = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert (box * SMALL.mask_px - cells).abs().max() <= 1


def test_a_few_steps_on_one_batch_lower_the_loss(tokenizer: Any, batch: Batch) -> None:
    model, heads = small_model(tokenizer), AuxiliaryHeads(SMALL.width)
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=1e-3)
    totals = []
    for _ in range(12):
        losses = all_losses(forward(model, batch, PLAN.mask_images), batch, heads)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.7 * totals[0]


def test_giou_of_known_boxes() -> None:
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0])
    others = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.5, 1.0], [2.0, 0.0, 3.0, 1.0]])
    torch.testing.assert_close(giou(unit, others), torch.tensor([1.0, 1 / 3, -1 / 3]))


class Interrupted(Trainer):
    """Stops right after the checkpoint of step 2."""

    def _save(self) -> None:
        super()._save()
        if self.step == 2:
            raise KeyboardInterrupt


def trained(trainer: Trainer) -> dict[str, Tensor]:
    trainer.run()
    return {**trainer.model.state_dict(), **{f"average.{name}": value for name, value in trainer.average.items()}}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, trained(Trainer(RECIPE, Place(folder, CPU)))


def test_a_resumed_run_equals_an_uninterrupted_one(whole_run: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    place = Place(tmp_path, CPU, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        Interrupted(RECIPE, place).run()
    resumed = trained(Trainer(RECIPE, place))
    different = [name for name, value in whole_run[1].items() if not torch.equal(value, resumed[name])]
    assert not different


def test_the_exported_folder_is_a_checkpoint_of_the_average(whole_run: tuple[Path, dict[str, Tensor]]) -> None:
    folder, weights = whole_run
    model = Sam3Model.from_pretrained(folder / "model", local_files_only=True)
    for name, value in model.state_dict().items():
        expected = weights[f"average.{name}"]
        torch.testing.assert_close(value.float(), expected.half().float() if expected.is_floating_point() else expected)


def test_the_service_loads_what_was_exported(whole_run: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    shutil.copytree(whole_run[0] / "model", tmp_path / "model")
    assert load_engine(EngineConfig(Source(str(tmp_path / "model"))))


def test_two_processes_do_the_steps_of_one(tmp_path: Path) -> None:
    """Sums of gradients are rounded in another order, and nothing else differs."""
    recipe = replace(RECIPE, bfloat16=False)
    weights = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        run_replicas(partial(train_replica, recipe, Place(folder, CPU, processes=processes)), processes, folder)
        weights.append(torch.load(folder / "train.pt", weights_only=True)["model"])
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=2e-5, msg=name)


def test_what_no_loss_reaches_has_a_gradient_of_zero(tmp_path: Path) -> None:
    """AdamW decays it then; without one it would not, and one process would differ from two."""
    trainer = Trainer(RECIPE, Place(tmp_path, CPU))
    trainer._gradients([], [trainer._draw_vision(0)], trainer._vision_losses)
    unreached = [*trainer.heads.relevance.parameters(), *trainer.model.mask_decoder.parameters()]
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in unreached)
    assert all(
        parameter.grad is not None and parameter.grad.any() for parameter in trainer.heads.token_class.parameters()
    )


def test_a_run_of_another_recipe_is_not_resumed(whole_run: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    shutil.copy(whole_run[0] / "train.pt", tmp_path)
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(replace(RECIPE, seed=1), Place(tmp_path, CPU)).run()


def test_a_run_that_ended_before_its_export_is_exported(
    whole_run: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    shutil.copy(whole_run[0] / "train.pt", tmp_path)
    Trainer(RECIPE, Place(tmp_path, CPU)).run()
    exported = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole_run[0], tmp_path)]
    assert exported[0] == exported[1]


def test_every_shard_of_a_step_is_someones() -> None:
    assert sorted([*shards_of(0, 2, 3), *shards_of(1, 2, 3)]) == [0, 1, 2] == list(shards_of(0, 1, 3))


def test_the_rate_rises_holds_and_falls(tmp_path: Path) -> None:
    trainer = Trainer(replace(RECIPE, steps=1000, cooling_steps=400), Place(tmp_path, CPU))
    rates = []
    for trainer.step in range(1000):
        rates.append(trainer._learning_rate() / RECIPE.learning_rate)
    assert rates[0] < 0.01
    assert set(rates[150:600]) == {1}
    assert all(later < earlier for earlier, later in pairwise(rates[600:]))
    assert 0.02 <= rates[-1] < 0.03
