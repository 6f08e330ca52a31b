"""The floors: what pyproject.toml says is enough is what constraints-floor.txt installs, and the gate tries it."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("hf", "test")  # the oracle's versions are exact, and notebooks and tools are no part of a job


def requirements(path: str) -> dict[str, Requirement]:
    """The lines of a file of constraints, by name."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    stated = [line.partition("#")[0].strip() for line in lines]
    return {found.name: found for found in map(Requirement, filter(None, stated))}


def version(requirement: Requirement, operator: str) -> Version:
    """Of a requirement that has that one bound alone."""
    (bound,) = requirement.specifier
    assert bound.operator == operator
    return Version(bound.version)


DECLARED = PROJECT["dependencies"] + [line for extra in EXTRAS for line in PROJECT["optional-dependencies"][extra]]
NEEDED = {needed.name: needed for needed in map(Requirement, DECLARED)}


@pytest.mark.parametrize("name", NEEDED)
def test_a_stated_minimum_is_the_version_that_the_gate_installs(name):
    assert version(NEEDED[name], ">=") == version(requirements("constraints-floor.txt")[name], "==")


@pytest.mark.parametrize("name", NEEDED)
def test_the_tested_setting_is_no_older_than_the_floor(name):
    assert version(requirements("constraints.txt")[name], "==") >= version(NEEDED[name], ">=")


def test_the_gate_runs_a_job_and_tests_at_the_floors():
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert '-c "$checkout/constraints-floor.txt"' in gate
