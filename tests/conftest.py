"""Policy of the tests: float64, no windows, warnings are errors (pyproject.toml), shapes at public boundaries checked.

Programs are compiled quickly, to slower code: a test whose subject is the optimized program asks `compiling.as_users` for it.
"""

import os
import time

os.environ.setdefault("MPLBACKEND", "agg")

import compiling
import jax
import pytest
from jaxtyping import install_import_hook

compiling.use_fast_compilation()
COMPILER = compiling.Compiler()
jax.config.update("jax_enable_x64", True)

install_import_hook(["gradflow.model", "gradflow.instruments"], "typecheck.shaped")


def pytest_addoption(parser):
    """`pytest --compiled FILE` adds a row a test file to a table: programs, seconds of compiling them, seconds in all."""
    parser.addoption("--compiled", help="a CSV file to add to: programs, seconds of compiling and in all, by test file")


def pytest_collection_modifyitems(items):
    """Files with a `long` test come first: none is left to one worker while the other has nothing to do."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="module")
def quickly_compiled():
    """What holds for every test (compiling.py)."""


@pytest.fixture(autouse=True)
def _strict(request):
    """A model called by itself runs under its caller's settings: in its tests nothing is promoted in type or rank.

    Entry points set the usual ones (model/numerics/settings.py). A test marked `promotes` has formulas of its own that need them.
    """
    if "model" not in request.path.parts or request.node.get_closest_marker("promotes"):
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_let_go(request):
    """A file's programs are not kept for the next: a whole run would hold several gigabytes. `--compiled` has their number."""
    programs, seconds, begun = COMPILER.programs, COMPILER.seconds, time.monotonic()
    yield
    jax.clear_caches()
    place = request.config.getoption("--compiled")
    if place:
        file = request.path.relative_to(request.config.rootpath / "tests").as_posix()
        row = (file, COMPILER.programs - programs, COMPILER.seconds - seconds, time.monotonic() - begun)
        with open(place, "a", encoding="utf-8") as table:
            table.write("{},{},{:.1f},{:.1f}\n".format(*row))
