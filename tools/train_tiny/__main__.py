"""`python -m tools.train_tiny train|sprites|scene`: make the embedded model and what it is made of."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from tools.train_tiny.demo_scene import SIZE_WH, parse_size, write_demo_scene
from tools.train_tiny.sprites import SHEET, make_sheet
from tools.train_tiny.training import Place, Recipe, Trainer


def main() -> None:
    """Run one of the subcommands."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_tiny", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train from scratch, or resume; the model ends in OUT/model")
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--device", default="cpu")
    train.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's own choice)")
    train.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead")
    train.add_argument("--steps", type=int, default=Recipe.steps)
    train.add_argument("--pretraining-steps", type=int, default=Recipe.pretraining_steps)
    train.add_argument("--seed", type=int, default=Recipe.seed)
    train.set_defaults(run=_train)
    sprites = commands.add_parser("sprites", help="draw the sprite sheet anew from a colour font")
    sprites.add_argument("--font", type=Path, required=True)
    sprites.set_defaults(run=lambda arguments: make_sheet(arguments.font, SHEET))
    scene = commands.add_parser("scene", help="draw a demo scene and its truth")
    scene.add_argument("--seed", type=int, required=True)
    scene.add_argument("--size", type=parse_size, default=SIZE_WH, metavar="WIDTHxHEIGHT")
    scene.add_argument("--out", type=Path, required=True)
    scene.set_defaults(run=lambda arguments: write_demo_scene(arguments.seed, arguments.size, arguments.out))
    arguments = parser.parse_args()
    arguments.run(arguments)


def _train(arguments: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(seed=arguments.seed, steps=arguments.steps, pretraining_steps=arguments.pretraining_steps)
    folder = Trainer(recipe, Place(arguments.out, torch.device(arguments.device), arguments.workers)).run()
    print(f"the model is in {folder}")


if __name__ == "__main__":
    main()
