"""Every fault that is put in: what is left out, and what is changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tests.deploy.mutate.blocks import Block, blocks_of, innermost

Kind = Literal["grant", "block", "depends_on", "number", "flag"]

_DEPENDS_ON = re.compile(r"^\s*depends_on\s+= \[")
_ENTRY = re.compile(r"(?:data\.)?google_\w+\.\w+")
# An argument, or what another line goes on with.
_ARGUMENT = re.compile(r"^\s*(?:([\w-]+|\"[^\"]+\")\s+= )?(.*)$")
_TEXT = ("description", "error_message", "display_name", "content")
# A number by itself, or as all that a string says, with or without a unit.
_NUMBER = re.compile(r'(?<![\w.%"$-])\d+(?:\.\d+)?(?![\w.%"])|(?<=")\d+(?:\.\d+)?(?=(?:s|Gi)?")')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_FLAG = re.compile(r"(?<== )(true|false)$")
_GRANT = "_iam_member."


@dataclass(frozen=True)
class Mutant:
    """A configuration with one fault: `file` has `text` instead of its own.

    Where a whole resource is `gone`, other files must not name it in their depends_on: that is no fault of theirs.
    """

    name: str
    kind: Kind
    file: str
    text: str
    gone: str = ""

    def files(self, own: Mapping[str, str]) -> dict[str, str]:
        """The text of every file."""
        files = {**own, self.file: self.text}
        return {name: without_references(text, self.gone) for name, text in files.items()} if self.gone else files


def mutants_of(files: Mapping[str, str]) -> list[Mutant]:
    """All of them, each with a name of its own; what is no valid configuration is left to the caller to find."""
    found = [mutant for file, text in files.items() for mutant in _of_file(file, text.split("\n"))]
    return list(_numbered(found))


def without_references(text: str, resource: str) -> str:
    """A file in which no depends_on names a resource."""
    lines = text.split("\n")
    for at, entry in _dependencies(lines):
        if entry == resource:
            lines = _without_dependency(lines, at, entry)
            return without_references("\n".join(lines), resource)
    return text


def _of_file(file: str, lines: list[str]) -> Iterator[Mutant]:
    blocks = list(blocks_of(lines))
    yield from _dropped_blocks(file, lines, blocks)
    for at, entry in _dependencies(lines):
        name = f"{_place(blocks, at)}: depends_on {entry} dropped"
        yield Mutant(name, "depends_on", file, "\n".join(_without_dependency(lines, at, entry)))
    for at, line in enumerate(lines):
        argument = _ARGUMENT.match(re.split("(?:^| )# ", line)[0])
        if argument and argument[1] not in _TEXT:
            for kind, changed, what in _changed(argument[2], argument[1] or "…", _place(blocks, at)):
                mutated = line[: argument.start(2)] + changed
                yield Mutant(f"{_place(blocks, at)}: {what}", kind, file, _with_line(lines, at, mutated))


def _dropped_blocks(file: str, lines: list[str], blocks: list[Block]) -> Iterator[Mutant]:
    for block in blocks:
        if block.kind in ("variable", "locals", "content", "terraform", "required_providers"):
            continue  # without it nothing is valid
        kind: Kind = "grant" if not block.path and _GRANT in block.name else "block"
        text = "\n".join(lines[: block.first] + lines[block.last + 1 :])
        yield Mutant(f"{block.title} dropped", kind, file, text, "" if block.path else block.name)


def _dependencies(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Line and name of each entry of each depends_on."""
    inside = False
    for at, line in enumerate(lines):
        inside = inside or bool(_DEPENDS_ON.match(line))
        if inside:
            code = line.split("#")[0]
            yield from ((at, entry) for entry in _ENTRY.findall(code))
            inside = "]" not in code


def _without_dependency(lines: list[str], at: int, entry: str) -> list[str]:
    shorter = re.sub(rf"{re.escape(entry)}(, )?", "", lines[at])
    return [*lines[:at], *([] if shorter.strip() in ("", ",") else [shorter]), *lines[at + 1 :]]


def _changed(value: str, argument: str, place: str) -> Iterator[tuple[Kind, str, str]]:
    if _GRANT in place and argument in ("role", "member"):
        other = '"roles/viewer"' if argument == "role" else '"serviceAccount:nobody@example.com"'
        yield "grant", other, f"{argument} changed"
    strings = [found.span() for found in _STRING.finditer(value) if not _NUMBER.search(found[0])]
    for number in _NUMBER.finditer(value):
        if not any(first <= number.start() < last for first, last in strings):
            more = f"{float(number[0]) + 0.1:g}" if "." in number[0] else str(int(number[0]) + 1)
            changed = value[: number.start()] + more + value[number.end() :]
            yield "number", changed, f"{argument} {number[0]} → {more}"
    for flag in _FLAG.finditer(f"= {value}"):
        other = "false" if flag[0] == "true" else "true"
        yield "flag", other, f"{argument} {flag[0]} → {other}"


def _with_line(lines: list[str], at: int, line: str) -> str:
    return "\n".join([*lines[:at], line, *lines[at + 1 :]])


def _place(blocks: list[Block], line: int) -> str:
    block = innermost(blocks, line)
    return block.title if block else "–"


def _numbered(mutants: list[Mutant]) -> Iterator[Mutant]:
    """Names with their file, and a number where several would have the same."""
    seen = Counter(f"{mutant.file} {mutant.name}" for mutant in mutants)
    count: Counter[str] = Counter()
    for mutant in mutants:
        name = f"{mutant.file} {mutant.name}"
        count[name] += 1
        yield replace(mutant, name=f"{name} ({count[name]})" if seen[name] > 1 else name)
