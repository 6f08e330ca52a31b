"""A recorder in somebody's own optimizer: it changes nothing, and reads what passes where it stands."""

from dataclasses import replace
from functools import partial

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from flax import nnx

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.meters.parameter_norms import parameter_norms
from gradflow.instruments.seeds import seed_keys
from gradflow.interop.functions import FunctionStack

DEPTH, STEPS = 3, 5
EXACT = 1e-12


def params(seed: int = 0):
    """Somebody's own model, its layers stacked below `layers`."""
    draw = lambda *shape: cases.normal(*shape, seed=seed + len(shape)) / 2
    return {"layers": {"w": draw(DEPTH, 4, 4), "b": draw(DEPTH, 4)}, "head": draw(4)}


def loss(params, x):
    for l in range(DEPTH):
        x = x + jnp.tanh(x @ params["layers"]["w"][l] + params["layers"]["b"][l])
    return jnp.mean((x @ params["head"]) ** 2)


BATCHES = cases.normal(STEPS, 6, 4, seed=9)
recorder = partial(gf.record, stacked="layers")


def clipped():
    return optax.chain(
        recorder("gradient"), optax.clip_by_global_norm(0.1), recorder("clipped"), optax.adamw(0.01), recorder("update")
    )


def step(optimizer, loss, carry, x):
    """One step of the user's own loop, and what passed: gradient, update, the weights before."""
    params, state = carry
    grads = jax.grad(loss)(params, x)
    updates, state = optimizer.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), {"gradient": grads, "update": updates, "weights": params}


def run(optimizer, start, batches=BATCHES, loss=loss):
    """Optimizer states after each step, and what passed at each, from a plain loop around a compiled step."""
    one, carry, states, passed = jax.jit(partial(step, optimizer, loss)), (start, optimizer.init(start)), [], []
    for x in batches:
        carry, seen = one(carry, x)
        states.append(carry[1])
        passed.append(seen)
    return states, passed


def by_hand(tree):
    """Norms of every leaf, and of every layer below `layers`, by numpy."""
    layers = {k: [np.linalg.norm(layer) for layer in np.asarray(a)] for k, a in tree["layers"].items()}
    return {"layers": layers, "head": np.linalg.norm(tree["head"])}


def assert_close(tree, expected, rtol=EXACT):
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    rows = jax.tree.leaves(expected, is_leaf=lambda a: isinstance(a, list))
    for name, a, b in zip(names, jax.tree.leaves(tree), rows, strict=True):
        assert np.shape(a) == np.shape(b), name
        np.testing.assert_allclose(a, b, rtol=rtol, err_msg=name)


@pytest.fixture(scope="module")
def ran():
    return run(clipped(), params())


# ---- it changes nothing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_with_recorders_every_update_is_bit_equal_to_that_without(dtype):
    start = jax.tree.map(lambda a: a.astype(dtype), params())
    bare = optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.01))
    both = [run(optimizer, start, BATCHES.astype(dtype))[1] for optimizer in (bare, clipped())]
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == dtype


def test_what_passes_is_handed_on_as_it_came():
    optimizer = recorder()
    odd = {"layers": {"w": jnp.full((2, 3), -0.0), "b": jnp.array([[jnp.nan], [jnp.inf]])}, "head": jnp.ones(2)}
    handed, _ = optimizer.update(odd, optimizer.init(odd))
    assert all(a is b for a, b in zip(jax.tree.leaves(odd), jax.tree.leaves(handed), strict=True))


# ---- it reads what passes -----------------------------------------------------------------------------------


def test_before_clipping_it_reads_the_gradient_layer_by_layer(ran):
    for state, passed in zip(*ran, strict=True):
        assert_close(gf.recorded(state)["gradient"].norm, by_hand(passed["gradient"]))


def test_after_clipping_it_reads_the_clipped_gradient(ran):
    for state, passed in zip(*ran, strict=True):
        total = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(jax.device_get(passed["gradient"]))))
        assert total > 0.1
        scaled = jax.tree.map(lambda g, total=total: g * 0.1 / total, passed["gradient"])
        assert_close(gf.recorded(state)["clipped"].norm, by_hand(scaled))


def test_at_the_end_it_reads_the_update_and_its_ratio_to_the_weights_before(ran):
    for state, passed in zip(*ran, strict=True):
        update, weights = by_hand(passed["update"]), by_hand(passed["weights"])
        assert_close(gf.recorded(state)["update"].norm, update)
        ratio = jax.tree.map(lambda u, w: np.divide(u, w), update, weights, is_leaf=lambda a: isinstance(a, list))
        assert_close(gf.recorded(state)["update"].to_weight, ratio)


