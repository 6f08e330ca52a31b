"""Streams in several variables: found as one stream of lanes, which reads what the project's own meters read of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs.models import PROGRAMS, marked_lines

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.jacobians import chain
from gradflow.model.equation.sublayer import bind
from gradflow.model.layers.lane_mixing import OfTokens
from gradflow.model.layers.lanes import Lanes, PerLane, Then
from gradflow.model.layers.layer import Identity
from gradflow.model.parameters.depth import at_layer
from gradflow.programs.diagnosis.diagnose import diagnose
from gradflow.programs.jacobians.steps import stacks
from gradflow.programs.metered import traced, value_gradients_readings
from gradflow.programs.trunk.positions import makers
from gradflow.programs.trunk.search import NoTrunk, trunks

BATCH = {"inputs": np.arange(16).reshape(2, 8) * 7 % 256, "targets": np.arange(1, 17).reshape(2, 8) * 7 % 256}


def applied(layer, params, x, lanes):
    """A layer of lanes, as one writes it who holds them in a list; `lanes` is the stream, which some gains read."""
    if isinstance(layer, Identity):
        return x
    if isinstance(layer, PerLane):
        return [one(params[str(i)], x[i - 1]) for i, one in layer.numbered()]
    if isinstance(layer, Then):
        for i, one in layer.numbered():
            x = applied(one, params[str(i)], x, lanes)
        return x
    if not isinstance(layer, Lanes):
        return layer(params, x)
    matrix = layer.numbers(jnp.float64) if not layer.trained else params.get("matrix")
    if isinstance(layer, OfTokens):
        matrix = jnp.moveaxis(layer.by_token(params, jnp.stack(lanes)), 0, -1)[..., None]
    if layer.route == "spread":
        return [gain * x for gain in matrix]
    if layer.route == "gather":
        return sum(gain * one for gain, one in zip(matrix, x, strict=True))
    return [sum(gain * one for gain, one in zip(row, x, strict=True)) for row in matrix]


def in_variables(model, params, batch):
    """The loss of a model of lanes, a Python list of them."""

    def example(inputs, targets):
        x = model.enter(params, inputs)
        lanes = [x[i] for i in range(len(x))]
        number = 0
        for segment, stacked in zip(model.stack.resolved, params["stack"], strict=True):
            for block in range(segment.repeats):
                number += 1
                for one in segment.block:
                    own = jax.tree.map(lambda leaf, block=block: leaf[block], stacked[one.kind])
                    lanes = sublayer(one, own, lanes, number)
        out = model.leave(params, jnp.stack(lanes))
        return model.loss(params, out, targets)

    losses = jax.vmap(example)(batch["inputs"], batch["targets"])
    return gradients.mean_over_targets(model, losses, batch)


def sublayer(one, params, lanes, number):
    layers = {name: at_layer(layer, number) for name, layer in one.layers.items()}
    branch = bind({"branch": layers["branch"]}, {"branch": params["branch"]})["branch"]
    x = applied(layers["read"], params["read"], lanes, lanes)
    x = applied(layers["norm_in"], params["norm_in"], x, lanes)
    f = applied(layers["norm_branch"], params["norm_branch"], branch(x), lanes)
    written = applied(layers["write"], params["write"], f, lanes)
    kept = applied(layers["skip"], params["skip"], lanes, lanes)
    sums = [a + b for a, b in zip(kept, written, strict=True)]
    return applied(layers["norm_out"], params["norm_out"], sums, lanes)


@pytest.mark.parametrize(
    "name",
    [
        "residual",
        *[
            pytest.param(name, marks=pytest.mark.further)
            for name in ("siamese", "hyper_connections", "dynamic_hyper_connections", "mhc")
        ],
    ],
)
def test_readings_of_lanes_in_variables_are_those_of_their_own_meters(name):
    model = gf.transformer(name, depth=2, width=8, heads=2, context=8)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), jax.jit(model.init)(jax.random.key(0)))
    batch = jax.tree.map(jnp.asarray, BATCH)
    program = traced(lambda params, batch: in_variables(model, params, batch), params, batch)

    @jax.jit
    def both(params, batch):
        loss, same, (reading,) = value_gradients_readings(program, params, batch)
        return gradients.backward(model, params, batch), same, {"loss": loss, **reading}

    (grads, expected), same, found = jax.device_get(both(params, batch))
    for one, other in zip(jax.tree.leaves(same), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)
    for quantity in set(expected) & set(found):
        known = np.isfinite(found[quantity])
        assert found[quantity].shape == expected[quantity].shape, quantity
        np.testing.assert_allclose(
            found[quantity][known], expected[quantity][known], rtol=1e-11, atol=1e-13, err_msg=quantity
        )
    for quantity in ("stream_gradient", "stream_gradient_by_token", "stream_rms", "skip_rms", "branch_rms", "split"):
        assert np.isfinite(found[quantity]).all(), quantity
    assert np.isfinite(found["budget"][:, :2]).all()


@pytest.mark.further
@pytest.mark.parametrize("name", ["residual", "hyper_connections"])
def test_jacobians_of_lanes_in_variables_are_those_of_the_model(name):
    """Of ResiDual within standard errors: the model keeps its probes off the directions that a norm of one lane takes away."""
    model = gf.transformer(name, depth=2, width=8, heads=2, context=8)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), jax.jit(model.init)(jax.random.key(0)))
    batch = jax.tree.map(jnp.asarray, BATCH)
    (of,), examples = stacks(lambda params, batch: in_variables(model, params, batch), params, batch)
    for reading in (chain.partial_jacobian, chain.lyapunov):
        expected = jax.jit(lambda params, batch, reading=reading: reading(model, params, batch))(params, batch)
        found = jax.jit(lambda params, batch, reading=reading: reading(of, params, batch))(params, examples)
        for quantity in expected.keys() - {f"{known}_sem" for known in expected}:
            difference = np.abs(found[quantity] - expected[quantity])
            error = 1e-9 * np.abs(expected[quantity])
            sem = f"{quantity}_sem"
            if name == "residual" and sem in expected:
                error = 5 * np.hypot(found[sem], expected[sem])
            if name != "residual" or sem in expected:
                assert np.all(difference <= error), quantity


LANES = ("two_streams", "lanes_in_list", "reversible", "remat_two_streams", "scan_two_streams", "momentum")


def lines_around(operation) -> set[tuple[str, int]]:
    equations = (operation.equation, *operation.around)
    return {(frame.file_name, frame.line_num) for one in equations for frame in one.source_info.traceback.frames}


@pytest.mark.parametrize("name", LANES)
def test_positions_are_marked_lines_once_a_sublayer(name):
    program = PROGRAMS[name]()
    (found,) = trunks(jax.make_jaxpr(program.loss)(program.params, program.batch), len(jax.tree.leaves(program.params)))
    assert found.sublayers == program.layers
    assert found.lane_dimensions == 3
    marked = set(map(tuple, marked_lines(*program.source)))
    assert all(lines_around(operation) & marked for operation, _ in makers(found)[1:])
    assert {len(place.fork.above.shape) for place in found.places} == {4}


def step(x, w):
    return jnp.tanh(x @ w)


def residual_of_two(x, w):
    """A loss of two streams, of which the second has `w[0].shape[1]` features."""
    y = x @ w[0]
    for one, back in zip(w[1::2], w[2::2], strict=True):
        x, y = x + step(y, back), y + step(x, one)
    return jnp.sum(x) + jnp.sum(y)


def test_lanes_of_several_shapes_are_refused_with_these():
    shapes = [(4, 6), *[(4, 6), (6, 4)] * 3]
    traced = jax.make_jaxpr(lambda w, x: residual_of_two(x, w))([jnp.ones(shape) for shape in shapes], jnp.ones((3, 4)))
    with pytest.raises(NoTrunk, match=r"not alike, float\d\d\[3, 4\], float\d\d\[3, 6\]; lanes of one stream"):
        trunks(traced, len(shapes))


def test_a_value_that_rides_along_is_no_lane():
    def loss(w, x):
        x0 = x @ w[0]
        x = x0 @ w[1]
        for one in w[2:]:
            x = x + step(0.9 * x + 0.1 * x0, one)
        return jnp.sum(x)

    (found,) = trunks(jax.make_jaxpr(loss)(jnp.ones((6, 4, 4)), jnp.ones((3, 4))), 1)
    assert found.lane_dimensions is None
    assert found.sublayers == 4


def test_loss_and_gradients_of_lanes_are_those_of_the_program():
    """In float64; gradients of a value with several uses are added up in another order."""
    w = jax.random.normal(jax.random.key(0), (7, 4, 4), jnp.float64) / 2
    x = jax.random.normal(jax.random.key(1), (3, 4), jnp.float64)
    loss = lambda w, x: residual_of_two(x, w)
    value, same, reading = jax.jit(gf.metered(loss, w, x))(w, x)
    expected, gradient = jax.jit(jax.value_and_grad(loss))(w, x)
    np.testing.assert_allclose(value, expected, rtol=1e-15)
    np.testing.assert_allclose(same, gradient, rtol=1e-13)

    def from_streams(x, y):
        return jnp.sum(x) + jnp.sum(y)

    by_hand = [from_streams]
    for one, back in zip(w[-2::-2], w[:1:-2], strict=False):

        def below(x, y, above=by_hand[-1], one=one, back=back):
            return above(x + step(y, back), y + step(x, one))

        by_hand.append(below)
    streams = [(x, x @ w[0])]
    for one, back in zip(w[1::2], w[2::2], strict=True):
        x, y = streams[-1]
        streams.append((x + step(y, back), y + step(x, one)))
    norms = []
    for above, (x, y) in zip(reversed(by_hand), streams, strict=True):
        gradients_of_both = jax.grad(above, argnums=(0, 1))(x, y)
        norms.append(jnp.linalg.norm(jnp.stack(gradients_of_both)))
    np.testing.assert_allclose(reading["stream_gradient"], norms, rtol=1e-12)


def test_a_diagnosis_of_two_streams_names_both_sublayers_of_a_block():
    program = PROGRAMS["scan_two_streams"]()
    found = diagnose(program.loss, program.params, program.batch)
    assert [one.kind for one in found.sublayers] == ["attention, causal", "token-wise"] * (program.layers // 2)
    assert {one.skip for one in found.sublayers} == {"1"}
    assert not found.findings
