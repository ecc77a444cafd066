"""Does the service's memory stay where it is: resident after 100, 500 and 1,000 mixed requests."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from service.settings import Settings
from tools.bench import models, rss, server
from tools.bench.cell import run_cell
from tools.bench.inputs import PROMPTS, encoded, photo
from tools.bench.plan import Plan
from tools.bench.report import Check, Row, Section, Target
from tools.bench.server import Server
from tools.bench.start import command_of

_MIB = 2**20
_CLIENTS = 4
_LARGEST_FILE = Settings().max_body_bytes - 65536  # the form's other fields need some room
_SIZES_HW = ((40, 40), (90, 400), (480, 640), (768, 1024), (1536, 2048), (3000, 4000))
_KINDS = (".jpg", ".png", ".webp", ".bmp", ".tiff")
_METHOD = (
    "The service with the embedded model and {clients} clients: JPEG, PNG, WebP, BMP and TIFF from 40 × 40 to "
    "{largest}, 1 to 16 prompts, with and without masks and contours, and every tenth request at fault. Resident "
    "memory (VmRSS of all its processes) once all are answered. Growth is between the last two, since what the start "
    "and the first requests have left is still given back after the first."
)


def measure(plan: Plan) -> list[Section]:
    """Resident memory after a tenth of the requests, after half and after all of them."""
    counts = plan.pick((100, 500, 1000), (10, 25, 40))
    sizes = plan.pick(_SIZES_HW, _SIZES_HW[:3])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests = _mixed(_files(folder, sizes), _faulty(folder), counts[-1])
        command, environment = command_of("ours", models.embedded().folder, folder)
        with server.started(command, environment, folder / "server.log") as running:
            shares = [requests[begin:end] for begin, end in pairwise((0, *counts))]
            taken = [_after(running, share) for share in shares]
    rows = rows_of({count: resident for count, (resident, _) in zip(counts, taken, strict=True)})
    check = _answered(requests, sum((statuses for _, statuses in taken), Counter()))
    method = _METHOD.format(clients=_CLIENTS, largest=" × ".join(str(edge) for edge in sizes[-1]))
    return [Section("Memory over time", method, rows, (check,))]


def rows_of(resident: Mapping[int, int]) -> tuple[Row, ...]:
    """Bytes after so many requests each, and what the last has over the one before it."""
    points = (Row(f"resident after {count} requests", taken / _MIB, "MiB") for count, taken in resident.items())
    (few, early), (many, late) = list(resident.items())[-2:]
    growth = Row(f"after {many} requests / after {few}", (late / early - 1) * 100, "%", target=Target(2, of="ours"))
    return (*points, growth)


def _answered(requests: list[dict[str, Any]], answered: Counter[str]) -> Check:
    expected = Counter(request["expected"] for request in requests)
    difference = (
        f" ({dict(answered - expected)} in the place of {dict(expected - answered)})" if answered != expected else ""
    )
    return Check(f"every request was answered as it should be{difference}", not difference)


def _files(folder: Path, sizes: tuple[tuple[int, int], ...]) -> list[Path]:
    """One picture of each size in each kind, but for those that are larger than a request may be."""
    files = []
    for number, size_hw in enumerate(sizes):
        picture = photo(size_hw, seed=number)
        for kind in _KINDS:
            data = encoded(picture, kind)
            if len(data) < _LARGEST_FILE:
                files.append(folder / f"{number}{kind}")
                files[-1].write_bytes(data)
    return files


def _faulty(folder: Path) -> list[tuple[Path, str]]:
    """Files at fault and the status that each is answered."""
    whole = encoded(photo((480, 640)), ".png")
    cases = {
        "truncated.png": (whole[: len(whole) // 2], "422"),
        "text.png": (b"no image", "415"),
        "empty": (b"", "415"),
    }
    for name, (data, _) in cases.items():
        (folder / name).write_bytes(data)
    return [(folder / name, status) for name, (_, status) in cases.items()]


def _mixed(files: list[Path], faulty: list[tuple[Path, str]], count: int) -> list[dict[str, Any]]:
    """Requests in an order that is the same on every run; the largest pictures are the rarest."""
    chance = random.Random(5)
    by_size = sorted(files, key=lambda file: file.stat().st_size)
    weights = [1 / (1 + rank / 6) for rank in range(len(by_size))]
    drawn: Iterator[Path] = iter(chance.choices(by_size, weights, k=count))
    requests = []
    for number, file in enumerate(drawn):
        status = "200"
        if number % 10 == 9:
            file, status = faulty[number // 10 % len(faulty)]
        requests.append({"file": str(file), "fields": _fields(chance), "expected": status})
    return requests


def _fields(chance: random.Random) -> dict[str, Any]:
    return {
        "prompts": chance.sample(PROMPTS, chance.choice((1, 1, 2, 4, 8, 16))),
        "return_masks": chance.choice(("true", "false")),
        "return_contours": chance.choice(("true", "false")),
        "threshold": chance.choice(("0.5", "0.3", "0.05")),
    }


def _after(running: Server, requests: list[dict[str, Any]]) -> tuple[int, Counter[str]]:
    sent = run_cell("clients", url=running.url, clients=_CLIENTS, requests=requests)
    time.sleep(1)
    return rss.total_resident(running.pid), Counter(sent["statuses"])
