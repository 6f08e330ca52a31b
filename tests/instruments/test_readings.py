"""Measuring: labelled trees hold what the pure readings return, seed by seed, and say where they come from."""

import dataclasses
import json
import warnings

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import theories
import xarray as xr

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.jacobians import chain
from gradflow.instruments.meters.meter import FLOOR
from gradflow.instruments.readings import READINGS, readings
from gradflow.instruments.seeds import drawn, init_seeds, seed_keys
from gradflow.model.branches.branch import FeedForward
from gradflow.model.wirings.wiring import pre
from gradflow.results.configuration import loads
from gradflow.results.quantities import QUANTITIES

SHAPE = {"depth": 2, "width": 8, "heads": 2, "context": 6, "vocabulary": 256}


@pytest.fixture(scope="module")
def models():
    return gf.transformers("pre", "post", **SHAPE)


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=6, batch=2)


@pytest.fixture(scope="module")
def measured(models, data):
    return gf.measure(models, data, seeds=3, key=5)


@pytest.mark.parametrize("name", ["pre", "post"])
def test_measuring_maps_the_reading_over_seeds(name, models, data, measured):
    keys, batch = seed_keys(5, 3), data.batch(5, 0)
    read = cases.jit(lambda key: gradients.reading(models[name], models[name].init(key), batch))
    node = measured[name]
    for seed in range(3):
        for quantity, value in read(keys[seed]).items():
            np.testing.assert_allclose(node[quantity].sel(seed=seed), value, rtol=2e-4, atol=1e-6, err_msg=quantity)


def test_every_variable_has_its_dimensions_unit_and_formula(measured):
    node = measured["pre"]
    dims = {
        "loss": (),
        "stream_gradient": ("depth",),
        "stream_gradient_by_token": ("depth", "token"),
        "parameter_gradient": ("sublayer", "parameter"),
        "outer_gradient": ("outer",),
        "budget": ("sublayer", "factor"),
        "split": ("sublayer", "term"),
        "token_cosine": ("depth",),
        "branch_to_skip": ("sublayer",),
    }
    for name, own in dims.items():
        assert node[name].dims == ("seed", *own)
    for variable in node.data_vars.values():
        assert variable.attrs["units"]
        assert variable.attrs["formula"]
        assert variable.attrs["long_name"]


def test_sublayers_carry_their_layer_kind_and_relative_depth(measured):
    node = measured["post"]
    assert node["depth"].values.tolist() == [0, 1, 2, 3, 4]
    assert node["sublayer"].values.tolist() == [1, 2, 3, 4]
    assert node["layer"].values.tolist() == [1, 1, 2, 2]
    assert node["kind"].values.tolist() == ["attention", "mlp"] * 2
    assert node["relative_depth"].values.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert {"query", "down.bias", "norm_out.scale"} <= set(node["parameter"].values)
    assert np.isnan(node["parameter_gradient"].sel(parameter="query", sublayer=[2, 4])).all()
    assert (node["parameter_gradient"].sel(parameter="query", sublayer=[1, 3]) > 0).all()
    assert set(node["outer"].values) == {"token", "position", "readout"}


def test_a_tree_says_where_it_comes_from(models, data, measured):
    told = json.loads(measured.attrs["provenance"])
    assert told["versions"]["jax"] == jax.__version__
    assert told["x64"] is True
    assert json.loads(measured.attrs["data"])["sha256"] == data.sha256
    assert measured.attrs["key"] == "5"
    for name, model in models.items():
        assert loads(measured[name].attrs["configuration"]) == model


def test_models_measured_together_are_those_measured_alone(models, data, measured):
    alone = gf.measure(models["post"], data, seeds=3, key=5)
    assert list(alone.children) == ["model"]
    xr.testing.assert_identical(alone["model"].to_dataset(), measured["post"].to_dataset())


def test_a_batch_of_ones_own_is_measured_as_it_is(models):
    tokens = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
    own = {"inputs": tokens, "targets": tokens + 1}
    tree = gf.measure(models["pre"], own, seeds=3)
    expected = cases.jit(lambda key: gradients.bare_loss(models["pre"], models["pre"].init(key), own))
    assert float(tree["model"]["loss"][1]) == pytest.approx(float(expected(seed_keys(0, 3)[1])), rel=1e-5)
    assert json.loads(tree.attrs["data"])["shapes"] == {"inputs": [2, 6], "targets": [2, 6]}


