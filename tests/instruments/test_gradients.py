"""What one backward pass reads, against unrolled loops that keep every gradient, in float64."""

from functools import cache, partial

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import over_wirings

from gradflow.instruments.backward import gradients, noise
from gradflow.instruments.jacobians import chain, spectrum
from gradflow.instruments.meters.parameter_norms import frobenius, parameter_norms
from gradflow.interop.functions import FunctionStack
from gradflow.model.parameters.names import named, outer_names, parameter_names
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.stacks.transformer import Transformer
from gradflow.model.wirings.wiring import post, pre
from gradflow.results.quantities import JACOBIANS

EXACT = 1e-10


@cache
def slow(wiring):
    """By loops: loss, gradients of the stream [examples, …] at all positions and of what is read out, of the parameters."""
    read = cases.read(wiring)
    losses, grads = zip(*reference.backward(read["model"], read["params"], read["batch"]), strict=True)
    parameters, streams, readouts = zip(*grads, strict=True)
    examples = len(losses)  # the loss of a batch is the mean over its examples
    return {
        "loss": np.mean(losses),
        "stream": [np.stack(g) / examples for g in zip(*streams, strict=True)],
        "readout": np.stack(readouts) / examples,
        "parameters": jax.tree.map(lambda *g: np.mean(g, axis=0), *parameters),
    }


@over_wirings
def test_the_loss_is_the_mean_over_tokens_and_examples(wiring):
    assert cases.read(wiring)["reading"]["loss"] == pytest.approx(slow(wiring)["loss"], rel=EXACT)


@over_wirings
def test_the_stream_gradient_at_every_depth_equals_the_unrolled_one(wiring):
    reading, retained = cases.read(wiring)["reading"], slow(wiring)["stream"]
    assert len(retained) == 3 * 2 + 1
    total = [np.linalg.norm(g) for g in retained]
    np.testing.assert_allclose(reading["stream_gradient"], total, rtol=EXACT)
    by_token = [np.sqrt((np.moveaxis(g, -2, 0).reshape(cases.TOKENS, -1) ** 2).sum(-1)) for g in retained]
    np.testing.assert_allclose(reading["stream_gradient_by_token"], by_token, rtol=EXACT)


@over_wirings
def test_the_gradient_at_the_readout_is_that_of_what_left_the_stream(wiring):
    reading = cases.read(wiring)["reading"]
    size = np.linalg.norm(slow(wiring)["readout"])
    assert reading["readout_gradient"] == pytest.approx(size, rel=EXACT)
    assert reading["leave_gain"] == pytest.approx(np.log(reading["stream_gradient"][-1] / size), abs=EXACT)


@over_wirings
def test_the_returned_gradients_are_those_of_the_batch_mean(wiring):
    mean = slow(wiring)["parameters"]
    zero = {path for path, leaf in flat(mean).items() if np.linalg.norm(leaf) < 1e-14}
    errors = cases.distances(cases.read(wiring)["grads"], mean)
    assert {path for path, error in errors.items() if not error < EXACT} <= zero


def flat(tree) -> dict:
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def named_norms(read, gradient) -> dict:
    """`{(sublayer, parameter): ‖g‖}`, by hand, of the two kinds of sublayer of `cases.TWO`."""
    weights = {"causal": ("query", "key", "value", "out"), "gated": ("gate", "up", "down")}
    kinds, found = list(cases.TWO), {}
    for l in range(3):
        for k, kind in enumerate(kinds):
            own = gradient["stack"][0][kind]
            for name in weights[kind]:
                found[2 * l + k, name] = np.linalg.norm(np.asarray(own["branch"][name].kernel[...])[l])
            inside = {place: p for place, p in own["branch"].items() if place not in weights[kind]}
            for part, p in {**{name: own[name] for name in ("norm_in", "norm_branch", "norm_out")}, **inside}.items():
                for suffix in ("scale", "bias", "shift", "gain"):
                    leaf = p.get(suffix) if isinstance(p, dict) else getattr(p, suffix, None)
                    if leaf is not None and not isinstance(leaf, dict):
                        found[2 * l + k, f"{part}.{suffix}"] = np.linalg.norm(np.asarray(leaf[...])[l])
            for part in ("skip", "write", "norm_in", "norm_out"):
                for name, leaf in inside_of(own[part]).items():
                    found[2 * l + k, f"{part}.{name}"] = np.linalg.norm(np.asarray(leaf)[l])
    return found