def test_it_counts_the_updates_it_saw(ran):
    assert [int(gf.recorded(state)["update"].count) for state in ran[0]] == [1, 2, 3, 4, 5]


def test_before_the_first_update_nothing_is_read():
    fresh = gf.recorded(clipped().init(params()))["gradient"]
    assert int(fresh.count) == 0
    assert int(fresh.nonfinite_step) == -1
    assert all(np.isnan(a).all() for a in jax.tree.leaves((fresh.norm, fresh.to_weight)))


def test_norms_of_short_types_are_summed_in_float32_and_small_ones_do_not_underflow():
    weights = {"bf16": jnp.full(4096, 3, jnp.bfloat16), "small": jnp.full(4, 0.5e-20, jnp.float32)}
    optimizer = gf.record(stacked=None)
    seen = gf.recorded(optimizer.update(weights, optimizer.init(weights), weights)[1])["gradient"]
    assert {a.dtype for a in jax.tree.leaves(seen.norm)} == {jnp.dtype(jnp.float32)}
    assert seen.norm["bf16"] == 3 * 64
    assert seen.norm["small"] == pytest.approx(1e-20, rel=1e-6)


def test_where_the_weights_are_zero_or_unknown_the_ratio_says_so():
    weights, updates = {"zero": jnp.zeros(2), "both": jnp.zeros(2)}, {"zero": jnp.ones(2), "both": jnp.zeros(2)}
    optimizer = gf.record(stacked=None)
    state = optimizer.init(weights)
    known, unknown = (
        gf.recorded(optimizer.update(updates, state, *given)[1])["gradient"] for given in ((weights,), ())
    )
    assert np.isnan(known.to_weight["zero"])
    assert np.isnan(known.to_weight["both"])
    assert all(np.isnan(ratio) for ratio in unknown.to_weight.values())
    assert unknown.norm["zero"] == pytest.approx(2**0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_first_step_with_a_value_that_is_not_finite_is_kept(bad):
    optimizer = recorder()
    state, found = optimizer.init(params()), []
    for entry in (0.0, 1e200, bad, 0.0, bad):  # the square of 1e200 overflows, and it is finite all the same
        grads = params()
        grads["layers"]["b"] = grads["layers"]["b"].at[1, 2].set(entry)
        _, state = optimizer.update(grads, state)
        found.append(int(gf.recorded(state)["gradient"].nonfinite_step))
    assert found == [-1, -1, 2, 2, 2]


# ---- in any optimizer ---------------------------------------------------------------------------------------


def test_under_accumulation_it_reads_the_mean_gradient_of_each_applied_update():
    every = 2
    states, passed = run(optax.MultiSteps(clipped(), every).gradient_transformation(), params(), BATCHES[:4])
    for i in (1, 3):
        seen = gf.recorded(states[i])["gradient"]
        mean = jax.tree.map(lambda a, b: (a + b) / 2, passed[i - 1]["gradient"], passed[i]["gradient"])
        assert_close(seen.norm, by_hand(mean), rtol=1e-6)  # MultiSteps accumulates in float32
        assert int(seen.count) == (i + 1) // every
    half = gf.recorded(states[2])["gradient"]
    assert_close(half.norm, jax.device_get(gf.recorded(states[1])["gradient"].norm), rtol=0)


WRAPPERS = {
    "chain of chains": lambda: optax.chain(optax.identity(), optax.chain(recorder(), optax.sgd(0.01))),
    "inject_hyperparams": lambda: optax.inject_hyperparams(
        lambda learning_rate: optax.chain(recorder(), optax.sgd(learning_rate))
    )(learning_rate=optax.linear_schedule(0.1, 0.0, 10)),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.chain(recorder(), optax.adam(0.01)), 3),
    "masked": lambda: optax.masked(
        optax.chain(recorder(), optax.adam(0.01)), lambda p: jax.tree.map(lambda _: True, p)
    ),
    "muon": lambda: optax.chain(recorder(), optax.contrib.muon(0.01)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of optax's own, in Muon
@pytest.mark.parametrize("name", WRAPPERS)
def test_it_reads_inside_any_optimizer_and_is_found_there(name):
    states, passed = run(WRAPPERS[name](), params(), BATCHES[:2])
    assert_close(gf.recorded(states[1])["gradient"].norm, by_hand(passed[1]["gradient"]))


def test_what_apply_if_finite_holds_back_is_not_seen_inside_and_seen_before():
    inside = optax.chain(recorder("before"), optax.apply_if_finite(optax.chain(recorder("inside"), optax.sgd(0.1)), 3))
    states, _ = run(inside, params(), jnp.stack([BATCHES[0], BATCHES[1] * jnp.nan, BATCHES[2]]))
    seen = gf.recorded(states[-1])
    assert [int(seen[name].count) for name in ("before", "inside")] == [3, 2]
    assert [int(seen[name].nonfinite_step) for name in ("before", "inside")] == [1, -1]


def test_masked_parameters_are_not_read():
    only = lambda keep: lambda p: {key: jax.tree.map(lambda _, k=key: k == keep, p[key]) for key in p}
    for keep in ("layers", "head"):
        optimizer = optax.masked(recorder(), only(keep))
        _, state = optimizer.update(params(), optimizer.init(params()), params())
        seen = gf.recorded(state)["gradient"].norm
        assert len(jax.tree.leaves(seen)) == (2 if keep == "layers" else 1)
        assert_close(seen[keep], by_hand(params())[keep])


def test_it_scans():
    optimizer, start = clipped(), params()
    one = lambda carry, x: (after := step(optimizer, loss, carry, x)[0], gf.recorded(after[1]))
    _, history = jax.jit(lambda carry: jax.lax.scan(one, carry, BATCHES))((start, optimizer.init(start)))
    assert history["update"].norm["layers"]["w"].shape == (STEPS, DEPTH)
    for i, state in enumerate(run(optimizer, start)[0]):
        now = jax.tree.map(lambda a, i=i: a[i], history)
        assert_close(now["update"].norm, jax.device_get(gf.recorded(state)["update"].norm))


def test_it_maps_over_seeds():
    optimizer, seeds = clipped(), [params(seed) for seed in (0, 10)]
    starts = jax.tree.map(lambda *a: jnp.stack(a), *seeds)
    after, _ = jax.jit(jax.vmap(partial(step, optimizer, loss), (0, None)))(
        (starts, jax.vmap(optimizer.init)(starts)), BATCHES[0]
    )
    both = gf.recorded(after[1])["update"]
    assert both.count.tolist() == [1, 1]
    for i, start in enumerate(seeds):
        alone = gf.recorded(run(optimizer, start, BATCHES[:1])[0][0])["update"]
        assert_close(jax.tree.map(lambda a, i=i: a[i], both.to_weight), jax.device_get(alone.to_weight))


def test_it_reads_in_the_optimizer_of_an_nnx_module():
    module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(module, optax.chain(gf.record(stacked=None), optax.sgd(0.1)), wrt=nnx.Param)
    grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones(2)) ** 2))(module)
    optimizer.update(module, grads)
    node = gf.labelled(optimizer.opt_state)["model"]
    for name, size in zip(node["outer"].values, node["outer_gradient"].values, strict=True):
        assert size == pytest.approx(np.linalg.norm(getattr(grads, name)[...]), rel=1e-6)


