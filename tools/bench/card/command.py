"""The command line of gpu.py: what is measured in which order, within a time limit, and the table at the end."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from service.engine.loading import choose_device
from service.errors import ServiceError
from tools.bench import machine, models
from tools.bench.card import agreement, cells, flops, variants, whole
from tools.bench.card.agreement import Agreement
from tools.bench.card.cells import TRIAL, Cell, Scale
from tools.bench.card.stopwatch import OUT_OF_MEMORY, Stopwatch, reason, release
from tools.bench.card.table import lines
from tools.bench.card.variants import Loaded, Variant
from tools.bench.finds import choose_threshold
from tools.bench.inputs import SIZE_1MP_HW, SIZE_12MP_HW, photo


def main(given: Sequence[str] | None = None) -> int:
    """Measure, write the JSON, print the table; 1 when something failed other than for want of memory."""
    arguments = _parser().parse_args(given)
    device = choose_device(arguments.device)
    model = arguments.model or ("full" if device.type == "cuda" else "embedded")
    cache = arguments.cache.absolute()
    checkpoint = models.full(cache) if model == "full" else models.embedded()
    try:
        run = Run(device, checkpoint.folder, model, arguments)
        run.everything()
    finally:
        if model == "full" and not arguments.keep:
            models.remove(cache)
    return run.finish()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpu.py", description="Speed of the model on a GPU (or, as a trial, a CPU).")
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"), help="auto takes a GPU if any")
    parser.add_argument("--model", choices=("embedded", "full"), help="default: full on a GPU, embedded on a CPU")
    parser.add_argument("--repeats", type=int, help="of each measurement (10 on a GPU, 1 on a CPU)")
    parser.add_argument("--compile", choices=("auto", "yes", "no"), default="auto", help="auto: on a GPU")
    parser.add_argument("--minutes", type=float, default=8, help="begin no further measurement after these (8)")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the JSON (this one)")
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder for the random checkpoint (.bench)")
    parser.add_argument("--keep", action="store_true", help="leave the random checkpoint there")
    return parser


@dataclass
class Run:
    """One run: what it is to measure, and what it has measured so far."""

    device: torch.device
    folder: Path
    model: str
    arguments: argparse.Namespace
    cells: list[Cell] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    ceilings: dict[str, float | None] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    vision_flops: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def variants(self) -> list[Variant]:
        """Those that make a difference on this device."""
        on_gpu = self.device.type == "cuda"
        compiled = on_gpu if self.arguments.compile == "auto" else self.arguments.compile == "yes"
        return [v for v in variants.VARIANTS if (on_gpu or not v.tf32) and (compiled or not v.compiled)]

    @property
    def scale(self) -> Scale:
        """All of it on a GPU."""
        return Scale() if self.device.type == "cuda" else TRIAL

    def everything(self) -> None:
        """Correctness first, then the variants one after the other; what fails is noted, and the rest goes on."""
        self.vision_flops = flops.of_vision(self.folder)
        self._part("agreement", self._agree)
        small = self.folder == models.embedded().folder
        masks = (10, SIZE_1MP_HW) if small else (50, SIZE_12MP_HW)
        self._take(f"{masks[0]} masks", lambda: whole.postprocessing(self.device, self._stopwatch(), *masks))
        for variant in self.variants:
            self._part(variant.name, partial(self._variant, variant))
            release(self.device)

    def _part(self, name: str, measure: Callable[[], None]) -> None:
        """Measure, and write what there is: whoever lent the machine may take it back at any time."""
        try:
            measure()
        except (RuntimeError, ServiceError) as problem:
            self.failed[name] = reason(problem)
        self._save()

    def _agree(self) -> None:
        self.agreements = agreement.compare(self.device, [v for v in self.variants if not v.compiled])

    def _variant(self, variant: Variant) -> None:
        if self._too_late(variant.name):
            return
        stopwatch, name = self._stopwatch(), variant.name
        ceiling = self.ceilings[name] = flops.ceiling(self.device, variant, stopwatch)
        start = time.monotonic()
        loaded = variants.load(self.folder, self.device, variant)
        self.load_s[name] = round(time.monotonic() - start, 2)
        if not variant.compiled:  # as the service calls it, it is compiled in encode_image only
            self._take(
                f"vision, {name}", lambda: cells.vision(loaded, stopwatch, self.scale, self.vision_flops, ceiling)
            )
        threshold = choose_threshold(loaded.engine, photo(SIZE_1MP_HW))
        for part, measure in self._parts(loaded, stopwatch, threshold):
            self._take(f"{part}, {name}", measure)

    def _parts(
        self, loaded: Loaded, stopwatch: Stopwatch, threshold: float
    ) -> list[tuple[str, Callable[[], Iterable[Cell]]]]:
        with_vision: list[tuple[str, Callable[[], Iterable[Cell]]]] = [
            ("encode_image", lambda: cells.encode_image(loaded, stopwatch, self.scale)),
            ("end to end", lambda: whole.ours(loaded, stopwatch, self.scale, threshold)),
        ]
        if loaded.variant.compiled:  # the other parts are as without
            return with_vision
        return [
            *with_vision,
            ("text", lambda: cells.text(loaded, stopwatch, self.scale)),
            ("grounding", lambda: cells.grounding(loaded, stopwatch, self.scale, threshold)),
            ("baseline", lambda: whole.theirs(loaded, stopwatch, self.scale, threshold)),
        ]

    def _take(self, what: str, measure: Callable[[], Iterable[Cell]]) -> None:
        if self._too_late(what):
            return
        for cell in measure():
            self.cells.append(cell)
            print(f"{time.monotonic() - self.began:5.0f} s  {' '.join(lines([cell])[-1].split())}", flush=True)
            if self._too_late(f"the rest of {what}"):
                return

    def _too_late(self, what: str) -> bool:
        late: bool = time.monotonic() - self.began > self.arguments.minutes * 60
        if late:
            self.skipped.append(what)
        return late

    def _stopwatch(self) -> Stopwatch:
        on_gpu = self.device.type == "cuda"
        return Stopwatch(self.device, self.arguments.repeats or (10 if on_gpu else 1), warm_ups=2 if on_gpu else 1)

    def _save(self) -> Path:
        described = describe(self.device)
        path: Path = self.arguments.out / f"gpu-{machine.slug(described['name'])}-{self.model}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._document(described), indent=1, ensure_ascii=False) + "\n")
        return path

    def finish(self) -> int:
        """Write and print what there is."""
        path = self._save()
        print(f"\n{describe(self.device)['name']}, {self.model} model, {self.vision_flops / 1e12:.3g} TFLOP an image\n")
        print("\n".join(lines(self.cells)))
        for each in self.agreements:
            print(_sentence(each))
        if self.skipped:
            print(f"not begun within {self.arguments.minutes:g} minutes: {', '.join(self.skipped)}")
        for name, why in self.failed.items():
            print(f"failed: {name}: {why}")
        print(f"\n{path}")
        failed = [cell for cell in self.cells if cell.measured.error not in (None, OUT_OF_MEMORY)]
        return 1 if failed or self.failed or not all(each.good for each in self.agreements) else 0

    def _document(self, described: dict[str, Any]) -> dict[str, Any]:
        return {
            "device": described,
            "model": self.model,
            "vision_flop_per_image": self.vision_flops,
            "matmul_flop_per_s": self.ceilings,
            "load_s": self.load_s,
            "agreement_with_cpu": [each.document() for each in self.agreements],
            "cells": [cell.document() for cell in self.cells],
            "skipped": self.skipped,
            "failed": self.failed,
            "seconds": round(time.monotonic() - self.began),
        }


def describe(device: torch.device) -> dict[str, Any]:
    """The card (or processor) and what computes on it; never whose machine it is."""
    common = {"torch": torch.__version__, "libraries": machine.versions(), "processor": machine.cpu_model()}
    if device.type != "cuda":
        return {"name": machine.cpu_model(), **common}
    card = torch.cuda.get_device_properties(device)
    return {
        "name": card.name,
        "memory_gib": round(card.total_memory / 2**30, 1),
        "compute_capability": f"{card.major}.{card.minor}",
        "cuda": torch.version.cuda,
        **common,
    }


def _sentence(each: Agreement) -> str:
    found = f"{each.instances[1]} of {each.instances[0]} instances"
    worst = f"scores within {each.score:.2g}, boxes within {each.box_px:.2g} px, mask IoU at least {each.iou:.3f}"
    return f"{'agrees' if each.good else 'DIFFERS'} with float32 on the CPU: {each.variant}: {found}, {worst}"