def inside_of(tree) -> dict:
    """The leaves of a part whose parameters are dictionaries, by the names in the table: a matrix has that of its map."""
    leaves = {}
    for name, inner in tree.items() if isinstance(tree, dict) else ():
        if isinstance(inner, dict):
            leaves |= {f"{name}.{below}".removesuffix(".kernel"): leaf for below, leaf in inside_of(inner).items()}
        elif hasattr(inner, "scale"):
            leaves |= {f"{name}.scale": inner.scale[...]} | ({f"{name}.bias": inner.bias[...]} if inner.bias else {})
        else:
            leaves[name] = inner
    return leaves


@cases.over_single_lane_wirings
def test_parameter_gradients_have_their_names_and_norms(wiring):
    read = cases.read(wiring)
    names = parameter_names(read["model"].stack, read["params"]["stack"])
    table = read["reading"]["parameter_gradient"]
    mean = slow(wiring)["parameters"]
    expected = named_norms(read, mean)
    assert {name for _, name in expected} == set(names)
    assert table.shape == (6, len(names))
    for sublayer in range(6):
        for p, name in enumerate(names):
            if (sublayer, name) in expected:
                assert table[sublayer, p] == pytest.approx(expected[sublayer, name], rel=EXACT), (sublayer, name)
            else:
                assert np.isnan(table[sublayer, p])


@over_wirings
def test_outer_gradients_have_their_names_and_norms(wiring):
    read = cases.read(wiring)
    mean = slow(wiring)["parameters"]
    outer = dict(zip(outer_names(read["params"]), read["reading"]["outer_gradient"], strict=True))
    by_hand = {"token": mean["embedding"]["token"].embedding, "position": mean["embedding"]["position"].embedding}
    by_hand["readout"] = mean["readout"].kernel
    for name, leaf in by_hand.items():
        assert outer[name] == pytest.approx(np.linalg.norm(np.asarray(leaf[...])), rel=EXACT)
    assert len(outer) == len(jax.tree.leaves({k: v for k, v in read["params"].items() if k != "stack"}))


