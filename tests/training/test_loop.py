"""A run that reads itself: what it records is what the weights at that step give."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradflow as gf
from gradflow.instruments import gradients
from gradflow.instruments.readings import seed_keys
from gradflow.training.step import _first_nonfinite

RATE = 0.1
pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def models(quickly_compiled):
    return gf.transformers("pre", "post", depth=2, width=8, heads=2, context=8)


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


@pytest.fixture(scope="module")
def trained(models, data):
    return gf.train(
        models, data, optax.sgd(RATE), steps=3, record=(0, 2, 3), seeds=2, readings=("backward", "partial_jacobian")
    )


def by_hand(model, data, key):
    """Weights before each step of plain gradient descent and the batch they see, by step: 0, 1, 2, 3."""
    grad = cases.jit(lambda p, b: jax.grad(gradients.bare_loss, argnums=1)(model, p, b))
    params = model.init(key)
    for step in range(4):
        batch = data.batch(key, step)
        yield params, batch
        params = jax.tree.map(lambda p, g: p - RATE * g, params, grad(params, batch))


@pytest.mark.parametrize("name", ["pre", "post"])
def test_a_record_is_the_reading_of_the_weights_at_that_step(name, models, data, trained):
    params, run = trained
    read = cases.jit(lambda p, b: gradients.reading(models[name], p, b))
    for step, (weights, batch) in enumerate(by_hand(models[name], data, seed_keys(0, 2)[1])):
        if step in run["step"]:
            expected, recorded = read(weights, batch), run[name].sel(step=step, seed=1)
            for quantity in ("loss", "stream_gradient", "parameter_gradient", "outer_gradient", "token_cosine"):
                np.testing.assert_allclose(recorded[quantity], expected[quantity], rtol=2e-4, atol=1e-7)
    given = jax.tree.map(lambda p: p[1], params[name])  # after the last update, step 3 reads and does not update
    for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_run_is_labelled_by_step_and_seed_and_knows_where_it_comes_from(trained):
    run = trained[1]
    assert run["step"].values.tolist() == [0, 2, 3]
    assert run["pre"]["stream_gradient"].dims == ("step", "seed", "depth")
    assert run["pre"]["partial_jacobian"].dims == ("step", "seed", "depth", "probe")
    settings = gf.results.settings(run)
    assert settings["provenance"]["versions"]["jax"] == jax.__version__
    assert settings["data"]["sha256"] == gf.data.text().sha256
    assert settings["steps"] == 3


def test_the_first_record_of_paired_models_sees_the_same_batch_and_weights(models, data, trained):
    """With LayerNorm on a stream of rms 1 both embeddings are the same rows, so the bottom of the stream is."""
    run = trained[1]
    bottom = {name: run[name]["stream_rms"].sel(step=0).isel(depth=0).values for name in models}
    np.testing.assert_array_equal(bottom["pre"], bottom["post"])


def test_a_seed_in_a_vectorized_run_is_the_run_of_that_seed(models, data, trained):
    _, single = gf.train({"post": models["post"]}, data, optax.sgd(RATE), steps=3, record=(3,), seeds=1)
    both = trained[1]["post"]["stream_gradient"].sel(step=3, seed=0)
    np.testing.assert_allclose(single["post"]["stream_gradient"].sel(step=3, seed=0), both, rtol=1e-4)


def test_measuring_given_weights_continues_where_a_run_ended(models, data, trained):
    again = gf.measure(models, data, params=trained[0])
    assert again["post"].sizes["seed"] == 2
    assert np.isfinite(again["post"]["loss"]).all()


def test_a_divergence_stops_nothing_and_is_recorded_with_step_and_position(data):
    models = gf.transformers("none", "post", depth=2, width=8, heads=2, context=8)
    params, run = gf.train(models, data, optax.sgd(1e20), steps=4, seeds=2)
    assert set(params) == {"none", "post"}
    node = run["none"]
    last = node.isel(step=-1)
    assert (last["nonfinite_step"] >= 1).all()
    for seed in range(2):
        first, depth = (int(last[name].sel(seed=seed)) for name in ("nonfinite_step", "nonfinite_depth"))
        rms = node["stream_rms"].sel(seed=seed)
        assert np.isfinite(rms.sel(step=range(first))).all()
        bad = ~np.isfinite(rms.sel(step=first).values)
        assert depth == (np.argmax(bad) if bad.any() else depth)
        assert (node["nonfinite_step"].sel(seed=seed, step=range(first)) == -1).all()


def test_a_healthy_run_says_never(trained):
    for node in trained[1].children.values():
        assert (node["nonfinite_step"] == -1).all()
        assert (node["nonfinite_depth"] == -1).all()


def test_the_first_value_that_is_not_finite_has_its_step_its_place_and_its_name():
    """The order is that of a step: the stream from the bottom, the loss, its gradient from the top, the parameters'."""
    names = ("nonfinite_step", "nonfinite_depth", "nonfinite_quantity")
    never = dict.fromkeys(names, jnp.int32(-1))
    fine, weights = jnp.ones(5), jnp.ones((4, 2)).at[::2, 1].set(jnp.nan)  # every other sublayer lacks the second
    healthy = {"stream_rms": fine, "stream_gradient": fine, "loss": jnp.float32(1), "parameter_gradient": weights}
    nan = jnp.full(5, jnp.nan)
    cases_of = {
        (7, 2, 0): {"stream_rms": fine.at[2:].set(jnp.inf), "stream_gradient": nan, "loss": jnp.nan},
        (7, 4, 1): {"loss": jnp.inf, "stream_gradient": nan},
        (7, 3, 2): {"stream_gradient": fine.at[:4].set(jnp.nan), "parameter_gradient": weights * jnp.nan},
        (7, 1, 3): {"parameter_gradient": weights.at[1, 0].set(jnp.inf)},
        (-1, -1, -1): {},
    }
    where = lambda reading, first=never: tuple(int(_first_nonfinite(first, reading, 7)[name]) for name in names)
    for place, bad in cases_of.items():
        assert where({**healthy, **bad}) == place
    already = dict(zip(names, map(jnp.int32, (3, 1, 0)), strict=True))
    assert where({**healthy, "loss": jnp.inf}, already) == (3, 1, 0)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"steps": 0}, "at least 1"),
        ({"steps": 2, "record": (0, 3)}, "between 0 and steps = 2"),
        ({"steps": 2, "record": ()}, "between 0 and steps = 2"),
        ({"steps": 2, "seeds": 0}, "at least 1"),
        ({"steps": 2, "readings": ("partial_jacobain",)}, "did you mean 'partial_jacobian'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(options, remedy, models, data):
    with pytest.raises(ValueError, match=remedy):
        gf.train(models, data, optax.sgd(RATE), **options)
