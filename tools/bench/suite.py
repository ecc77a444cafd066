"""The measurements in their order, and what `sam3 bench` makes of them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path

from tools.bench import machine
from tools.bench.plan import Plan
from tools.bench.report import Section, document, failures, markdown, section_markdown, unjudged

MEASUREMENTS = ("postprocess", "prompts", "embedded", "decode", "start", "doors", "events", "throughput", "memory")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print each table as it is done, write the report; 1 when a check failed or a target was missed."""
    unknown = sorted(set(arguments.only) - set(MEASUREMENTS))
    if unknown:
        print(f"--only: {unknown[0]!r} is not allowed; allowed: {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 2
    plan = Plan(arguments.cache.absolute(), arguments.quick, arguments.keep)
    sections: list[Section] = []
    for name in arguments.only or MEASUREMENTS:
        sections += _measured(name, plan)
        _write(arguments, sections)  # now: one that fails does not take the others with it
    failed = failures(sections)
    for line in failed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _measured(name: str, plan: Plan) -> list[Section]:
    start = time.perf_counter()
    sections: list[Section] = import_module(f"tools.bench.{name}").measure(plan)
    if plan.quick:
        sections = [unjudged(section) for section in sections]
    print("\n".join(section_markdown(section) for section in sections))
    print(f"({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)
    return sections


def _write(arguments: argparse.Namespace, sections: list[Section]) -> None:
    described = machine.describe()
    base = arguments.out / machine.slug(described["name"]) if arguments.out else None
    texts = {
        ".json": json.dumps(document(described, sections), indent=1, ensure_ascii=False) + "\n",
        ".md": markdown(described, sections),
    }
    for suffix, asked in ((".json", arguments.json), (".md", arguments.markdown)):
        for path in (asked, base and Path(f"{base}{suffix}")):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(texts[suffix])