def test_what_was_recorded_of_an_nnx_optimizer_stays_as_it_was():
    """The optimizer writes the next record into the variables of the last one."""
    module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(module, optax.chain(gf.record(stacked=None), optax.sgd(0.1)), wrt=nnx.Param)

    @nnx.jit
    def step(module, optimizer):
        grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones(2)) ** 2))(module)
        optimizer.update(module, grads)
        return grads, gf.recorded(optimizer.opt_state)

    passed, inside, outside = [], [], []
    for _ in range(3):
        grads, seen = step(module, optimizer)
        passed.append(float(jnp.linalg.norm(grads["kernel"][...])))
        inside.append(seen)
        outside.append(gf.recorded(optimizer.opt_state))
    for records in (inside, outside):
        run = gf.labelled(records)
        assert run["step"].values.tolist() == [0, 1, 2]
        kernel = run["model"]["outer_gradient"].sel(outer="kernel")
        np.testing.assert_allclose(kernel, passed, rtol=1e-6)


def test_records_between_two_updates_of_accumulated_gradients_are_one_row():
    every = 2
    states, _ = run(optax.MultiSteps(clipped(), every).gradient_transformation(), params())
    records = [gf.recorded(state) for state in states]
    applied = [records[1], records[3]]
    assert gf.labelled(records)["step"].values.tolist() == [0, 1]
    assert gf.labelled(records)["model"].equals(gf.labelled(applied)["model"])
    assert gf.labelled(records, leading={"step": range(STEPS)})["model"].sizes["step"] == STEPS
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *records)
    assert gf.labelled(stacked)["model"].equals(gf.labelled(applied)["model"])
    fresh = [gf.recorded(clipped().init(params()))] * 2
    assert gf.labelled(fresh)["step"].values.tolist() == [-1]


