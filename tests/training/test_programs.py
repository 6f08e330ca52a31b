"""Training of somebody's own program: a gradflow model handed in as a bare loss gives the run of that model."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.training.optimizers import Adam, Muon

MODEL = gf.transformer("pre", depth=2, width=8, heads=2, context=8)
ANGLES = {"update_angle", "outer_update_angle"}


def bare_loss(params, batch):
    return gradients.bare_loss(MODEL, params, batch)


MINE = gf.Program(bare_loss, MODEL.init)
RECIPE = gf.Recipe(Adam(eps=1e-4), lr=0.05, warmup=2, clip=1.0)


def residual_loss(params, batch):
    """Parameters in a list, a batch of any form, and more returned than the loss."""
    x, y = batch
    for w in params:
        x = x + jnp.tanh(x @ w)
    loss = jnp.mean((x - y) ** 2)
    return loss, {"largest": jnp.max(x)}


def residual_init(key):
    return list(0.5 * jax.random.normal(key, (3, 4, 4)))


RESIDUAL = gf.Program(residual_loss, residual_init)


class Pairs:
    """Data of one's own: arrays, no tokens."""

    def batch(self, key, step):
        x = jax.random.normal(jax.random.fold_in(key, step), (2, 5, 4))
        return x, jnp.flip(x, -1)

    def batches(self, keys, step):
        return jax.vmap(lambda key: self.batch(key, step))(keys)

    def held_out(self):
        return self.batch(jax.random.key(99), 0)

    def description(self):
        return {"name": "pairs"}


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


def train(models, data, **options):
    return gf.train(models, data, options.pop("recipe", RECIPE), **{"steps": 3, "seeds": 2, **options})


@pytest.fixture(scope="module")
def runs(data):
    return train({"model": MODEL, "program": MINE}, data)