def test_given_weights_are_measured_as_they_are(models, data, measured):
    params = {name: drawn(model, seed_keys(5, 3)) for name, model in models.items()}
    given = gf.measure(models, data.batch(5, 0), params=params)
    for name in models:
        xr.testing.assert_identical(*(tree[name].to_dataset().drop_attrs(deep=False) for tree in (given, measured)))
    one = gf.measure(models["pre"], data.batch(5, 0), params=params["pre"])
    own, same = (node.to_dataset().drop_attrs(deep=False) for node in (one["model"], measured["pre"]))
    xr.testing.assert_identical(own, same)
    assert one.sizes["seed"] == 3


def test_each_seed_may_have_a_batch_of_its_own_and_given_weights_be_one_set_for_all(models, data):
    batches, weights = data.batches([3, 4, 5], 0), jax.vmap(models["pre"].init)(seed_keys(7, 1))
    pair = {"fresh": models["pre"], "given": models["pre"]}
    economy = {"quantities": ("economy",)}
    tree = gf.measure(pair, batches, params={"given": weights}, batches="one a seed", key=5, **economy)
    assert tree.attrs["batches"] == "one a seed"
    fresh = jax.vmap(models["pre"].init)(seed_keys(5, 3))
    for seed in range(3):
        batch = jax.tree.map(lambda a, seed=seed: a[seed], batches)
        own = {"fresh": jax.tree.map(lambda a, seed=seed: a[seed : seed + 1], fresh), "given": weights}
        alone = gf.measure(pair, batch, params=own, **economy)
        for name in pair:
            for quantity in ("loss", "stream_gradient", "stream_rms"):
                seen, expected = tree[name][quantity][seed], alone[name][quantity][0]
                np.testing.assert_allclose(seen, expected, rtol=1e-4, err_msg=quantity)


def test_a_text_is_cut_seed_by_seed_where_it_is_asked(models, data):
    how = {"key": 5, "batches": "one a seed", "quantities": ("economy",)}
    tree = gf.measure(models["pre"], data, seeds=2, **how)
    expected = gf.measure(models["pre"], data.batches(seed_keys(5, 2), 0), **how)
    xr.testing.assert_equal(tree["model"].to_dataset(), expected["model"].to_dataset())


def test_weights_for_other_seeds_and_unknown_batches_are_refused_in_one_line(models, data):
    weights = jax.vmap(models["pre"].init)(seed_keys(0, 2))
    with pytest.raises(ValueError, match="weights for 2 seeds are given, but there are 3: give one set"):
        gf.measure(models["pre"], data, seeds=3, params=weights, batches="one a seed")
    with pytest.raises(ValueError, match="no batches 'one': .*one a seed"):
        gf.measure(models["pre"], data, batches="one")


PER_EXAMPLE = "parameter_gradient_per_example"


@pytest.mark.parametrize(
    ("reading", "variables"),
    [
        (PER_EXAMPLE, {name: q.dims for name, q in QUANTITIES.items() if q.reading == PER_EXAMPLE}),
        ("partial_jacobian", {"partial_jacobian": ("depth", "probe"), "partial_jacobian_sem": ("depth", "probe")}),
        ("spectrum", {name: q.dims for name, q in QUANTITIES.items() if q.reading == "spectrum"}),
        ("lyapunov", {name: q.dims for name, q in QUANTITIES.items() if q.reading == "lyapunov"}),
    ],
)
def test_expensive_quantities_come_when_they_are_asked_for(reading, variables, data):
    """Of one sublayer alone, since each is read by a program of its own kind."""
    model = theories.stack(pre(), {"mlp": FeedForward(1)}, 1, 8)
    tree = gf.measure(model, data, seeds=2, quantities=(reading,))
    assert {name: array.dims[1:] for name, array in tree["model"].data_vars.items()} == variables
    params = jax.vmap(model.init)(seed_keys(0, 2))
    read = cases.jit(lambda params, batch: READINGS[reading](model, params, batch))
    own = read(jax.tree.map(lambda a: a[1], params), data.batch(0, 0))
    for name in variables:
        np.testing.assert_allclose(tree["model"][name].isel(seed=1), own[name], rtol=1e-3, atol=1e-4)


def test_a_reading_of_ones_own_is_taken_too(models, data):
    def readout_size(model, params, batch):
        return {"readout_size": jnp.sqrt(jnp.sum(params["readout"].kernel[...] ** 2))}

    node = gf.measure(models["pre"], data, seeds=2, quantities=(readout_size,))["model"]
    params = jax.vmap(models["pre"].init)(seed_keys(0, 2))
    sizes = np.linalg.norm(params["readout"].kernel[...], axis=(1, 2))
    np.testing.assert_allclose(node["readout_size"], sizes, rtol=1e-6)


def test_a_reading_asked_for_twice_is_taken_once():
    assert readings(["backward", "backward", gradients.reading]) == (gradients.reading,)
    assert readings(["partial_jacobian", "partial_jacobian_sem"]) == (chain.partial_jacobian,)


