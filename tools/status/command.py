"""Reads the lists, judges image by image, prints, and says with the exit status whether everything is done."""

from __future__ import annotations

import argparse
import heapq
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from google.auth.exceptions import GoogleAuthError

from service.core.events import Rules
from service.core.naming import (
    BUCKET_NAME,
    MAX_NAME_BYTES,
    SIDECAR_SUFFIXES,
    expand_prefix,
    folder_of,
    folder_prompts_beside,
    gs_uri,
)
from service.core.sources import RankedPlace, ranked_places
from service.errors import CloudUnavailable
from service.gcp import storage
from service.gcp.storage import ObjectInfo, ObjectStore
from service.settings import BadSetting, Settings
from tools.status.elsewhere import Elsewhere
from tools.status.states import NAME_TOO_LONG, STATES, Verdict, judge, sources_of
from tools.status.walk import Around, walk
from tools.terminal import json_line, printable

LOOK_AGAIN_S = 5.0
_UNFINISHED = ("missing", "outdated")
_URI = re.compile(rf"gs://({BUCKET_NAME})(?:/(.*))?", re.DOTALL)


class Usage(Exception):
    """An argument that is not allowed, in one line."""


@dataclass
class Counts:
    """Images by state, and failed ones by error code."""

    states: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count one image."""
        self.states[verdict.state] += 1
        if verdict.state == "failed":
            self.codes[verdict.detail] += 1

    @property
    def finished(self) -> bool:
        """Whether no work is left that the service will do by itself."""
        return not any(self.states[state] for state in _UNFINISHED)

    @property
    def good(self) -> bool:
        """Whether every image that has prompts has a result of them."""
        return self.finished and not self.states["failed"]


@dataclass(frozen=True)
class Place:
    """The images that are asked about."""

    bucket: str
    prefix: str
    settings: Settings
    read_sidecars: bool = False

    @property
    def rules(self) -> Rules:
        """Where inputs come from and outputs go."""
        return self.settings.rules


def run(arguments: argparse.Namespace) -> int:
    """Print the counts; 0 when nothing is failed, missing or outdated."""
    try:
        place = replace(find_place(arguments.uri, arguments.output, os.environ), read_sidecars=arguments.read_sidecars)
        with closing(storage.connect(connections=4)) as store:
            return _report(store, place, arguments)
    except (Usage, BadSetting) as error:
        print(error, file=sys.stderr)
        return 2
    except (CloudUnavailable, GoogleAuthError) as error:
        print(f"{_reason(error)} (sam3 status needs roles/storage.objectViewer on both buckets)", file=sys.stderr)
        return 1


def find_place(uri: str, output: str | None, environment: Mapping[str, str]) -> Place:
    """Put the arguments and the service's own settings together. Usage and BadSetting say what is wrong with them."""
    bucket, prefix = _split("the address", uri)
    given = dict(environment)
    given["INPUT_BUCKETS"] = given.get("INPUT_BUCKETS", "").strip() or bucket
    if output is not None:
        given["OUTPUT_BUCKET"], given["OUTPUT_PREFIX"] = _split("--output", output)
    if not given.get("OUTPUT_BUCKET", "").strip():
        raise Usage("OUTPUT_BUCKET is not set; set it as the service has it, or give --output gs://bucket/prefix")
    settings = Settings.from_environment(given)
    if bucket not in settings.input_buckets:
        raise Usage(f"{bucket!r} is not allowed; allowed: one of INPUT_BUCKETS ({', '.join(settings.input_buckets)})")
    return Place(bucket, prefix, settings)


def look(store: ObjectStore, place: Place, elsewhere: Elsewhere) -> Iterator[tuple[Around, Verdict]]:
    """Judge every image of the place, as the lists come in. CloudUnavailable when they do not."""
    folders = Folders(store, place.bucket)
    default = place.settings.default_prompts is not None
    for around in walk(*_lists(store, place), place.bucket, place.rules):
        places = ranked_places(place.bucket, around.image.name, place.rules)
        prompts = [*around.sidecars, *folders.above(places)]
        sources = sources_of(place.bucket, around.image, places, prompts, default=default)
        if around.names is None:
            verdict = Verdict("failed", NAME_TOO_LONG)
        else:
            verdict = judge(around.image, around.documents, around.names[1], sources)
        if verdict.state in _UNFINISHED and place.read_sidecars:
            verdict = elsewhere.judge(around, sources) or verdict
        yield around, verdict