@over_wirings
def test_rematerialization_changes_no_number(wiring):
    read = cases.read(wiring)
    again = cases.jit(lambda p, b: gradients.rematerialized(read["model"], p, b))(read["params"], read["batch"])
    assert again.keys() == read["reading"].keys()
    for name, value in read["reading"].items():
        np.testing.assert_allclose(again[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


# ---- single examples ----------------------------------------------------------------------------------------


over_two = pytest.mark.parametrize("wiring", [pre(), post()], ids=lambda w: w.name)
EXAMPLES = 5


@cache
def of_examples(wiring):
    """Model, parameters and batch; what is read of single examples; their gradients in the stack, by a loop."""
    model = cases.model(wiring, 2, cases.TWO)
    params, batch = cases.drawn(model), cases.batch(EXAMPLES)
    batch["targets"] = jnp.repeat(batch["targets"][:1], EXAMPLES, axis=0)  # so that their gradients have much in common
    found = jax.device_get(cases.jit(lambda p, b: noise.per_example(model, p, b))(params, batch))
    return model, params, batch, found, [g["stack"] for _, (g, _, _) in reference.backward(model, params, batch)]


@over_two
def test_parameter_gradients_of_one_example_equal_a_loop(wiring):
    model, params, batch, found, grads = of_examples(wiring)
    each = [parameter_norms(model.stack, g) for g in grads]
    np.testing.assert_allclose(found["parameter_gradient_per_example"], np.mean(each, axis=0), rtol=EXACT)
    sem = np.std(each, axis=0, ddof=1) / EXAMPLES**0.5
    np.testing.assert_allclose(found["parameter_gradient_per_example_sem"], sem, rtol=1e-8)
    batch_mean = cases.jit(lambda p, b: gradients.backward(model, p, b)[1]["parameter_gradient"])(params, batch)
    there = ~np.isnan(batch_mean)
    assert (found["parameter_gradient_per_example"][there] > 1.01 * np.asarray(batch_mean)[there]).all()


# ---- noise --------------------------------------------------------------------------------------------------


def noise_by_hand(g) -> tuple[float, float]:
    """`tr Σ` and `tr Σ/|G|²` of gradients [examples, entries]: unbiased, |G|² too; NaN where it is not above zero."""
    variance = g.var(axis=0, ddof=1).sum() if len(g) > 1 else np.nan
    signal = (g.mean(0) ** 2).sum() - variance / len(g)
    return variance, variance / signal if signal > 0 else np.nan


def jackknife(g) -> np.ndarray:
    """Standard errors of both, from what they are without each example in turn (Efron 1982, eq. 3.1)."""
    left_out = np.array([noise_by_hand(np.delete(g, i, axis=0)) for i in range(len(g))])
    return np.sqrt((len(g) - 1) / len(g) * ((left_out - left_out.mean(0)) ** 2).sum(0))


@over_two
def test_the_noise_of_every_parameter_is_that_of_its_stacked_gradients_with_brute_force_errors(wiring):
    model, params, _, found, grads = of_examples(wiring)
    names, finite = parameter_names(model.stack, params["stack"]), 0
    for sublayer in range(4):
        layer, kind = sublayer // 2, list(cases.TWO)[sublayer % 2]
        own = [named(jax.tree.map(lambda a, l=layer: a[l], g[0][kind])) for g in grads]
        for name in own[0]:
            at = sublayer, names.index(name)
            g = np.stack([np.ravel(one[name]) for one in own])
            rows = zip(("gradient_variance", "gradient_noise_scale"), noise_by_hand(g), jackknife(g), strict=True)
            for quantity, expected, error in rows:
                np.testing.assert_allclose(found[quantity][at], expected, rtol=1e-8, err_msg=f"{quantity} {at}")
                np.testing.assert_allclose(found[f"{quantity}_sem"][at], error, rtol=1e-6, err_msg=f"{quantity} {at}")
            finite += np.isfinite(found["gradient_noise_scale_sem"][at])
    assert finite > 5
    missing = np.isnan(parameter_norms(model.stack, grads[0]))
    assert (np.isnan(found["gradient_variance"]) == missing).all()


def test_the_variance_is_unbiased_and_its_error_is_that_of_its_scatter():
    """Over 4000 batches of 16 normal gradients of 6 entries, as if each were a sublayer."""
    batches, examples, entries = 4000, 16, 6
    spread = 1 + np.arange(entries)
    g = 2 + spread * np.random.default_rng(0).normal(size=(examples, batches, entries))
    norm = lambda v: np.linalg.norm(v, axis=-1)[..., None]
    found = noise._noise(*map(jnp.asarray, (norm(g), norm(g + g.mean(0)), norm(g.mean(0)))))
    variance, errors = (np.asarray(found[name])[:, 0] for name in ("gradient_variance", "gradient_variance_sem"))
    z = (variance.mean() - (spread**2).sum()) / (variance.std() / batches**0.5)
    assert abs(z) < 4
    assert (errors**2).mean() ** 0.5 == pytest.approx(variance.std(), rel=0.05)


@cases.jit
def of_tower(batch):
    model, params, *_ = tower()
    return noise.per_example(model, params, batch)


def test_a_batch_of_identical_examples_has_no_noise():
    one = jax.tree.map(lambda a: a[:1], tower()[2])
    found = of_tower(jax.tree.map(lambda a: jnp.repeat(a, 4, axis=0), one))
    square = np.asarray(found["parameter_gradient_per_example"]) ** 2
    for name in ("gradient_variance", "gradient_variance_sem"):
        assert (found[name] >= 0).all()
        assert (np.asarray(found[name]) < 1e-13 * square).all()
    assert (np.asarray(found["gradient_noise_scale"]) < 1e-13).all()


@pytest.mark.parametrize("examples", [1, 2])
def test_noise_that_a_small_batch_does_not_show_is_nan(examples):
    """Of one example nothing; of two a variance, whose error needs a third."""
    found = of_tower(jax.tree.map(lambda a: a[:examples], tower()[2]))
    assert np.isfinite(found["gradient_variance"]).all() == (examples == 2)
    assert np.isfinite(found["parameter_gradient_per_example"]).all()
    for name in ("gradient_variance_sem", "gradient_noise_scale_sem"):
        assert np.isnan(found[name]).all()
    if examples == 1:
        assert np.isnan(found["gradient_variance"]).all()
        assert np.isnan(found["gradient_noise_scale"]).all()


def test_noise_that_hides_the_gradient_has_no_scale():
    """Two opposite gradients: a mean of zero, which says nothing of its own size."""
    one = lambda *values: jnp.asarray(values).reshape(-1, 1, 1)
    found = noise._noise(one(1.0, 1.0, 1.0, 1.0), one(1.0, 1.0, 1.0, 1.0), jnp.zeros((1, 1)))
    assert found["gradient_variance"][0, 0] == pytest.approx(4 / 3)
    assert np.isnan(found["gradient_noise_scale"][0, 0])


# ---- one example --------------------------------------------------------------------------------------------


def test_a_batch_of_one_has_no_error_over_examples():
    model = cases.model(pre(), 1, cases.TWO)
    params, batch = cases.drawn(model), cases.batch(1)
    found = jax.device_get(
        cases.jit(lambda p, b: {**noise.per_example(model, p, b), **gradients.reading(model, p, b)})(params, batch)
    )
    np.testing.assert_allclose(found["parameter_gradient_per_example"], found["parameter_gradient"], rtol=EXACT)
    assert np.isnan(found["parameter_gradient_per_example_sem"]).all()


# ---- names --------------------------------------------------------------------------------------------------


def test_names_come_in_order_of_first_appearance_over_segments():
    first = Segment((Sublayer("gated", pre(), cases.TWO["gated"]),), 2)
    second = Segment((Sublayer("causal", post(), cases.TWO["causal"]),), 1)
    model = Transformer(Stack((first, second)), cases.WIDTH)
    params = model.init(0)
    names = parameter_names(model.stack, params["stack"])
    gated = [name for name in names if name in ("gate", "up", "down", "norm_in.scale", "norm_in.bias")]
    assert names[: len(gated)] == gated
    assert len(gated) == 5
    assert {"query", "key", "value", "out", "norm_out.scale", "norm_out.bias"} == set(names[len(gated) :])
    norms = parameter_norms(model.stack, params["stack"])
    assert norms.shape == (3, len(names))
    assert np.isnan(norms[2, : len(gated)]).all()
    assert np.isnan(norms[:2, len(gated) :]).all()


def test_a_frobenius_norm_does_not_underflow_in_float32():
    leaf = jnp.full((10, 10), 1e-23, jnp.float32)
    assert frobenius(leaf) == pytest.approx(1e-22, rel=1e-5)
    assert frobenius(jnp.zeros(3)) == 0


# ---- a pure function ----------------------------------------------------------------------------------------


def layer(params, x):
    """Somebody's own layer."""
    return jnp.tanh(x @ params["w"] + params["b"])


@cache
def tower():
    stacked = {"w": cases.normal(4, 3, 3, seed=1), "b": cases.normal(4, 3, seed=2)}
    batch = {"inputs": cases.normal(2, 5, 3, seed=3), "targets": cases.normal(2, 5, 3, seed=4)}
    model = FunctionStack(layer, 4, lambda params, x, targets: jnp.sum((x - targets) ** 2))
    return model, model.params(stacked), batch, stacked


def test_a_pure_function_has_stream_and_parameter_gradients():
    model, params, batch, stacked = tower()
    reading = cases.jit(lambda p, b: gradients.reading(model, p, b))(params, batch)
    own = lambda l: jax.tree.map(lambda a: a[l], stacked)
    rest = lambda x, start: x if start == 4 else rest(layer(own(start), x), start + 1)
    loss = lambda x, start: jnp.sum((rest(x, start) - batch["targets"]) ** 2) / 2
    streams = [batch["inputs"]]
    for l in range(4):
        streams.append(layer(own(l), streams[-1]))
    grads = cases.jit(lambda streams: [jax.grad(loss)(x, l) for l, x in enumerate(streams)])(streams)
    np.testing.assert_allclose(reading["stream_gradient"], [np.linalg.norm(g) for g in grads], rtol=EXACT)
    by_token = [np.sqrt((np.asarray(g) ** 2).sum((0, 2))) for g in grads]
    np.testing.assert_allclose(reading["stream_gradient_by_token"], by_token, rtol=EXACT)

    def of_weights(w):
        y = batch["inputs"]
        for l in range(4):
            y = layer({"w": w[l], "b": stacked["b"][l]}, y)
        return jnp.sum((y - batch["targets"]) ** 2) / 2

    names = parameter_names(model.stack, params["stack"])
    by_weight = np.linalg.norm(cases.jit(jax.grad(of_weights))(stacked["w"]), axis=(1, 2))
    np.testing.assert_allclose(reading["parameter_gradient"][:, names.index("w")], by_weight, rtol=EXACT)


def test_a_pure_function_has_its_whole_jacobian():
    model, params, batch, stacked = tower()
    found = cases.jit(lambda p, b: spectrum.spectrum(model, p, b))(params, batch)
    values = found["singular_values"][:, JACOBIANS.index("sublayer")]
    jacobian = cases.jit(jax.jacobian(layer, 1))
    x = batch["inputs"][0]
    for l in range(4):
        own = jax.tree.map(lambda a, l=l: a[l], stacked)
        J = np.asarray(jacobian(own, x)).reshape(15, 15)
        np.testing.assert_allclose(values[l], np.linalg.svd(J, compute_uv=False), rtol=EXACT, atol=1e-14)
        x = layer(own, x)


def test_a_pure_function_has_partial_jacobians():
    model, params, batch, stacked = tower()
    found = cases.jit(lambda p, b: chain.partial_jacobian(model, p, b, probes=64))(params, batch)

    def rest(x, start):
        for l in range(start, 4):
            x = layer(jax.tree.map(lambda a, l=l: a[l], stacked), x)
        return x

    @partial(cases.jit, static_argnums=1)
    def jacobians(x, start):
        return jax.vmap(jax.jacobian(lambda x: rest(x, start)))(x)

    x = batch["inputs"]
    for l in range(4):
        exact = np.sum(np.asarray(jacobians(x, l)) ** 2) / x.size
        assert abs(found["partial_jacobian"][l, 0] - exact) < 4 * found["partial_jacobian_sem"][l, 0]
        x = layer(jax.tree.map(lambda a, l=l: a[l], stacked), x)
    np.testing.assert_array_equal(found["partial_jacobian"][-1], 1)


def test_a_stream_without_tokens_is_read_too():
    """A layer of vectors [features]: no dimension `token`, and no cosine between tokens."""
    model, params, _, stacked = tower()
    batch = {"inputs": cases.normal(2, 3, seed=3), "targets": cases.normal(2, 3, seed=4)}
    reading = cases.jit(lambda p, b: gradients.reading(model, p, b))(params, batch)
    assert "stream_gradient_by_token" not in reading
    assert np.isnan(reading["token_cosine"]).all()

    def loss(x):
        for l in range(4):
            x = layer(jax.tree.map(lambda a, l=l: a[l], stacked), x)
        return jnp.sum((x - batch["targets"]) ** 2) / 2

    bottom = np.linalg.norm(cases.jit(jax.grad(loss))(batch["inputs"]))
    assert reading["stream_gradient"][0] == pytest.approx(bottom, rel=EXACT)
