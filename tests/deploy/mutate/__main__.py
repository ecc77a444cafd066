"""`make mutate`: put each fault into the Terraform configuration, and see whether the tests find it.

Prints each survivor; the status is 1 when fewer than 90 % are found, or when one survives that docs/terraform.md does
not explain. `--only TEXT` takes the faults whose name has that text, `--jobs N` as many at a time.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

from tests.deploy.deployment import CONFIGURATION, SCHEMA, why_not
from tests.deploy.mutate.mutants import Mutant, mutants_of
from tests.deploy.mutate.trial import INVALID, SURVIVED, Bench
from tests.deploy.standin.command import Terraform
from tests.deploy.standin.provider import Provider
from tests.deploy.standin.schema import load
from tests.deploy.standin.server import serving

PAGE = Path(__file__).parents[3] / "docs" / "terraform.md"
WANTED = 0.9

Result = tuple[Mutant, str]


def explained(page: str) -> set[str]:
    """The survivors that docs/terraform.md gives a reason for."""
    table = page.split("<!-- survivors -->")[1].split("<!-- end -->")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))


def results(mutants: list[Mutant], own: dict[str, str], jobs: int) -> Iterator[Result]:
    """Each mutant and what finds it, in order."""
    with ExitStack() as closing:
        benches: SimpleQueue[Bench] = SimpleQueue()
        for _ in range(jobs):
            benches.put(closing.enter_context(_bench(own)))
        yield from closing.enter_context(ThreadPoolExecutor(jobs)).map(lambda mutant: _tried(mutant, benches), mutants)


def _tried(mutant: Mutant, benches: SimpleQueue[Bench]) -> Result:
    bench = benches.get()
    try:
        return mutant, bench.try_out(mutant)
    finally:
        benches.put(bench)


@contextmanager
def _bench(own: dict[str, str]) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder, serving(Provider(load(SCHEMA))) as attached:
        copy, data = Path(folder) / "terraform", Path(folder) / "data"
        shutil.copytree(CONFIGURATION, copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfvars", "*.tfstate*"))
        data.mkdir()
        terraform = Terraform(copy, data, attached)
        terraform.init()
        yield Bench(terraform, own)


def report(found: list[Result], known: set[str]) -> int:
    """Print what was found by kind, and the survivors; the exit status."""
    tried = [(mutant, by) for mutant, by in found if by != INVALID]
    survivors = [mutant.name for mutant, by in tried if by == SURVIVED]
    caught = len(tried) - len(survivors)
    kinds = Counter(mutant.kind for mutant, _ in tried)
    by_kind = Counter(mutant.kind for mutant, by in tried if by != SURVIVED)
    for kind, count in sorted(kinds.items()):
        _say(f"{kind:12} {by_kind[kind]:4} of {count:4} found")
    _say(f"{'all':12} {caught:4} of {len(tried):4} found, {caught / max(1, len(tried)):.1%}")
    _say(f"{len(found) - len(tried)} more are no valid configuration")
    for name in survivors:
        _say(f"survived{'' if name in known else ', unexplained'}: {name}")
    return int(caught < WANTED * len(tried) or not known.issuperset(survivors))


def main() -> int:
    """All of them, or those of `--only`."""
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    options = parser.parse_args()
    if reason := why_not():
        _say(reason)
        return 1
    own = {path.name: path.read_text() for path in sorted(CONFIGURATION.glob("*.tf"))}
    mutants = [mutant for mutant in mutants_of(own) if options.only in mutant.name]
    found: list[Result] = []
    for mutant, by in results(mutants, own, options.jobs):
        found.append((mutant, by))
        _say(f"{len(found)}/{len(mutants)} {by or 'SURVIVED'}: {mutant.name}")
    return report(found, explained(PAGE.read_text()))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