class Folders:
    """The prompts of the folders on the way to the image that is judged now; each folder is asked once in a row."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket
        self._known: dict[str, list[ObjectInfo]] = {}

    def above(self, places: Sequence[RankedPlace]) -> list[ObjectInfo]:
        """The folders' prompts that exist at these places; only these folders are remembered."""
        names = [place.name for place in places if place.kind == "folder"]
        wanted = dict.fromkeys(folder_of(name) for name in names)
        self._known = {folder: self._known[folder] if folder in self._known else self._ask(folder) for folder in wanted}
        return [info for found in self._known.values() for info in found if info.name in names]

    def _ask(self, folder: str) -> list[ObjectInfo]:
        return list(self._store.stat_all(self._bucket, folder_prompts_beside(folder)).values())


def _lists(store: ObjectStore, place: Place) -> tuple[Iterator[ObjectInfo], Iterator[ObjectInfo]]:
    output_prefix = expand_prefix(place.rules.output_prefix, place.bucket) + place.prefix
    inputs = heapq.merge(store.scan(place.bucket, place.prefix), _shorter(store, place), key=lambda info: info.name)
    return inputs, store.scan(place.rules.output_bucket, output_prefix)


def _shorter(store: ObjectStore, place: Place) -> list[ObjectInfo]:
    """The sidecars whose names are too short to be under the prefix: `7.prompts.json` of images under `7.j`."""
    stem = place.prefix.rpartition(".")[0]
    if not stem or "/" in place.prefix[len(stem) :]:
        return []
    names = [stem + suffix for suffix in SIDECAR_SUFFIXES]
    wanted = [name for name in names if not name.startswith(place.prefix) and len(name.encode()) <= MAX_NAME_BYTES]
    found = store.stat_all(place.bucket, wanted)
    return [found[name] for name in sorted(found)]


def _report(store: ObjectStore, place: Place, arguments: argparse.Namespace) -> int:
    until = time.monotonic() + arguments.wait
    elsewhere = Elsewhere(store, place.bucket, place.settings)
    while time.monotonic() < until and not _count(look(store, place, elsewhere)).finished:
        time.sleep(min(LOOK_AGAIN_S, max(0.0, until - time.monotonic())))
    wanted = STATES if "all" in arguments.list else tuple(arguments.list)
    show = _show_json if arguments.json else _show_text
    images = look(store, place, elsewhere)
    counts = _count(images, lambda around, verdict: verdict.state in wanted and show(place, around, verdict))
    _print_counts(counts, arguments)
    return 0 if counts.good else 1


def _count(
    images: Iterator[tuple[Around, Verdict]], each: Callable[[Around, Verdict], object] = lambda *_: None
) -> Counts:
    counts = Counts()
    for around, verdict in images:
        counts.add(verdict)
        each(around, verdict)
    return counts


def _show_text(place: Place, around: Around, verdict: Verdict) -> None:
    columns = verdict.state, gs_uri(place.bucket, around.image.name), verdict.detail
    print("\t".join(map(printable, columns)).rstrip())


def _show_json(place: Place, around: Around, verdict: Verdict) -> None:
    line: dict[str, Any] = {"state": verdict.state, "image": gs_uri(place.bucket, around.image.name)}
    documents = [gs_uri(place.rules.output_bucket, each.name) for each in around.documents] + around.elsewhere
    print(json_line(line | {"detail": verdict.detail, "documents": documents}))


def _print_counts(counts: Counts, arguments: argparse.Namespace) -> None:
    total = sum(counts.states.values())
    if arguments.json:
        states: dict[str, int] = {state: counts.states[state] for state in STATES}
        print(json_line({"uri": arguments.uri, "images": total, **states, "failed_codes": dict(counts.codes)}))
        return
    print(f"{arguments.uri}: {total} images")
    codes = ", ".join(f"{printable(code)} {number}" for code, number in counts.codes.most_common())
    for state in STATES:
        label = "waiting for prompts" if state == "waiting" else state
        print(f"  {label:<20}{counts.states[state]:>9}  {codes if state == 'failed' else ''}".rstrip())


def _split(what: str, uri: str) -> tuple[str, str]:
    match = _URI.fullmatch(uri)
    if match is None:
        raise Usage(f"{what}: {uri!r} is not allowed; allowed: gs://bucket or gs://bucket/prefix")
    return match[1], match[2] or ""


def _reason(error: Exception) -> str:
    return error.detail if isinstance(error, CloudUnavailable) else type(error).__name__
