"""The baseline as a server: python -m tools.bench.baseline_server, with PORT, BENCH_FOLDER and BENCH_WEIGHTS set.

It starts as one-file services do: build the model, `torch.load` the weights, copy them in, then listen. A lock lets
one request at a time to the model.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import torch
from flask import Flask, Response, request
from transformers import CLIPTokenizer, Sam3Config
from transformers.models.sam3.modeling_sam3 import Sam3Model
from werkzeug.serving import make_server

from tools.bench.baseline import OneFileService
from tools.bench.decode import baseline_decode


def load(folder: Path, weights: Path) -> OneFileService:
    """The model built with its random weights, and then the weights of the file."""
    model = Sam3Model(Sam3Config.from_pretrained(folder))
    model.load_state_dict(torch.load(weights, map_location="cpu"))
    return OneFileService(model.float().eval(), CLIPTokenizer.from_pretrained(folder, local_files_only=True))


def create_app(service: OneFileService) -> Flask:
    """Its doors: /ready and /segment."""
    app = Flask(__name__)
    lock = threading.Lock()

    @app.get("/ready")
    def ready() -> str:
        return "ready"

    @app.post("/segment")
    def segment() -> Response:
        rgb = baseline_decode(request.files["image"].read())
        prompts, threshold = request.form.getlist("prompts"), float(request.form["threshold"])
        with lock:
            body = service.segment(rgb, prompts, threshold)
        return Response(body, content_type="application/json")

    return app


if __name__ == "__main__":
    app = create_app(load(Path(os.environ["BENCH_FOLDER"]), Path(os.environ["BENCH_WEIGHTS"])))
    make_server("127.0.0.1", int(os.environ["PORT"]), app, threaded=True).serve_forever()
