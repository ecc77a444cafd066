"""The soak itself, and the table made of it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from service.__main__ import PROCESS
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.faults import Proxies, Script
from tools.localcloud.settings import LocalCloudSettings
from tools.process import ServiceProcess
from tools.soak import burst, checks
from tools.soak.plan import Plan
from tools.soak.traffic import Traffic
from tools.staged import STAGED

_ENGINE = PROCESS | {"BENCH_BATCH_MS": "5", "BENCH_SIDE": "64"}
_AHEAD = 150
_POLL_S = 0.1
_SHOWN = 20


def run(arguments: argparse.Namespace) -> int:
    """Run both parts, print the table, write the JSON; 1 when something was lost."""
    plan = plan_of(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        figures, faults = soak(plan, Path(name))
        more, wrong = burst.run(plan, Path(name))
    figures, faults = figures | more, faults + wrong
    print(table(figures, faults))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        document = {"plan": asdict(plan), "figures": figures, "violations": faults}
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if faults else 0


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    plan = Plan(seed=arguments.seed, folders=arguments.folders, jobs=arguments.jobs)
    if arguments.quick:
        plan = plan.quick()
    given = {name: getattr(arguments, name) for name in ("images", "kills", "terms")}
    return replace(plan, **{name: value for name, value in given.items() if value is not None})


def soak(plan: Plan, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The first part: figures and violations."""
    script = Script(rate=plan.loss_rate, jitter_s=plan.jitter_s, seed=plan.seed)
    settings = LocalCloudSettings(
        duplicate_rate=plan.duplicate_rate, duplicate_seed=plan.seed, max_backoff_s=plan.max_backoff_s
    )
    start = time.perf_counter()
    with LocalCloud(settings) as cloud, Proxies(cloud, script) as proxies:
        environment = proxies.environment() | _ENGINE
        with ServiceProcess(environment, folder / "service.log", (sys.executable, *STAGED)) as service:
            service.start()
            service.wait_until_ready()
            proxies.push_to(service.url)
            traffic = Traffic(plan, cloud)
            faults = under_fire(plan, service, traffic, script)
            _wait(cloud, traffic, plan, faults)
            took_s = time.perf_counter() - start
            print(f"at rest after {took_s:.0f} s; checking", file=sys.stderr)
            rest = checks.Rest.of(cloud)
            if faults:
                print(service.last_output(), file=sys.stderr)
        statistics = cloud.statistics()
    faults += checks.violations(rest, traffic.planned)
    dead = sum(statistics[name].dead for name in settings.push_subscriptions)
    faults += [f"{dead} messages were given up by Pub/Sub"] if dead else []
    return _figures(plan, settings, script, rest, statistics, took_s), faults


def under_fire(plan: Plan, service: ServiceProcess, traffic: Traffic, script: Script) -> list[str]:
    """Send everything, and interrupt the service at even distances of the way; says which exits were not clean.

    Raises what a client met whose call failed: without it, nothing that is checked would be as planned.
    """
    interruptions = ["kill"] * plan.kills + ["terminate"] * plan.terms
    Random(plan.seed).shuffle(interruptions)
    faults = []
    with ThreadPoolExecutor(1, thread_name_prefix="traffic") as pool, closing(traffic):
        sent = pool.submit(traffic.run, partial(script.count, "write"), _AHEAD)
        for number, what in enumerate(interruptions, start=1):
            goal = plan.images * number // (len(interruptions) + 1)
            _wait_for(partial(_written, script, goal, sent), plan.timeout_s)
            print(f"{script.count('write')} documents written: {what}", file=sys.stderr)
            faults += _interrupt(service, what)
        sent.result()
    return faults


def _interrupt(service: ServiceProcess, what: str) -> list[str]:
    """Kill or terminate it, and start it again; says whether the exit was not clean."""
    faults = []
    if what == "kill":
        service.kill()
    else:
        service.terminate()
        if (status := service.wait()) != 0:
            faults.append(f"SIGTERM: exit status {status}")
    service.start()
    service.wait_until_ready()
    return faults


def _written(script: Script, goal: int, sent: Future[None]) -> bool:
    """Whether so many documents have been written; raises what `sent` has raised."""
    if sent.done():
        sent.result()
    return script.count("write") >= goal


def _wait(cloud: LocalCloud, traffic: Traffic, plan: Plan, faults: list[str]) -> None:
    try:
        cloud.wait_until_quiet(plan.timeout_s, received=traffic.messages)
    except TimeoutError as error:
        faults.append(str(error))


def _wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"the service has not come so far within {timeout_s:g} s")
        time.sleep(_POLL_S)


def _figures(
    plan: Plan, settings: LocalCloudSettings, script: Script, rest: checks.Rest, statistics: Any, took_s: float
) -> dict[str, Any]:
    pushed = [statistics[name] for name in settings.push_subscriptions]
    deliveries = Counter(call.subject for call in script.calls() if call.kind == "push")
    own = sum(message.attributes.get("replayed") == "false" for message in rest.announced)
    return {
        "images": plan.images,
        "seconds": round(took_s),
        "messages": sum(each.received for each in pushed),
        "deliveries": sum(each.delivered for each in pushed),
        "deliveries made twice on purpose": sum(each.duplicated for each in pushed),
        "deliveries refused or cut off": sum(each.nacked for each in pushed),
        "most deliveries of a message": max(deliveries.values()),
        "kill -9": plan.kills,
        "SIGTERM": plan.terms,
        "calls to Cloud Storage and Pub/Sub": sum(script.count(kind) for kind in script.kinds),
        "calls lost": script.lost.total(),
        "documents": len(rest.outputs),
        "announcements": own,
        "replays": len(rest.announced) - own,
        "dead letters, all of them planted": len(rest.dead_letters),
    }


def table(figures: dict[str, Any], faults: list[str]) -> str:
    """Figures and violations for people."""
    lines = [f"{what:<45}{value:>10}" for what, value in figures.items()]
    lines += [f"violation: {fault}" for fault in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        lines.append(f"… and {len(faults) - _SHOWN} more")
    return "\n".join([*lines, f"violations: {len(faults)}"])
