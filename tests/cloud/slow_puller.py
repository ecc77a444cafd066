"""`python -m service.pull` around a model that works until it is told to end: run as a program by test_pull.py.

It creates the file `working` in the folder GATE when its first forward begins, and goes on once `go` is there.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from service import app, pull
from service.core.results import ModelInfo
from service.engine.base import Grounding
from service.settings import Settings

GATE = Path(os.environ["GATE"])


class Text:
    nbytes = 0


class GatedEngine:
    info = ModelInfo("gated", "1", "cpu", "float32")

    def check(self) -> None:
        pass

    def prepare(self, image: Any) -> Any:
        return image

    def encode_image(self, images: Any) -> list[Any]:
        (GATE / "working").touch()
        while not (GATE / "go").exists():
            time.sleep(0.02)
        return list(images)

    def encode_text(self, texts: Any) -> list[Text]:
        return [Text() for _ in texts]

    def ground(self, queries: Any) -> list[Grounding]:
        nothing = Grounding(np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros((0, 4, 4), np.float32))
        return [nothing for _ in queries]


def main(subscription: str, grace_s: str) -> int:
    settings = Settings.or_exit()
    with ExitStack() as closing:
        parts = app.assemble(settings, closing, lambda report: GatedEngine())
        return pull.consume(parts, settings, subscription, float(grace_s), closing)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
