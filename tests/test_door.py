"""The front door: the table of contents, its stub for type checkers, and what it answers to names that it doesn't have."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import gradflow as gf

ROOT = Path(gf.__file__).parent
STUB = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
IMPORTS = [node for node in STUB.body if isinstance(node, ast.ImportFrom)]
STUBBED = {alias.asname: (node, alias.name) for node in IMPORTS for alias in node.names}


def test_table_stub_all_and_dir_have_the_same_names():
    assert set(STUBBED) == set(gf.__all__) == set(dir(gf))
    assert len(STUBBED) == sum(len(node.names) for node in IMPORTS)
    assert dir(gf) == sorted(dir(gf))


def test_the_stub_is_imports_and_a_docstring():
    assert len(STUB.body) == len(IMPORTS) + 1
    assert ast.get_docstring(STUB)


@pytest.mark.parametrize("name", gf.__all__)
def test_a_name_of_the_stub_leads_to_the_same_object(name):
    node, original = STUBBED[name]
    assert name == original
    home = f"gradflow.{node.module or ''}".rstrip(".")
    found = import_module(f"{home}.{name}") if name in gf.ROOMS else getattr(import_module(home), name)
    assert found is getattr(gf, name)


def test_the_wheel_takes_the_stub_and_the_marker_of_a_typed_package():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    others = {path.name for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others == set(project["tool"]["setuptools"]["package-data"]["gradflow"]) == {"py.typed", "__init__.pyi"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mesure", "gradflow has no 'mesure': did you mean 'measure' or 'metered' or 'meter'?"),
        (
            "Transformers",
            "gradflow has no 'Transformers': did you mean 'Transformer' or 'transformers' or 'transformer'?",
        ),
        ("zzz", "gradflow has no 'zzz': dir(gradflow) lists what there is"),
        ("a.b", "gradflow has no 'a.b': dir(gradflow) lists what there is"),
        ("_zzz", "gradflow has no '_zzz'"),
    ],
)
def test_a_misspelt_name_is_one_short_line_with_the_nearest(name, line):
    with pytest.raises(AttributeError) as refusal:
        getattr(gf, name)
    assert str(refusal.value) == line


def test_a_floor_that_is_imported_by_name_brings_nothing_else():
    program = "import sys; from gradflow import cli; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


# ---- types ---------------------------------------------------------------------------------------------------


def written(module: str, name: str) -> list[dict[str, str]]:
    """The options of every function of that name in a module's text, overloads too, with what they are by default."""
    tree = ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))
    found = [node.args for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return [
        dict(zip(map(ast.unparse, args.kwonlyargs), map(ast.unparse, args.kw_defaults), strict=True)) for args in found
    ]


def bare(options: dict[str, str]) -> dict[str, str]:
    """Without types."""
    return {name.partition(":")[0]: default for name, default in options.items()}


def test_what_type_checkers_see_of_measure_is_what_it_takes():
    of_models, of_program, of_module, of_function, itself = map(bare, written("programs/measurement", "measure"))
    assert [of_models] == list(map(bare, written("instruments/measurement", "measure_models")))
    assert [of_program] == list(map(bare, written("programs/readings", "measure_program")))
    assert [of_module] == list(map(bare, written("programs/readings", "measure_module")))
    assert [of_function] == list(map(bare, written("instruments/backward/loss", "measure_function")))
    assert itself == {}


SCRIPT = """
import gradflow as gf

models = gf.transformers("pre", "post", depth=2)
data = gf.data.text(context=16, batch=2)
reveal_type(gf.measure(models, data, seeds=2))
reveal_type(gf.train(models, data, gf.Recipe(lr=1e-3), steps=2)[1])
reveal_type(gf.transformer("pre", depth=2).depth)
reveal_type(gf.plot.profile(gf.predict(models, data)))
gf.measure(models, data, sedes=2)
gf.train(models, data, gf.Recipe(), stesp=2)
gf.transformer("pre", dpeth=2)
gf.mesure(models, data)
"""
SETTINGS = """
[mypy]
ignore_missing_imports = true
follow_imports = skip
[mypy-gradflow,gradflow.*,xarray,xarray.core.datatree,matplotlib.axes,matplotlib.axes._axes]
follow_imports = silent
"""


@pytest.mark.long
def test_a_type_checker_sees_the_types_of_a_script_and_its_misspelt_options(tmp_path):
    pytest.importorskip("mypy")
    script, settings = tmp_path / "script.py", tmp_path / "mypy.ini"
    script.write_text(SCRIPT)
    settings.write_text(SETTINGS)
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), str(script)]
    told = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT.parent)}, capture_output=True, text=True
    )
    revealed = re.findall(r'Revealed type is "(?:\w+\.)*(\w+)"', told.stdout)
    assert revealed == ["DataTree", "DataTree", "int", "Axes"], told.stdout
    for line in (
        'Unexpected keyword argument "sedes" for overloaded function "measure"',
        'Unexpected keyword argument "stesp" for "train"',
        'Unexpected keyword argument "dpeth" for "transformer"',
        'Module has no attribute "mesure"; maybe "measure"?',
    ):
        assert line in told.stdout, told.stdout
    assert {int(line) for line in re.findall(r"script.py:(\d+): error", told.stdout)} == {10, 11, 12, 13}, told.stdout