def test_its_norms_are_no_copies_of_the_weights_to_optax():
    state = clipped().init(params())
    marked = optax.tree_map_params(clipped(), lambda _: "weight", state, transform_non_params=lambda _: "other")
    assert set(jax.tree.leaves(gf.recorded(marked))) == {"other"}
    assert "weight" in jax.tree.leaves(marked)


# ---- labelled -----------------------------------------------------------------------------------------------


def test_records_over_steps_are_labelled_like_a_measurement_of_ones_own_loss(ran):
    states, passed = ran
    tree = gf.labelled([gf.recorded(state) for state in states])
    assert tree["step"].values.tolist() == [0, 1, 2, 3, 4]
    for i, seen in enumerate(passed):
        measured = gf.measure(loss, seen["weights"], BATCHES[i], stacked="layers")["model"]
        node = tree["model"].sel(step=i)
        for name in ("parameter_gradient", "outer_gradient"):
            assert node[name].dims == measured[name].dims
            np.testing.assert_allclose(node[name], measured[name], rtol=EXACT)
        for dim in ("parameter", "outer"):
            assert node[dim].values.tolist() == measured[dim].values.tolist()


def test_updates_and_recorders_of_ones_own_name_are_labelled(ran):
    states, passed = ran
    node = gf.labelled(states[-1])["model"]
    ratio = node["update_to_weight"]
    assert ratio.dims == node["clipped_norm"].dims == ("sublayer", "parameter")
    assert ratio.attrs["formula"].startswith("‖ΔW‖_F/‖W‖_F")
    update, weights = by_hand(passed[-1]["update"]), by_hand(passed[-1]["weights"])
    expected = np.divide(update["layers"]["w"], weights["layers"]["w"])
    np.testing.assert_allclose(ratio.sel(parameter="layers.w"), expected, rtol=EXACT)
    np.testing.assert_allclose(node["outer_update_norm"].sel(outer="head"), update["head"], rtol=EXACT)
    assert float(node["outer_update_to_weight"][0]) == pytest.approx(update["head"] / weights["head"])


@pytest.fixture(scope="module")
def transformer():
    return gf.transformer("pre", depth=2, width=8, heads=2, context=8)


@pytest.fixture(scope="module")
def text():
    return gf.data.text(context=8, batch=2)


def test_a_loop_of_ones_own_reads_what_the_built_in_one_reads(transformer, text):
    """Two seeds under `vmap`, three steps under `scan`: the same step, seed, sublayer and parameter, the same numbers."""
    optimizer, keys = optax.chain(gf.record(), optax.sgd(0.1), gf.record("update")), seed_keys(0, 2)
    start = jax.vmap(transformer.init)(keys)
    batches = jax.tree.map(lambda *a: jnp.stack(a), *(text.batches(keys, i) for i in range(3)))
    one = jax.vmap(partial(step, optimizer, partial(gradients.bare_loss, transformer)))
    scanned = lambda carry, x: (after := one(carry, x)[0], gf.recorded(after[1]))
    _, history = cases.jit(partial(jax.lax.scan, scanned))((start, jax.vmap(optimizer.init)(start)), batches)
    node = gf.labelled(history, transformer)["model"]
    _, built_in = gf.train({"model": transformer}, text, optax.sgd(0.1), steps=2, record=(0, 1, 2), seeds=2)
    for name in ("parameter_gradient", "outer_gradient"):
        assert node[name].dims == built_in["model"][name].dims
        with xr.set_options(arithmetic_join="exact"):
            ratio = node[name] / built_in["model"][name]
        assert float(abs(ratio - 1).max()) < 2e-4
        assert ratio.coords.keys() == built_in["model"][name].coords.keys()
    np.testing.assert_allclose(node["update_norm"], 0.1 * node["parameter_gradient"], rtol=1e-5)


def test_layers_come_in_depth_order_in_a_stack_of_two_segments(transformer):
    model = replace(transformer, stack=transformer.stack + transformer.at_depth(1).stack)
    weights, optimizer = model.init(0), gf.record("update")
    _, state = optimizer.update(weights, optimizer.init(weights), weights)
    node = gf.labelled(state, model)["model"]
    assert node.sizes["sublayer"] == 6
    expected = parameter_norms(model.stack, weights["stack"])
    np.testing.assert_allclose(node["update_norm"], expected, rtol=1e-5)
    there = ~np.isnan(node["update_to_weight"].values) | (np.asarray(expected) == 0)
    np.testing.assert_array_equal(there, ~np.isnan(expected))


