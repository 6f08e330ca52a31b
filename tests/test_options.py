"""A misspelt option is refused by the name of the function that was called, with the nearest option, before anything runs."""

import inspect

import jax.numpy as jnp
import made
import pytest

import gradflow as gf
from gradflow.results.arguments import answering, options_of

MODEL = gf.transformer("pre", depth=1, width=8, heads=2, context=6, vocabulary=11)
TREE = made.tree(("pre",))


def own_functions(module) -> dict:
    """The public functions that are written in a module."""
    found = {name: thing for name, thing in vars(module).items() if inspect.isfunction(thing)}
    return {name: one for name, one in found.items() if one.__module__ == module.__name__ and not name.startswith("_")}


NAMES = (
    "atlas",
    "checkpoint",
    "labelled",
    "measure",
    "predict",
    "record",
    "sweep",
    "train",
    "transformer",
    "transformers",
)
FUNCTIONS = {
    **{name: getattr(gf, name) for name in NAMES},
    **{f"data.{name}": getattr(gf.data, name) for name in ("text", "tokens")},
    **{f"experiments.{name}": one for name, one in own_functions(gf.experiments).items()},
    **{f"plot.{name}": getattr(gf.plot, name) for name in gf.plot.__all__ if callable(getattr(gf.plot, name))},
    **{f"report.{name}": getattr(gf.report, name) for name in ("write", "write_atlas", "again", "verify")},
}


def needed(function) -> list:
    """Something for each argument that has to be given in its place: a tree in the first."""
    parameters = inspect.signature(function).parameters.values()
    count = sum(one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty for one in parameters)
    return [TREE, *[None] * count][:count]


def named(function) -> list[str]:
    """The options of a function; of one that has none, the names of its arguments."""
    parameters = inspect.signature(function).parameters.values()
    return options_of(function) or [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]


def refused(call, *args, **options) -> str:
    """The line that an unknown option is refused with."""
    with pytest.raises(TypeError) as refusal:
        call(*args, **options)
    line = str(refusal.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_misspelt_option_is_refused_by_the_function_that_was_called_with_the_nearest(name):
    function = FUNCTIONS[name]
    for option in named(function):
        line = refused(function, *needed(function), **{f"{option}x": None})
        start, _, _ = line.partition(" known: ")
        assert start.startswith(f"{name.split('.')[-1]} has no option '{option}x': did you mean ")
        assert f"'{option}'" in start


def test_what_is_handed_on_is_in_the_signature():
    of = lambda function: set(options_of(function))
    assert of(gf.transformers) == of(gf.transformer)
    cells = {"executor", "folder"}
    assert of(gf.experiments.grid) == of(gf.train) | cells
    assert of(gf.experiments.warmup) == of(gf.train) | cells | {"lrs", "warmups", "base"}
    assert of(gf.experiments.sensitivity) == of(gf.experiments.quality) == of(gf.experiments.warmup) - {"warmups"}
    assert of(gf.experiments.amplification) == {"recipe", "depth", "width"} | cells | of(gf.train) - {
        "steps",
        "record",
        "readings",
    }
    assert {"seeds", "dials"} < of(gf.measure)


def test_an_option_of_another_kind_of_model_is_refused():
    line = refused(gf.measure, MODEL, None, dials={})
    assert line.startswith("measure of a model has no option 'dials': known: seeds, key, ")
    line = refused(gf.measure, lambda params, batch: 0.0, {}, None, sedes=2)
    assert line.startswith("measure has no option 'sedes': did you mean 'seeds'")
    with pytest.raises(
        ValueError, match=r"seeds=2 draws weights, but params are given: give init\(key\) in their place"
    ):
        gf.measure(lambda params, batch: 0.0, {"w": jnp.ones(2)}, None, seeds=2)


def test_a_sweep_has_the_options_of_what_it_takes():
    assert "did you mean 'draws'" in refused(gf.sweep, MODEL, None, take=gf.predict, darws=2)
    assert "did you mean 'seeds'" in refused(gf.sweep, MODEL, None, sedes=2)
    assert refused(gf.sweep, MODEL, None, take=gf.predict, seeds=2).startswith("sweep has no option 'seeds'")
    seen = []
    own = lambda models, data, **options: seen.append(options) or gf.measure(models, data, seeds=1)
    batch = {"inputs": jnp.ones((1, 4), int), "targets": jnp.ones((1, 4), int)}
    gf.sweep(MODEL, batch, depth=(1,), take=own, anything=3)
    assert seen == [{"anything": 3}]


def test_a_dimension_of_the_tree_is_an_option_of_a_figure():
    line = refused(gf.plot.profile, TREE, "parameter_gradient", parametr="down")
    assert line.startswith("profile has no option 'parametr': did you mean 'parameter'")
    assert "did you mean 'parameter'" in refused(gf.plot.profile, tree=TREE, parametr="down")
    with pytest.raises(ValueError, match="no dimension 'parameter': "):
        gf.plot.profile(TREE, parameter="down")


def test_fields_of_an_architecture_are_the_options_of_its_scaled():
    line = refused(gf.architecture("gpt2").scaled, dpth=2)
    assert line.startswith("scaled has no option 'dpth': did you mean 'depth'")


def test_options_that_are_known_pass_as_they_are():
    """Also those by their place, and a function without any."""

    def inner(*, size: int = 3, colour: str = "red"):
        return size, colour

    @answering(inner, without=("colour",))
    def outer(first, /, second=2, **options):
        return first, second, options

    assert outer(1) == (1, 2, {})
    assert outer(1, second=3, size=4) == (1, 3, {"size": 4})
    assert str(inspect.signature(outer)) == "(first, /, second=2, *, size: int = 3)"
    assert "known: size" in refused(outer, 1, colour="blue")
    assert refused(answering()(lambda: 1), size=1).endswith("known: ")
