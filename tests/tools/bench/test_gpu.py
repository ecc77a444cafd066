"""gpu.py runs to its end, here on the CPU, where only what a GPU machine needs is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

GPU = Path(__file__).parents[3] / "tools" / "bench" / "gpu.py"
ABSENT = "PIL pydantic pydantic_settings flask werkzeug gunicorn google grpc cachetools scipy skimage requests"

# As if they were not installed: the import system itself does not find them.
WITHOUT = """
import importlib.machinery, runpy, sys
absent = set(sys.argv[1].split())
find = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in absent else find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
program, sys.argv = sys.argv[2], sys.argv[2:]
sys.path[0] = str(program.rsplit("/", 1)[0])
runpy.run_path(program, run_name="__main__")
"""


def test_from_a_bare_checkout(tmp_path: Path) -> None:
    kept = tmp_path / ".bench" / "full" / "complete"  # what `sam3 bench --keep` has left
    kept.parent.mkdir(parents=True)
    kept.touch()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, ABSENT, str(GPU), "--device", "cpu", "--repeats", "1", "--out", str(tmp_path)],
        cwd=tmp_path,
        env=clean | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert kept.exists(), "a trial of the embedded model has removed the full-size one"
    [report] = tmp_path.glob("*.json")
    document = json.loads(report.read_text())
    assert report.name.startswith("gpu-")
    assert document["device"]["name"].split()[0].lower() in report.name
    parts = {cell["part"] for cell in document["cells"]}
    assert {"vision", "encode_image", "text", "grounding", "end to end", "baseline, end to end"} <= parts
    assert {cell["variant"] for cell in document["cells"]} >= {"fp32", "bf16", "ours", "baseline"}
    assert all(cell["ms"] > 0 and cell["error"] is None for cell in document["cells"])
    assert all(agreement["good"] for agreement in document["agreement_with_cpu"])
    assert document["skipped"] == []
    assert document["failed"] == {}
    assert str(report.name) in done.stdout.splitlines()[-1]