def test_somebodys_own_layer_is_labelled_as_a_model():
    stack = FunctionStack(lambda w, x: x + jnp.tanh(x @ w), 3, lambda params, x, y: jnp.mean((x - y) ** 2))
    weights, optimizer = stack.params(cases.normal(3, 4, 4)), gf.record()
    _, state = optimizer.update(weights, optimizer.init(weights), weights)
    node = gf.labelled(state, stack)["model"]
    norms = np.linalg.norm(cases.normal(3, 4, 4), axis=(1, 2))
    np.testing.assert_allclose(node["parameter_gradient"][:, 0], norms, rtol=EXACT)


def test_layers_of_several_keys_come_in_turn():
    weights = {"outer": {"dense": {"w": cases.normal(2, 3)}, "experts": {"v": cases.normal(3, 4)}}, "head": jnp.ones(4)}
    optimizer = gf.record(stacked=("outer.dense", "outer.experts"))
    _, state = optimizer.update(weights, optimizer.init(weights), weights)
    node = gf.labelled(state)["model"]
    found = dict(zip(node["parameter"].values.tolist(), node["parameter_gradient"].values.T, strict=True))
    rows = lambda a: np.linalg.norm(a, axis=1).tolist()
    nan = [np.nan]
    np.testing.assert_allclose(found["outer.dense.w"], rows(cases.normal(2, 3)) + 3 * nan, rtol=EXACT)
    np.testing.assert_allclose(found["outer.experts.v"], 2 * nan + rows(cases.normal(3, 4)), rtol=EXACT)


def test_the_axes_in_front_can_be_named(ran):
    seeds = jax.tree.map(lambda *a: jnp.stack(a), *[gf.recorded(ran[0][-1])] * 2)
    tree = gf.labelled(seeds, leading={"seed": [3, 4]})
    assert tree["model"]["update_norm"].dims == ("seed", "sublayer", "parameter")
    assert tree["seed"].values.tolist() == [3, 4]
    for leading, remedy in (
        (None, "for seeds, say leading"),
        ({}, "name"),
        ({"step": [0], "seed": [0]}, "say for example"),
    ):
        with pytest.raises(ValueError, match=remedy):
            gf.labelled(seeds, leading=leading)


# ---- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "weights", "remedy"),
    [
        ({}, params(), r"no 'stack' .* keys, head, layers: .*stacked='layers'.*stacked=None"),
        ({"stacked": ("layers", "blocks")}, params(), "no 'blocks'"),
        ({"stacked": "a"}, {"a": {"w": jnp.ones((2, 3)), "gain": jnp.ones(())}}, "below 'a' axis 0 is not the layer"),
        ({"stacked": "a"}, {"a": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}}, r"below 'a' .*a\.w.*a\.b|a\.b.*a\.w"),
        ({"name": "after clipping"}, params(), "'after clipping' cannot be"),
    ],
)
def test_what_cannot_be_recorded_is_refused_at_the_start(options, weights, remedy):
    with pytest.raises(ValueError, match=remedy):
        gf.record(**options).init(weights)


def test_no_recorder_and_two_of_one_name_are_errors():
    with pytest.raises(ValueError, match=r"optax\.chain\(gf\.record"):
        gf.recorded(optax.adam(0.1).init(params()))
    with pytest.raises(ValueError, match="gradient, gradient: give each a name of its own"):
        gf.recorded(optax.chain(recorder(), optax.sgd(0.1), recorder()).init(params()))
    with pytest.raises(ValueError, match="no recorder"):
        gf.labelled([])


def test_records_that_do_not_fit_together_or_the_model_are_not_labelled(transformer, ran):
    mixed = optax.chain(recorder(), optax.masked(recorder("some"), {"layers": True, "head": False}))
    with pytest.raises(ValueError, match="gradient, some saw different parameters"):
        gf.labelled(mixed.init(params()))
    with pytest.raises(ValueError, match="below 'stack'"):
        gf.labelled(ran[0][-1], transformer)


def test_a_measurement_does_not_yield_updates(transformer, text):
    with pytest.raises(ValueError, match="no reading 'update_norm'"):
        gf.measure(transformer, text, quantities=("update_norm",))
