"""A run that reads itself: what it records is what the weights at that step give."""

import json
from dataclasses import dataclass, replace

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.seeds import seed_keys
from gradflow.model.branches.branch import FeedForward
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.stacks.transformer import Transformer
from gradflow.model.wirings.wiring import none, pre
from gradflow.training.loop import _scalars
from gradflow.training.optimizers import Adam
from gradflow.training.plan import PRESETS
from gradflow.training.recipe import Recipe
from gradflow.training.record_schedule import At
from gradflow.training.step import Step, _first_nonfinite

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
    post = {"post": models["post"]}
    _, single = gf.train(post, data, optax.sgd(RATE), steps=3, record=(3,), seeds=1, readings="economy")
    both = trained[1]["post"]["stream_gradient"].sel(step=3, seed=0)
    np.testing.assert_allclose(single["post"]["stream_gradient"].sel(step=3, seed=0), both, rtol=1e-4)


def test_measuring_given_weights_continues_where_a_run_ended(models, data, trained):
    again = gf.measure(models, data, params=trained[0], quantities="economy")
    assert again["post"].sizes["seed"] == 2
    assert np.isfinite(again["post"]["loss"]).all()


def test_a_divergence_stops_nothing_and_is_recorded_with_step_and_position(data):
    models = gf.transformers("none", "post", depth=2, width=8, heads=2, context=8)
    params, run = gf.train(models, data, optax.sgd(1e20), steps=4, seeds=2, readings="economy")
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
    there = ~np.isnan(weights)
    where = lambda reading, first=never: tuple(int(_first_nonfinite(first, reading, there, 7)[n]) for n in names)
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


# ---- presets, watching, several models ----------------------------------------------------------------------

SMALL = Transformer(Stack((Segment((Sublayer("mlp", pre(), FeedForward(2)),), 2),)), 4, Embedding(256, 8))
RECIPE = Recipe(Adam(eps=1e-4), lr=0.05, warmup=2, schedule="linear")
AT = At((0, 2), "partial_jacobian")  # at some of the records


@dataclass(frozen=True)
class Huge:
    """An initialization that no forward pass survives."""

    def std(self, matrix):
        return 1e25


WILD = replace(SMALL, stack=Stack((Segment((Sublayer("mlp", none(), FeedForward(2, weights=Huge())),), 2),)))


def taken(data, readings, models=None, recipe=RECIPE, **options):
    """A run of two seeds and three updates, all of them recorded."""
    return gf.train(models or {"small": SMALL}, data, recipe, steps=3, seeds=2, readings=readings, **options)


@pytest.fixture(scope="module")
def presets(quickly_compiled, data):
    """A run for each preset, of the same weights and batches; the full one without spectra, and Jacobians at some steps."""
    own = tuple(name for name in PRESETS["full"] if name not in ("spectrum", *AT.readings))
    asked = {"economy": "economy", "standard": "standard", "full": (*own, AT)}
    return {name: taken(data, readings)[1]["small"] for name, readings in asked.items()}


def test_every_preset_holds_what_the_one_before_it_holds(presets):
    economy, standard, full = (set(node.data_vars) for node in presets.values())
    assert economy < standard < full
    assert {"loss", "stream_gradient", "parameter_gradient", "stream_rms", "heldout_loss"} < economy
    assert {"budget", "split", "token_cosine", "update_norm", "update_angle"} < standard - economy
    assert {"output_change", "gradient_noise_scale", "partial_jacobian"} < full - standard


def test_what_a_smaller_preset_reads_has_the_values_of_the_larger_ones(presets):
    for less, more in (("economy", "standard"), ("standard", "full")):
        for name, values in presets[less].data_vars.items():
            close = {"rtol": 1e-3, "atol": 1e-5}  # after three updates in float32
            np.testing.assert_allclose(values, presets[more][name], err_msg=name, **close)


def test_what_is_read_at_some_steps_is_nan_at_the_others(presets):
    gains = presets["full"]["partial_jacobian"]
    for step in (0, 1, 2, 3):
        read = np.isfinite(gains.sel(step=step))
        assert read.all() if step in AT.steps else not read.any()


def test_no_update_follows_the_last_record(presets):
    for name in ("update_norm", "update_to_weight", "outer_update_angle", "output_change", "stream_change"):
        values = presets["full"][name]
        assert np.isnan(values.sel(step=3)).all(), name
        assert np.isfinite(values.sel(step=0, drop=True)).any(), name


def test_the_learning_rate_is_that_of_the_update_that_follows(presets):
    for node in presets.values():
        recorded = node["learning_rate"]
        np.testing.assert_array_equal(recorded.sel(step=[0, 1, 2]), np.stack([RECIPE.rates(3)] * 2, 1))
        assert np.isnan(recorded.sel(step=3)).all()


