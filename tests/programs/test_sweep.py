"""Sweeps over what a function makes of a size: programs, models and modules, labelled as those of a model rebuilt."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from jax.sharding import Mesh

import gradflow as gf
from gradflow.instruments.backward import gradients

MODEL = gf.transformer("pre", depth=1, width=8, heads=2, context=8)
DATA = gf.data.text(context=8, batch=2)
SEEDS = 3


def program(depth=1, width=8):
    model = gf.transformer("pre", depth=depth, width=width, heads=2, context=8)
    return gf.Program(partial(gradients.bare_loss, model), model.init)


@pytest.fixture(scope="module")
def swept():
    models = {"program": lambda depth: program(depth), "model": MODEL}
    return gf.sweep(models, DATA, depth=(1, 2), seeds=SEEDS)


def test_a_function_of_depth_is_swept_as_a_model_is(swept):
    assert list(swept.children) == ["program", "model"]
    for depth in (1, 2):
        own, reference = (swept[f"{name}/depth_{depth}"] for name in ("program", "model"))
        assert own.attrs["total_depth"] == reference.attrs["total_depth"] == depth
        np.testing.assert_allclose(own["stream_gradient"], reference["stream_gradient"], rtol=1e-4)


def test_the_figure_against_total_depth_takes_it(swept):
    """The last sublayer's output is what each model calls so."""
    drawn = gf.plot.total_depth(swept)
    assert drawn.get_ylabel().replace("\n", " ") == "parameter gradient, last feed-forward output"
    assert "program: program (bare_loss, " in drawn.get_label()
    found = gf.results.against_total_depth(swept, "stream_gradient", depth=0)
    assert found["program"].dims == ("total_depth", "seed")


def other_names(depth):
    def loss_fn(params, batch):
        x = params["tokens"][batch["inputs"]]
        for layer in params["layers"]:
            x = x + jnp.tanh(x @ layer["a_in"]) @ layer["b_out"]
        return jnp.mean((x @ params["tokens"].T - jax.nn.one_hot(batch["targets"], 256)) ** 2)

    def init(key):
        draw = jax.random.normal
        layers = [{"a_in": draw(key, (4, 4)), "b_out": draw(key, (4, 4))} for _ in range(depth)]
        return {"tokens": draw(key, (256, 4)), "layers": layers}

    return gf.Program(loss_fn, init)


@pytest.mark.further
def test_the_last_output_of_a_program_is_named(tmp_path):
    swept = gf.sweep({"mine": other_names}, DATA, depth=(1, 2, 3), seeds=2)
    assert gf.plot.total_depth(swept).get_ylabel().replace("\n", " ") == "parameter gradient, last b_out"
    run = gf.measure({"mine": other_names(2)}, DATA, seeds=2)
    folder = gf.report.write(run, tmp_path / "out", sweep=swept)
    summary = (folder / "tables" / "summary.txt").read_text()
    assert "program: mine (loss_fn, 1,088 parameters)" in summary
    assert "loss: the program's own" in summary
    assert "last b_out gradient at initialization, exponent in the number of blocks: mine" in summary


@pytest.mark.further
def test_a_function_of_width_may_return_models():
    make = lambda width: gf.transformer("post", depth=1, width=width, heads=2, context=8)
    tree = gf.sweep(make, DATA, width=(8, 16), seeds=2)
    assert [tree[f"model/width_{n}"].attrs["width"] for n in (8, 16)] == [8, 16]
    measured = gf.measure(make(16), DATA, seeds=2)["model"]
    np.testing.assert_array_equal(tree["model/width_16"]["stream_gradient"], measured["stream_gradient"])


class Residual(nnx.Module):
    def __init__(self, depth: int):
        rngs = nnx.Rngs(0)
        self.embedding = nnx.Embed(256, 4, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(depth)])

    def __call__(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + jnp.tanh(layer(x))
        return self.embedding.attend(x)


@pytest.mark.further
def test_a_function_may_return_modules_whose_weights_are_given():
    tree = gf.sweep(lambda depth: Residual(depth), DATA.batch(jax.random.key(0), 0), depth=(1, 3))
    assert tree["model/depth_3"].sizes["sublayer"] == 3
    assert tree["model/depth_3"].sizes["seed"] == 1


def failing_at_two(models, data, **options):
    if models["model"].depth == 2:
        raise ArithmeticError("two is too deep")
    return gf.measure(models, data, **options)


def test_a_sweep_in_a_folder_is_the_same_and_is_not_made_again(swept, tmp_path):
    for _ in range(2):
        tree = gf.sweep({"model": MODEL}, DATA, depth=(1, 2), seeds=SEEDS, folder=tmp_path)
        xr.testing.assert_equal(tree["model"], swept["model"])
        written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.nc")}
    assert len(written) == 2
    gf.sweep({"model": MODEL}, DATA, depth=(1,), seeds=SEEDS, folder=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.nc")} == written
    with pytest.raises(FileExistsError, match="seeds was 3, now 2; name another folder"):
        gf.sweep({"model": MODEL}, DATA, depth=(1,), seeds=2, folder=tmp_path)


def test_a_size_that_fails_is_kept_with_its_traceback(tmp_path):
    options = {"take": failing_at_two, "seeds": SEEDS, "folder": tmp_path}
    with pytest.warns(
        UserWarning, match="1 of 2 cells of the sweep failed, such as model/depth_2: ArithmeticError: two"
    ):
        tree = gf.sweep(MODEL, DATA, depth=(1, 2), **options)
    assert list(tree["model"].children) == ["depth_1"]
    assert gf.results.settings(tree)["failed"]["model/depth_2"].startswith("Traceback")
    assert [path.name[:13] for path in tmp_path.glob("*.traceback.txt")] == ["model-depth_2"]
    with pytest.raises(ArithmeticError, match="two is too deep"):
        gf.sweep(MODEL, DATA, depth=(2,), take=failing_at_two)


@pytest.mark.long
def test_two_processes_sweep_to_the_same_numbers(swept):
    tree = gf.sweep({"model": MODEL}, DATA, depth=(1, 2), seeds=SEEDS, executor=2)
    xr.testing.assert_allclose(tree["model"], swept["model"], rtol=1e-5)


REFUSED = {
    "a mesh beside an executor": (
        lambda: gf.sweep(MODEL, DATA, depth=(1,), executor=2, mesh=Mesh(np.array(jax.devices()[:1]), ("seed",))),
        "leave out the mesh, or the executor",
    ),
    "another size": (lambda: gf.sweep(lambda n: program(n), DATA, depth=(1,)), "model takes no depth, .* lambda depth"),
    "no model": (lambda: gf.sweep({"mine": lambda depth: depth}, DATA, depth=(1,)), r"mine\(depth=1\) is a int"),
    "one program": (
        lambda: gf.sweep(program(), DATA, depth=(1,)),
        r"program of one depth: .* lambda depth: gf\.Program",
    ),
    "a name": (lambda: gf.sweep({"seed": lambda depth: program(depth)}, DATA), "named 'seed'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_swept_is_refused(case):
    call, error = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=error):
        call()
