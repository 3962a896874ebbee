"""Both constraint files pin every dependency, within the ranges that pyproject.toml gives."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def read_pins(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / name).read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), "every line is name==version"
    return {canonicalize_name(name): version for name, version in pins}


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt"])
def test_every_dependency_is_pinned_within_its_range(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = read_pins(name)
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["aws"], *extras["gcp"], *extras["tracker"]]:
        wanted = Requirement(text)
        pinned = pins.get(canonicalize_name(wanted.name))
        assert pinned is not None and wanted.specifier.contains(pinned), f"{text} is pinned as {pinned}"


def test_the_two_files_differ_only_in_what_comes_with_torch_and_in_tools() -> None:
    cpu, gpu = read_pins("cpu.txt"), read_pins("gpu.txt")
    assert {name for name in gpu if cpu.get(name) != gpu[name]} == {"torch", "xformers"}
