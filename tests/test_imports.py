"""The house: imports point down, equation (1) is written once, one function scans over depth; read from the syntax trees."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gradflow as gf

ROOT = Path(gf.__file__).parent
FLOORS = {
    "compiler": set(),
    "results": {"compiler", "progress"},
    "progress": set(),
    "compiling": {"compiler", "results"},
    "laws": {"results"},
    "model": {"results", "laws"},
    "instruments": {"compiling", "progress", "results", "laws", "model"},
    "theory": {"compiling", "progress", "results", "laws", "model"},
    "programs": {"compiling", "progress", "results", "laws", "model", "instruments"},
    "training": {"compiling", "progress", "results", "laws", "model", "instruments", "programs"},
    "published": {"progress", "results", "laws", "model", "instruments", "programs", "theory", "training"},
    "report": {"progress", "results", "laws"},
    "interop": {"results", "laws", "model", "instruments", "programs", "training"},
    "recomputation": {"results", "model", "instruments", "programs", "theory", "training", "interop"},
    "costs": {"compiling", "results", "model", "instruments", "programs", "theory", "training"},
    "named": {"results", "laws", "model", "training"},
    "jobs": {
        "named",
        "results",
        "laws",
        "model",
        "instruments",
        "programs",
        "theory",
        "training",
        "published",
        "report",
        "interop",
    },
}


def dotted(path: Path) -> str:
    """`report/bundle.py` -> `report.bundle`, `report/__init__.py` -> `report`, the package itself -> ``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {dotted(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}
PACKAGES = [name for name, path in PATHS.items() if name and path.name == "__init__.py"]
INSIDE = [name for name in TREES if name.split(".")[0] not in ("", "cli")]


def floor(module: str) -> str:
    """The floor a module is on."""
    return module.split(".")[0]


def imported(module: str, tree: ast.AST) -> set[str]:
    """Full names of all that a module imports, wherever in it, ours as `gradflow.…`."""
    package = "gradflow" if not module else f"gradflow.{module}"
    package = package.split(".") if PATHS[module].name == "__init__.py" else package.split(".")[:-1]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module.split(".") if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def ours(name: str) -> str | None:
    """The module of ours behind a full name (a module, or something in one); None for other libraries."""
    words = name.split(".")
    if words[0] != "gradflow":
        return None
    candidates = [".".join(words[1:end]) for end in range(len(words), 0, -1)]
    return next(module for module in candidates if module in TREES)


GRAPH = {m: {ours(name) for name in imported(m, tree)} - {None} for m, tree in TREES.items()}


def listed(package: str) -> list[str]:
    """Modules of a floor, bottom up, as its docstring lists them."""
    names = re.search(r"[Bb]ottom up: ([\w,\s]+)\.", ast.get_docstring(TREES[package]))
    return re.split(r",\s+", names[1]) if names else []


def first_below(package: str, module: str) -> str:
    """The module or package directly in `package` that `module` is, or lies in."""
    return module.removeprefix(f"{package}.").split(".")[0]


def functions_around(module: str, wanted) -> list[str]:
    """Names of the innermost functions around the nodes that are `wanted`, one entry a node."""
    found = []

    def visit(node, function):
        if wanted(node):
            found.append(function)
        inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(TREES[module], "")
    return [f"{module}.{function}" for function in found]


def everywhere(wanted) -> list[str]:
    """The same over all modules."""
    return [place for module in TREES for place in functions_around(module, wanted)]


# ---- who knows whom -----------------------------------------------------------------------------------------


def test_the_graph_is_read_right():
    """A few edges that are known to be there: a dotted, a bare and a nested import, and a package."""
    assert "model.equation.sublayer" in GRAPH["instruments.meters.meter"]
    assert {"report.text.captions", "report.tables"} <= GRAPH["report.plot.profiles"]
    assert "laws" in GRAPH["report.tables.fits"]
    assert {"jobs", "named"} <= GRAPH["cli.commands"]
    assert "results.tree" in GRAPH["results"]


@pytest.mark.parametrize("module", INSIDE)
def test_a_module_imports_from_the_floors_below_alone(module):
    above = {other for other in GRAPH[module] if floor(other) not in FLOORS[floor(module)] | {floor(module)}}
    assert not above


@pytest.mark.parametrize("package", PACKAGES)
def test_within_a_package_imports_follow_the_order_its_docstring_lists(package):
    order = listed(package)
    inside = [name for name in TREES if name.startswith(f"{package}.")]
    present = {first_below(package, name) for name in inside}
    assert len(order) == len(set(order))
    if order or len(present) > 1:
        assert set(order) == present
    for module in inside:
        own = first_below(package, module)
        others = {first_below(package, other) for other in GRAPH[module] if other.startswith(f"{package}.")} - {own}
        assert all(order.index(other) < order.index(own) for other in others), module
        assert package not in GRAPH[module], f"{module} imports its own package"


def test_there_is_no_circle():
    list(graphlib.TopologicalSorter({m: GRAPH[m] - {m} for m in TREES}).static_order())  # raises CycleError


def test_the_package_is_a_table_of_contents():
    assert len(PATHS[""].read_text(encoding="utf-8").splitlines()) <= 70
    assert GRAPH[""] == {"compiler", "results.arguments"}  # the second where a name is not there
    assert {getattr(gf, name) is not None for name in gf.__all__} == {True}


def test_importing_the_package_is_quick_because_it_imports_nothing():
    heavy = "{'jax', 'flax', 'xarray', 'matplotlib', 'scipy'}"
    program = f"import sys, gradflow; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_every_library_that_is_imported_is_declared():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = lambda lines: {re.match(r"\w+", line)[0] for line in lines}  # orbax-checkpoint is imported as orbax
    used = {m: {name.split(".")[0].lower() for name in imported(m, tree)} for m, tree in TREES.items()}
    others = set().union(*used.values()) - names(project["dependencies"]) - set(sys.stdlib_module_names)
    assert others == {"gradflow", "equinox"} | names(
        [*project["optional-dependencies"]["hf"], *project["optional-dependencies"]["gguf"]]
    )
    where = {name: [m for m in used if name in used[m]] for name in ("safetensors", "tokenizers", "equinox")}
    assert where == {
        "safetensors": ["interop.pretrained.files"],
        "tokenizers": ["interop.cutter"],
        "equinox": ["programs.modules"],  # where a module of it comes in
    }


# ---- what is written once -----------------------------------------------------------------------------------

LOOPS = {"scan", "fori_loop", "while_loop", "associative_scan"}


def is_loop(node) -> bool:
    """A call of one of `lax`'s loops, by whatever name `lax` goes."""
    if not isinstance(node, ast.Call):
        return False
    name = getattr(node.func, "attr", getattr(node.func, "id", None))
    return name in LOOPS


def test_over_depth_only_walk_loops():
    """The others go over tangents, normals, bits, steps or tokens of one place, rounds of a projection, timings, as a user's."""
    others = [
        "instruments.directions.orthonormalized",
        "instruments.jacobians.bidiagonal.bidiagonal",
        "instruments.jacobians.bidiagonal.continued",
        "instruments.jacobians.spaces.gram_schmidt",
        "instruments.jacobians.triangular.solved",
        "model.branches.delta_net.delta_rule",
        "model.inputs.ngrams.remainder",
        "model.layers.lane_mixing.sinkhorn",
        "model.layers.manifolds.balanced",
        "compiling.operations._multiplied",
        "compiling.operations._pointwise",
        "programs.trace.evaluation._scanned",
        "programs.trace.stacking._looped",
    ]
    assert sorted(everywhere(is_loop)) == sorted([*others, "model.equation.sublayer.walk"])


def calls(node) -> list[ast.Call]:
    """All calls inside an expression."""
    return [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]


def is_residual_add(node) -> bool:
    """`skip(…) + …`, `parts["skip"](…) + …`, or `x + f(x)` for any name x."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
        return False
    for side, other in ((node.left, node.right), (node.right, node.left)):
        if isinstance(side, ast.Call) and re.search(r"\bskip\b", ast.unparse(side.func)):
            return True
        passed = [ast.unparse(a) for call in calls(other) for a in call.args]
        if isinstance(side, ast.Name) and side.id in passed:
            return True
    return False


@pytest.mark.parametrize(
    ("text", "residual"),
    [
        ("skip(x) + branch(x)", True),
        ("write(y) + self.skip(x)", True),
        ('parts["skip"](x) + 0', True),
        ("x + f(norm(x))", True),
        ("mlp(params, x) + x", True),
        ("skip_rms(x) + 1", False),
        ("token[i] + position[:n]", False),
        ("x * f(x)", False),
    ],
)
def test_a_residual_add_is_recognized(text, residual):
    assert is_residual_add(ast.parse(text, mode="eval").body) == residual


def test_only_sublayer_adds_a_skip_and_a_branch():
    assert everywhere(is_residual_add) == ["model.equation.sublayer.sublayer"]


# ---- who prints, who draws ----------------------------------------------------------------------------------


def test_only_the_command_line_prints():
    is_print = lambda node: isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
    assert {place.split(".")[0] for place in everywhere(is_print)} == {"cli"}


def test_only_the_report_and_the_command_line_know_matplotlib():
    knowing = {floor(m) for m, tree in TREES.items() if any(n.split(".")[0] == "matplotlib" for n in imported(m, tree))}
    assert knowing == {"report", "cli"}


def test_the_report_computes_nothing_on_a_device():
    used = {name.split(".")[0] for m in TREES if floor(m) == "report" for name in imported(m, TREES[m])}
    assert not used & {"jax", "flax", "optax"}