def test_a_run_of_a_models_bare_loss_is_the_run_of_the_model(runs):
    params, run = runs
    for one, other in zip(jax.tree.leaves(params["program"]), jax.tree.leaves(params["model"]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    model, program = run["model"], run["program"]
    for name in (
        "loss",
        "stream_gradient",
        "stream_rms",
        "readout_gradient",
        "token_cosine",
        "heldout_loss",
        "learning_rate",
    ):
        assert program[name].dims == model[name].dims
        np.testing.assert_allclose(program[name], model[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert (program["nonfinite_step"] == -1).all()


@pytest.mark.parametrize("name", ["parameter_gradient", "update_norm", "update_to_weight", "gradient_in_epsilons"])
def test_what_is_read_by_parameter_is_that_of_the_model(name, runs):
    """Columns have other names and another order."""
    model, program = (runs[1][node][name] for node in ("model", "program"))
    assert program.dims == ("step", "seed", "sublayer", "parameter")
    assert program.sizes["sublayer"] == model.sizes["sublayer"]
    for step in (0, 1):
        for sublayer in range(4):
            rows = [values.isel(step=step, sublayer=sublayer, seed=0).values for values in (program, model)]
            finite = [np.sort(row[np.isfinite(row)]) for row in rows]
            np.testing.assert_allclose(*finite, rtol=1e-3, atol=1e-6)
    assert np.isnan(program.isel(step=-1)).all() == np.isnan(model.isel(step=-1)).all()


def test_a_program_has_what_a_model_has_but_two(runs):
    names = {name: set(runs[1][name].data_vars) for name in ("model", "program")}
    assert names["model"] - names["program"] == {"heldout_loss_sem", *ANGLES}
    assert names["program"] <= names["model"]


def test_economy_is_a_part_of_standard(runs, data):
    _, run = train({"program": MINE}, data, readings="economy")
    less, more = run["program"], runs[1]["program"]
    assert {"loss", "stream_gradient", "parameter_gradient", "heldout_loss"} < set(less.data_vars)
    assert set(more.data_vars) - set(less.data_vars) >= {"budget", "split", "update_norm"}
    for name, values in less.data_vars.items():
        np.testing.assert_allclose(values, more[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.further
def test_parameters_and_batches_may_have_any_form_and_a_loss_may_return_more():
    params, run = train({"mine": RESIDUAL}, Pairs(), recipe=gf.Recipe("adamw", clip_parameter=0.1))
    assert [w.shape for w in params["mine"]] == [(2, 4, 4)] * 3
    node = run["mine"]
    assert node.sizes["sublayer"] == 3
    assert node["parameter_gradient"].notnull().all()
    assert node["kind"].values.tolist() == [node["kind"].values[0]] * 3
    assert float(node["heldout_loss"].isel(step=-1).mean()) < float(node["heldout_loss"].isel(step=0).mean())


@pytest.mark.further
def test_a_reading_of_ones_own_is_taken_of_the_program():
    def largest(program, params, batch):
        _, more = program.loss_fn(params, batch)
        return {"largest_entry": more["largest"]}

    _, run = train({"mine": RESIDUAL}, Pairs(), recipe=optax.sgd(0.1), readings=("economy", largest))
    assert run["mine"]["largest_entry"].dims == ("step", "seed")


def test_weights_of_a_run_can_be_measured(runs, data):
    measured = gf.measure({"program": MINE, "model": MODEL}, data, params=runs[0])
    assert list(measured.children) == ["program", "model"]
    one, other = measured["program"]["stream_gradient"], measured["model"]["stream_gradient"]
    np.testing.assert_allclose(one, other, rtol=1e-3)
    assert measured.attrs["weights"] == "given"


def test_a_diverging_seed_is_recorded_and_spoils_no_other():
    def sometimes(key):
        huge = jnp.where(jax.random.bernoulli(key), 1e30, 1.0)
        return [huge * w for w in residual_init(key)]

    def straight_loss(params, batch):
        x, y = batch
        for w in params:
            x = x + x @ w
        return jnp.mean((x - y) ** 2)

    _, run = train({"wild": gf.Program(straight_loss, sometimes)}, Pairs(), recipe=optax.sgd(1e-3), seeds=6)
    node = run["wild"].isel(step=-1)
    bad = node["nonfinite_step"] == 0
    assert 0 < int(bad.sum()) < 6
    assert np.isfinite(node["loss"][~bad]).all()
    assert (node["nonfinite_step"][~bad] == -1).all()


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    whole, straight = train({"mine": RESIDUAL}, Pairs(), recipe=optax.adam(0.1))
    folder = {"checkpoints": tmp_path / "run", "checkpoint_every": 1}

    def stop(line):
        if line["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train({"mine": RESIDUAL}, Pairs(), recipe=optax.adam(0.1), watch=stop, **folder)
    again, resumed = train({"mine": RESIDUAL}, Pairs(), recipe=optax.adam(0.1), resume=True, **folder)
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    assert resumed["mine"].equals(straight["mine"])


def test_another_loss_of_the_same_name_does_not_resume_a_run(tmp_path):
    def with_constant(constant):
        def loss(params, batch):
            x, y = batch
            for w in params:
                x = x + constant * jnp.tanh(x @ w)
            return jnp.mean((x - y) ** 2)

        return gf.Program(loss, residual_init)

    options = {"recipe": optax.sgd(0.1), "checkpoints": tmp_path / "run", "steps": 1}
    train({"mine": with_constant(1.0)}, Pairs(), **options)
    train({"mine": with_constant(1.0)}, Pairs(), resume=True, **options)
    with pytest.raises(FileExistsError, match="another configuration: losses"):
        train({"mine": with_constant(2.0)}, Pairs(), resume=True, **options)


def without_stream(params, batch):
    x, y = batch
    for w in params:
        x = jnp.tanh(x @ w)
    return jnp.mean((x - y) ** 2)


REFUSED = {
    "spectrum": ({"readings": "full"}, r"program, of which .*spectrum.* can't be read"),
    "remat": ({"readings": ("rematerialized",)}, "rematerialized can't be read"),
    "dropout": ({"recipe": replace(RECIPE, dropout=0.1)}, "dropout is its own"),
    "muon": ({"recipe": gf.Recipe(Muon())}, "optax.contrib.muon"),
    "no stream": ({"models": {"mine": gf.Program(without_stream, residual_init)}}, "no residual sublayer"),
    "loss": ({"models": {"mine": gf.Program(lambda params, batch: batch[0], residual_init)}}, "loss"),
    "class": ({"models": {"mine": residual_loss}}, "mine is a function: a model is expected"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_or_trained_is_refused_at_the_start(case):
    options, error = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=error):
        train(**{"models": {"mine": RESIDUAL}, "data": Pairs(), **options})


def test_a_program_needs_two_functions():
    with pytest.raises(TypeError, match="init is"):
        gf.Program(residual_loss, residual_init(jax.random.key(0)))


@pytest.mark.further
def test_a_recipe_grid_takes_a_program():
    recipes = {"slow": gf.Recipe(lr=1e-3), "fast": gf.Recipe(lr=1e-2)}
    tree = gf.experiments.grid({"mine": RESIDUAL}, Pairs(), recipes, steps=2, seeds=2)
    assert tree["mine"]["loss"].dims == ("recipe", "step", "seed")


class OfNnx(nnx.Module):
    def __init__(self, key):
        rngs = nnx.Rngs(key)
        self.embedding = nnx.Embed(256, 4, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])

    def __call__(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + jnp.tanh(layer(x))
        return self.embedding.attend(x)


class OfEquinox(eqx.Module):
    embedding: jax.Array
    layers: list

    def __init__(self, key):
        self.embedding = jax.random.normal(key, (256, 4))
        self.layers = [eqx.nn.Linear(4, 4, key=k) for k in jax.random.split(key)]

    def __call__(self, tokens):
        x = self.embedding[tokens]
        for layer in self.layers:
            x = x + jnp.tanh(jax.vmap(layer)(x))
        return x @ self.embedding.T


@pytest.mark.further
@pytest.mark.parametrize("make", [OfNnx, OfEquinox])
def test_modules_are_trained_as_they_are(make, data):
    mine = gf.Program.of(make)
    params, run = train({"mine": mine}, data, recipe=optax.adamw(0.05))
    node = run["mine"]
    assert node.sizes["sublayer"] == 2
    assert (node["loss"].isel(step=-1) < node["loss"].isel(step=0)).all()
    assert (node["update_norm"].isel(step=0) > 0).all()
    again = gf.measure({"mine": mine}, data, params=params)
    assert again["mine"].sizes["seed"] == 2
    first = gf.measure({"mine": mine}, data, seeds=2)["mine"]["stream_gradient"]
    assert not np.array_equal(first[0], first[1])


def test_what_makes_no_module_is_refused():
    with pytest.raises(TypeError, match="module of NNX or Equinox is needed"):
        gf.Program.of(residual_init)


@pytest.mark.further
def test_partial_functions_are_a_program_too(data):
    one = gf.Program(partial(gradients.bare_loss, MODEL), MODEL.init)
    _, run = train({"mine": one}, data, readings="economy", steps=1, record=(0,))
    assert "0x" not in run["mine"].attrs["configuration"]
