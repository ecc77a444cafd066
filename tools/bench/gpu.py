"""The model's own speed on a GPU, in one command from a bare checkout: python tools/bench/gpu.py

Needs torch, transformers (5.17 or newer), numpy, opencv and pycocotools; no network and no installation. The full-size
checkpoint is random and made on the spot: speed does not depend on what the weights know.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # the checkout; this folder's modules are tools.bench.*
    from tools.bench.card.command import main

    sys.exit(main())
