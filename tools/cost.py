"""`sam3 cost`: what 1,000 images cost on Cloud Run, by how long the GPU works on one and how busy it is kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
BUSY = (1.0, 0.5, 0.1)


@dataclass(frozen=True)
class Instance:
    """One instance and its prices in USD a second, for Cloud Run's instance-based billing.

    The defaults are an L4 without zonal redundancy as terraform/ sets it up, in us-central1, with the list prices of
    the Cloud Billing catalogue in August 2026. Today's, and those of other regions: https://cloud.google.com/run/pricing
    """

    gpu_price: float = 0.0001867
    cpu_price: float = 0.000018
    memory_price: float = 0.000002
    cpus: int = 8
    memory_gib: int = 32

    @property
    def price(self) -> float:
        """USD of one second, with work or without."""
        return self.gpu_price + self.cpus * self.cpu_price + self.memory_gib * self.memory_price


def per_thousand(instance: Instance, seconds: float, busy: float) -> float:
    """USD for 1,000 images that keep the GPU for `seconds` each, when it works for the share `busy` of the time billed.

    What is billed and is no work: the start, the wait before an idle instance ends, gaps between requests.
    """
    return 1000 * seconds * instance.price / busy


def table(instance: Instance, seconds: Sequence[float], busy: Sequence[float]) -> str:
    """A Markdown table, one row for each time and one column for each share."""
    head = ["GPU seconds an image", *(f"busy {share:.0%}" for share in busy)]
    rows = [[f"{each:g}", *(f"${per_thousand(instance, each, share):.2f}" for share in busy)] for each in seconds]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 cost`."""
    default = Instance()
    parser = subparsers.add_parser("cost", help=purpose, description=purpose)
    parser.add_argument("--seconds", type=_positive, nargs="+", default=SECONDS, help="GPU seconds an image; several")
    parser.add_argument("--busy", type=_share, nargs="+", default=BUSY, help="share of the time billed; several")
    for name, what in (("gpu", "a GPU"), ("cpu", "a CPU"), ("memory", "a GiB")):
        known = getattr(default, f"{name}_price")
        parser.add_argument(
            f"--{name}-price",
            type=_positive,
            default=known,
            metavar="USD",
            help=f"of {what} for a second ({known:.7f})",
        )
    parser.add_argument("--cpus", type=int, default=default.cpus, help=f"of an instance ({default.cpus})")
    parser.add_argument("--memory-gib", type=int, default=default.memory_gib, help=f"({default.memory_gib})")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the price of an instance and the table."""
    instance = Instance(
        arguments.gpu_price, arguments.cpu_price, arguments.memory_price, arguments.cpus, arguments.memory_gib
    )
    print(f"an instance: ${instance.price:.7f} a second, ${instance.price * 3600:.2f} an hour\n")
    print(table(instance, arguments.seconds, arguments.busy), end="")
    return 0


def _positive(text: str) -> float:
    return _number(text, float("inf"), "a number above 0")


def _share(text: str) -> float:
    return _number(text, 1, "a number above 0, at most 1")


def _number(text: str, most: float, allowed: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: {allowed}")
    return value
