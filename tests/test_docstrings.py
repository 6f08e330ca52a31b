"""The examples in the docstrings say what happens, and doctest finds them all."""

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import gradflow

ROOT = Path(gradflow.__file__).parent
MODULES = ["gradflow", *(found.name for found in pkgutil.walk_packages([str(ROOT)], "gradflow."))]


def written(module) -> int:
    """Number of lines of examples in the module's text."""
    return sum(line.lstrip().startswith(">>> ") for line in Path(module.__file__).read_text("utf-8").splitlines())


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_say_what_happens(name):
    module = import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
    assert results.attempted == written(module), "an example was not found by doctest"


def test_there_are_examples():
    assert len(MODULES) == len(list(ROOT.rglob("*.py")))
    assert sum(written(import_module(name)) for name in MODULES) >= 5
