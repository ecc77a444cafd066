"""Every curl, Python and JavaScript example of the docs is run as it stands, against a real service.

The rules: `$SERVICE` and http://localhost:8080 are the test's service; the files that examples name lie in the folder
that they run in; what needs Google's cloud (gs://, gcloud, gsutil, a Cloud Run URL) is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/api.md")
IMAGES = ("photo.jpg", "kitchen.jpg", "service/models/demo/scene.png")
ELSEWHERE = re.compile(r"gs://|gcloud|gsutil|run\.app|emulator")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Example = tuple[str, str, str]


def examples() -> list[Example]:
    """(where, language, text): whole blocks of python and js, single commands of sh."""
    found: list[Example] = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        for block in _FENCE.finditer(text):
            where = f"{page}:{text.count(chr(10), 0, block.start()) + 1}"
            language, body = block.groups()
            commands = body.replace("\\\n", " ").splitlines() if language == "sh" else [body]
            wanted = [c for c in commands if language in ("python", "js") or c.startswith("curl ")]
            found += [(f"{where}-{i}", language, c) for i, c in enumerate(wanted) if not ELSEWHERE.search(c)]
    return found


EXAMPLES = examples()
RUNNERS = {"sh": ["bash", "-euc"], "python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    scene = files("service").joinpath("models/demo/scene.png").read_bytes()
    for name in IMAGES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(scene)
    # curl fails where the service answers with an error, and shows what it said.
    (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    return folder


@pytest.mark.parametrize(("where", "language", "text"), EXAMPLES, ids=[where for where, _, _ in EXAMPLES])
def test_an_example(service: Any, folder: Path, where: str, language: str, text: str) -> None:
    runner = RUNNERS[language]
    if shutil.which("curl" if language == "sh" else runner[0]) is None:
        pytest.skip(f"{where}: {language} examples need {'curl' if language == 'sh' else runner[0]}")
    environment = {**os.environ, "HOME": str(folder), "SERVICE": service.url, "PYTHONPATH": str(ROOT)}
    code = text.replace("http://localhost:8080", service.url)
    done = subprocess.run([*runner, code], cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{where}\n{text}\n{done.stdout}\n{done.stderr}"
    if language == "sh":
        assert "results" in json.loads(done.stdout)
    else:
        assert done.stdout.strip(), "an example shows something"


def test_the_docs_have_examples_of_each_language() -> None:
    assert {language for _, language, _ in EXAMPLES} == set(RUNNERS)
    assert any("-F image=@photo.jpg -F prompts=cat -F prompts=dog" in text for _, _, text in EXAMPLES)