def test_underflow_is_told(models, data):
    model = models["pre"]
    params = jax.vmap(model.init)(seed_keys(0, 3))
    small = {**params, "readout": jax.tree.map(lambda a: a * 1e-33, params["readout"])}
    with pytest.warns(UserWarning, match=r"pre: some stream gradients are below .* cast the parameters to float64"):
        gf.measure({"pre": model}, data, params={"pre": small})


def test_underflow_reads_a_floor_and_not_zero(models, data):
    """An upper bound: the least that float32 squares resolve, once an example."""
    params = jax.vmap(models["pre"].init)(seed_keys(0, 3))
    small = {**params, "readout": jax.tree.map(lambda a: a * 1e-33, params["readout"])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tree = gf.measure(models["pre"], data, params=small)
    np.testing.assert_allclose(tree["model"]["readout_gradient"], FLOOR * 2**0.5, rtol=1e-5)


# ---- against the total depth --------------------------------------------------------------------------------


def test_a_sweep_has_a_node_for_every_model_and_depth(models, data, measured):
    deep = gf.sweep(models, data, depth=(1, 2), seeds=3, key=5)
    nodes = {name: list(family.children) for name, family in deep.children.items()}
    assert nodes == {"pre": ["depth_1", "depth_2"], "post": ["depth_1", "depth_2"]}
    for name in models:
        node, again = deep[f"{name}/depth_2"], measured[name].to_dataset(inherit=False)
        assert node.attrs["total_depth"] == 2
        xr.testing.assert_identical(node.to_dataset(inherit=False), again.assign_attrs(node.attrs))
    assert deep["seed"].values.tolist() == [0, 1, 2]
    assert json.loads(deep.attrs["provenance"])["versions"]["jax"] == jax.__version__


def test_one_entry_of_every_profile_is_picked_against_the_total_depth(models, data, measured):
    deep = gf.sweep({"post": models["post"]}, data, depth=(1, 2), seeds=3, key=5)
    last = gf.results.against_total_depth(deep, "parameter_gradient", sublayer=-1, parameter="down")["post"]
    assert last.dims == ("total_depth", "seed")
    assert last["total_depth"].values.tolist() == [1, 2]
    expected = measured["post"]["parameter_gradient"].sel(parameter="down", sublayer=4)
    np.testing.assert_array_equal(last.sel(total_depth=2), expected)


# ---- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"quantities": ("partial_jacobain",)},
            ValueError,
            r"no reading 'partial_jacobain': did you mean 'partial_jacobian' or ",
        ),
        ({"quantities": ("bugdet",)}, ValueError, r"no reading 'bugdet': did you mean 'budget'\? known: backward"),
        ({"seeds": 0}, ValueError, "seeds is 0: at least 1 is needed"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(options, error, message, models, data):
    with pytest.raises(error, match=message) as refused:
        gf.measure(models, data, **options)
    assert "\n" not in str(refused.value)


def test_what_is_no_model_is_refused_by_its_type(data):
    with pytest.raises(
        TypeError, match="measure takes a model, a dict of them, a module, or a loss function .*, not int"
    ):
        gf.measure(3, data)


def test_a_model_of_several_segments_is_labelled_in_depth_order(data):
    pre, post = (model.stack.segments[0] for model in gf.transformers("pre", "post", **SHAPE).values())
    mixed = gf.Transformer(
        gf.Stack((dataclasses.replace(post, repeats=1), pre)), 8, gf.transformer("pre", **SHAPE).embedding
    )
    node = gf.measure(mixed, data, seeds=1)["model"]
    assert node["layer"].values.tolist() == [1, 1, 2, 2, 3, 3]
    assert node.sizes["depth"] == 7
    on_path = node["budget"].sel(factor="norm_out")[0]
    assert (abs(on_path[:2]) > 1e-3).all()
    assert (abs(on_path[2:]) < 1e-5).all()


def test_seeds_whose_weights_are_too_many_at_once_are_read_part_by_part(models, data, monkeypatch):
    model = models["post"]
    whole = gf.measure(model, data, seeds=5, quantities=("economy",))["model"]
    monkeypatch.setattr("gradflow.instruments.seeds.AT_ONCE", 2 * sum(a.nbytes for a in jax.tree.leaves(model.init(0))))
    assert [len(jax.tree.leaves(part)[0]) for part in init_seeds(model, seed_keys(0, 5))] == [2, 2, 1]
    parts = gf.measure(model, data, seeds=5, quantities=("economy",))["model"]
    for quantity, values in parts.data_vars.items():
        np.testing.assert_allclose(values, whole[quantity], rtol=1e-4, atol=1e-6, err_msg=str(quantity))
