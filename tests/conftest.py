"""Policy of the tests: float64, no windows, warnings are errors (pyproject.toml), shapes at public boundaries checked.

Programs are compiled quickly, to slower code: a test whose subject is the optimized program asks `compiling.as_users` for it.
Waiting for them is waiting for the compiler: compiled.csv has how many programs each file needs; `--budget` keeps to it.
"""

import os
import sys
import time
from importlib.metadata import version

os.environ.setdefault("MPLBACKEND", "agg")
os.environ["GRADFLOW_CACHE"] = "off"  # what a test compiles is counted, and nothing of it is left
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # child processes share what the first of them compiled

import budget
import compiling
import jax
import pytest
from jaxtyping import install_import_hook

compiling.use_fast_compilation()
COMPILER = compiling.Compiler()
jax.config.update("jax_enable_x64", True)

install_import_hook(["gradflow.model", "gradflow.instruments"], "typecheck.shaped")


def pytest_addoption(parser):
    """`--compiled FILE` adds rows to a table such as compiled.csv; `--budget` fails files that need more than stands there.

    `--part 2/6` chooses the files of one of six parts, the longest ones dealt first.
    """
    parser.addoption("--compiled", help="a CSV file to add a row to for each test file: see budget.Row")
    parser.addoption(
        "--budget", action="store_true", help="fail a file that compiles more programs than compiled.csv says"
    )
    parser.addoption(
        "--part",
        type=part,
        metavar="K/N",
        help="run the chosen tests of one of N parts of the files, of the K-th from 0: all parts run all of them",
    )


def part(text: str) -> tuple[int, int]:
    """Which part of how many, `(2, 6)` of "2/6"."""
    which, parts = map(int, text.split("/"))
    if not 0 <= which < parts:
        raise ValueError(text)
    return which, parts


def selection(config) -> str:
    """Which tests run, as compiled.csv names it: `all`, `default`, or `some`, of which it has no numbers."""
    if (
        config.getoption("keyword")
        or config.getoption("--part") is not None
        or any("::" in argument for argument in config.args)
    ):
        return "some"
    return {"": "all", "not long and not further": "default"}.get(config.getoption("markexpr"), "some")


def pytest_collection_modifyitems(config, items):
    """Files that took longest come first, and new ones before them: no worker is left with a long file at the end."""
    rows = budget.rows(selection(config)) or budget.rows("all")
    seconds = {file: row.seconds for file, row in rows.items()}
    if config.getoption("--part") is not None:
        which, parts = config.getoption("--part")
        files = {file_of(item, config) for item in items}
        dealt = sorted(files, key=lambda file: (-seconds.get(file, 0.0), file))[which::parts]
        config.hook.pytest_deselected(items=[item for item in items if file_of(item, config) not in dealt])
        items[:] = [item for item in items if file_of(item, config) in dealt]
    items.sort(key=lambda item: -seconds.get(file_of(item, config), float("inf")))


def file_of(place, config) -> str:
    """The test file of an item or a request, as compiled.csv names it."""
    return place.path.relative_to(config.rootpath / "tests").as_posix()


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


@pytest.fixture(autouse=True, scope="session")
def _figures_are_saved_quickly():
    """A PDF draws its letters, in place of holding a font cut down to them, which takes most of the time of saving it.

    A PNG has a quarter of the dots in a line.
    """
    from gradflow.report.plot import canvas

    canvas.STYLE["pdf.fonttype"] = 3
    canvas.STYLE["savefig.dpi"] = 75


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_let_go_and_counted(request):
    """A file's small programs serve the next, until there are too many: a whole run's would hold several gigabytes.

    So a file compiles at most what it does when it is run by itself, which is what compiled.csv says.
    """
    programs, compiling_seconds, begun = COMPILER.programs, COMPILER.seconds, time.monotonic()
    yield
    compiling.let_go_if_crowded(4_000)
    file, chosen = file_of(request, request.config), selection(request.config)
    seconds = COMPILER.seconds - compiling_seconds, time.monotonic() - begun
    row = budget.Row(file, chosen, COMPILER.programs - programs, *seconds)
    place = request.config.getoption("--compiled")
    if place:
        budget.add(place, row)
    counts_are_comparable = sys.version_info[:2] == (3, 11) and version("jaxlib") == budget.COUNTED_WITH
    if request.config.getoption("--budget") and counts_are_comparable:
        budget.check(row)
