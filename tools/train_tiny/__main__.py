"""`python -m tools.train_tiny train|sprites|scene`: make the embedded model and what it is made of."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

from tools.train_tiny.demo_scene import SIZE_WH, parse_size, write_demo_scene
from tools.train_tiny.replicas import run_replicas
from tools.train_tiny.sprites import Sheet, make_sheet
from tools.train_tiny.training import Place, Recipe, train_replica


def main() -> None:
    """Run one of the subcommands."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_tiny", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train from scratch, or resume; the model ends in OUT/model")
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--device", default="cpu")
    train.add_argument("--processes", type=int, default=1, choices=range(1, Recipe.shards + 1), help="replicas (1)")
    train.add_argument("--threads", type=int, default=1, help="torch threads of each replica (1)")
    train.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead")
    train.add_argument("--steps", type=int, default=Recipe.steps)
    train.add_argument("--pretraining-steps", type=int, default=Recipe.pretraining_steps)
    train.add_argument("--seed", type=int, default=Recipe.seed)
    train.set_defaults(run=_train)
    sprites = commands.add_parser("sprites", help="draw a sprite sheet anew from a colour font or a folder of SVG")
    sprites.add_argument("--sheet", type=Sheet, choices=list(Sheet), required=True)
    sprites.add_argument("--source", type=Path, required=True, metavar="FONT_OR_FOLDER")
    sprites.set_defaults(run=lambda arguments: make_sheet(arguments.source, arguments.sheet.path))
    scene = commands.add_parser("scene", help="draw a demo scene and its truth")
    scene.add_argument("--seed", type=int, required=True)
    scene.add_argument("--size", type=parse_size, default=SIZE_WH, metavar="WIDTHxHEIGHT")
    scene.add_argument("--out", type=Path, required=True)
    scene.set_defaults(run=lambda arguments: write_demo_scene(arguments.seed, arguments.size, arguments.out))
    arguments = parser.parse_args()
    arguments.run(arguments)


def _train(arguments: argparse.Namespace) -> None:
    recipe = Recipe(seed=arguments.seed, steps=arguments.steps, pretraining_steps=arguments.pretraining_steps)
    place = Place(
        arguments.out,
        torch.device(arguments.device),
        arguments.workers,
        processes=arguments.processes,
        threads=arguments.threads,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    run_replicas(partial(train_replica, recipe, place), arguments.processes, arguments.out)
    print(f"the model is in {arguments.out / 'model'}")


if __name__ == "__main__":
    main()
