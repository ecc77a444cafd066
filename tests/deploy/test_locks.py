"""requirements/*.txt: every package with a version and hashes, from no particular index, and as pyproject.toml asks."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.dockerfile import ROOT

LOCKS = sorted(path.name for path in (ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BY_INDEX = {"torch", "torchvision", "triton"}


def locked(name: str) -> dict[str, str]:
    """Package → version."""
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ \\]+)", text, re.MULTILINE))


def unmet(requirements: list[str], lock: dict[str, str]) -> list[str]:
    parsed = [Requirement(text) for text in requirements]
    wanted = {canonicalize_name(each.name): each for each in parsed if not each.marker or each.marker.evaluate()}
    return [
        str(each)
        for name, each in wanted.items()
        if name not in BY_INDEX | {"sam3-service"} and not each.specifier.contains(lock.get(name, "0"))
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_only_versions_and_hashes(name: str) -> None:
    lines = [line.rstrip(" \\") for line in (ROOT / "requirements" / name).read_text().splitlines()]
    strange = [
        line
        for line in lines
        if not re.fullmatch(r" *#.*|[a-z0-9.-]+==[0-9a-z.+!-]+(?: ; .*)?| {4}--hash=sha256:[0-9a-f]{64}", line)
    ]
    assert strange == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_a_hash(name: str) -> None:
    packages = re.split(r"^(?=[a-z])", (ROOT / "requirements" / name).read_text(), flags=re.MULTILINE)[1:]
    assert len(packages) == len(locked(name))
    assert [package for package in packages if "--hash=sha256:" not in package] == []


def test_what_the_service_asks_for() -> None:
    assert unmet(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["tracing"], locked("service.txt")) == []


def test_what_the_tests_ask_for() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [text for extra in ("local", "tracing", "test") for text in extras[extra]]
    assert unmet(PROJECT["dependencies"] + asked, locked("test.txt")) == []


def test_what_torch_asks_for() -> None:
    """Beside CUDA packages, which a build of torch pins itself."""
    asked = [text for text in requires("torch") or [] if not re.match(r"(nvidia|cuda|triton)", text)]
    assert unmet(asked, locked("torch.txt")) == []


def test_what_comes_from_torchs_own_index_is_not_locked() -> None:
    assert {name: BY_INDEX & locked(name).keys() for name in LOCKS} == {name: set() for name in LOCKS}


def test_the_files_agree() -> None:
    """They are installed into one image."""
    versions: dict[str, set[str]] = {}
    for name in LOCKS:
        for package, version in locked(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}
