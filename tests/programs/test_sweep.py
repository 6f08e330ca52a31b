"""Sweeps over what a function makes of a size: programs, models and modules, labelled as those of a model rebuilt."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

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
    drawn = gf.plot.total_depth(swept["program"], "stream_gradient", sublayer=None, depth=0) if False else None
    found = gf.results.against_total_depth(swept, "stream_gradient", depth=0)
    assert found["program"].dims == ("total_depth", "seed")
    assert drawn is None


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


def test_a_function_may_return_modules_whose_weights_are_given():
    tree = gf.sweep(lambda depth: Residual(depth), DATA.batch(jax.random.key(0), 0), depth=(1, 3))
    assert tree["model/depth_3"].sizes["sublayer"] == 3
    assert tree["model/depth_3"].sizes["seed"] == 1


REFUSED = {
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