def test_updates_are_those_that_the_weights_were_moved_by(presets):
    """Adam's first step moves every entry by the rate, where the gradient is far above its ε."""
    node = presets["full"].sel(step=0, parameter="down")
    far = node["gradient_in_epsilons"] > 20
    assert far.any()
    ratio = node["update_norm"] / (RECIPE.rates(3)[0] * 32**0.5)
    assert (ratio <= 1.0001).all()
    assert (ratio.where(far, 1.0) > 0.7).all()


def test_the_heldout_loss_is_the_mean_over_text_that_no_batch_holds(data, presets):
    params, run = taken(data, ("economy", "heldout_loss"))  # which is read in any case, and never of the batch
    held = data.held_out()
    for seed in range(2):
        own = jax.tree.map(lambda a, s=seed: a[s], params["small"])
        logits = np.asarray(jax.vmap(SMALL, (None, 0))(own, held["inputs"]), np.float64)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses = -np.take_along_axis(log_p, np.asarray(held["targets"])[..., None], -1).mean((1, 2))
        found = run["small"].sel(step=3, seed=seed)
        assert float(found["heldout_loss"]) == pytest.approx(losses.mean(), rel=1e-5)
        assert float(found["heldout_loss_sem"]) == pytest.approx(losses.std(ddof=1) / len(losses) ** 0.5, rel=1e-4)
    np.testing.assert_array_equal(run["small"]["heldout_loss"], presets["economy"]["heldout_loss"])


def test_runs_that_differ_in_rates_and_steps_share_one_program(data, presets):
    before = Step.__call__.programs()
    for other in (replace(RECIPE, lr=0.5), replace(RECIPE, warmup=0, schedule="cosine")):
        taken(data, "economy", recipe=other, record=(1,))
    assert Step.__call__.programs() == before


def test_a_watcher_gets_a_flat_dict_of_plain_numbers_at_every_record(data, presets):
    seen: list[dict] = []
    taken(data, "economy", record=(0, 2), watch=seen.append)
    assert [(line["model"], line["step"]) for line in seen] == [("small", 0), ("small", 2)]
    for line in seen:
        assert json.loads(json.dumps(line)) == line
        numbers = [value for name, value in line.items() if name not in ("model", "step")]
        assert all(type(value) is float for value in numbers)
        node = presets["economy"].sel(step=line["step"])
        for name in ("loss", "heldout_loss", "readout_gradient", "learning_rate"):
            assert line[name] == pytest.approx(float(node[name].mean()), rel=1e-6)
        ratio = node["stream_gradient"].isel(depth=0) / node["readout_gradient"]
        assert line["bottom_to_readout"] == pytest.approx(float(np.exp(np.log(ratio).mean())), rel=1e-5)


def test_a_model_that_diverges_leaves_the_run_of_another_bit_equal_and_warns_of_nothing(data, presets):
    seen: list[dict] = []
    _, run = taken(data, "economy", {"wild": WILD, "small": SMALL}, watch=seen.append)
    for name, values in presets["economy"].data_vars.items():
        np.testing.assert_array_equal(run["small"][name], values, err_msg=name)
    assert (run["wild"]["nonfinite_step"] == 0).all()
    assert (run["wild"]["nonfinite_depth"] >= 1).all()
    assert [line["model"] for line in seen] == ["wild"] * 4 + ["small"] * 4
    assert not np.isfinite(seen[0]["loss"])


@pytest.mark.parametrize(("stream", "readout"), [(np.inf, np.inf), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (np.nan, 1.0)])
def test_numbers_of_a_run_that_diverged_are_shown_and_not_warned_of(stream, readout):
    found = {"stream_gradient": np.array([[stream, 1.0]] * 2), "readout_gradient": np.array([readout, 1.0])}
    line = _scalars({**found, "loss": np.array([np.inf, -np.inf])})
    assert line.keys() == {"readout_gradient", "loss", "bottom_to_readout"}
    assert all(type(value) is float for value in line.values())


def test_an_optax_transformation_with_its_own_rate_is_the_recipe_of_that_rate(data, presets):
    rates = jnp.asarray(RECIPE.rates(3))
    own = optax.adam(lambda step: rates[step], eps=1e-4)
    run = taken(data, "economy", recipe=own)[1]["small"]
    assert set(presets["economy"].data_vars) - set(run.data_vars) == {"gradient_in_epsilons"}
    for name, values in run.data_vars.items():
        if name != "learning_rate":
            np.testing.assert_allclose(values, presets["economy"][name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert run["learning_rate"].sel(step=[0, 1, 2]).values.tolist() == [[1.0, 1.0]] * 3  # it is optax's own
