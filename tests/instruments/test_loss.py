"""Meters in somebody's own loss: right readings, no silent ones."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf

DEPTH = 3


def params():
    return {
        "layers": {"w": cases.normal(DEPTH, 4, 4, seed=1), "b": cases.normal(DEPTH, 4, seed=2)},
        "head": {"v": cases.normal(4, seed=3)},
    }


def through(params, x, see=lambda x, l: x):
    """Somebody's model: residual tanh layers in a Python loop; `see` is called before each layer, and at the top."""
    for l in range(DEPTH):
        x = see(x, l)
        x = x + jnp.tanh(x @ params["layers"]["w"][l] + params["layers"]["b"][l])
    return jnp.sum((see(x, DEPTH) @ params["head"]["v"]) ** 2)


def metered(params, x, dials):
    return through(params, x, lambda x, l: gf.meter(x, dials["stream_gradient"][l]))


def bare(params, x):
    return through(params, x)


X = cases.normal(5, 4, seed=4)


def gradients_of_the_stream():
    nudges = jnp.zeros((DEPTH + 1, *X.shape))
    return jax.grad(lambda z: through(params(), X, lambda x, l: x + z[l]))(nudges)


def test_meters_of_ones_own_read_the_norms_of_the_gradients_they_see():
    node = gf.measure(metered, params(), X, dials={"stream_gradient": jnp.zeros(DEPTH + 1)})["model"]
    expected = np.linalg.norm(np.asarray(gradients_of_the_stream()).reshape(DEPTH + 1, -1), axis=1)
    assert node["stream_gradient"].dims == ("depth",)
    np.testing.assert_allclose(node["stream_gradient"], expected, rtol=1e-6)
    assert float(node["loss"]) == pytest.approx(float(bare(params(), X)), rel=1e-12)


def test_a_dial_with_an_entry_a_token_reads_every_token():
    def loss(params, x, dials):
        return through(params, x, lambda x, l: gf.meter(x, dials["mine"][l]))

    node = gf.measure(loss, params(), X, dials={"mine": jnp.zeros((DEPTH + 1, 5))})["model"]
    np.testing.assert_allclose(node["mine"], np.linalg.norm(gradients_of_the_stream(), axis=-1), rtol=1e-6)
    assert node["mine"].dims == ("mine_0", "mine_1")
    assert node["mine"].attrs["formula"] == "the user's own meter"


def test_parameters_stacked_over_depth_are_read_layer_by_layer():
    node = gf.measure(bare, params(), X, stacked="layers")["model"]
    grads = jax.grad(bare)(params(), X)
    by_layer = np.linalg.norm(grads["layers"]["w"], axis=(1, 2))
    names = node["parameter"].values.tolist()
    assert len(names) == 2
    np.testing.assert_allclose(
        node["parameter_gradient"][:, ["w" in name for name in names].index(True)], by_layer, rtol=1e-12
    )
    assert node["parameter_gradient"].dims == ("sublayer", "parameter")
    np.testing.assert_allclose(node["outer_gradient"], [np.linalg.norm(grads["head"]["v"])], rtol=1e-12)
    assert node["outer"].values.tolist() == ["head.v"]


def test_without_stacked_parameters_are_those_of_the_layers_that_use_them():
    node = gf.measure(bare, params(), X)["model"].isel(seed=0)
    grads = jax.grad(bare)(params(), X)
    assert node["outer"].values.tolist() == ["head.v"]
    of_layers = node["parameter_gradient"].sel(parameter="layers.w")
    np.testing.assert_allclose(of_layers, np.linalg.norm(grads["layers"]["w"], axis=(1, 2)), rtol=1e-12)


def test_parameters_need_not_be_a_dict_and_without_a_stream_they_are_read_alone():
    with pytest.warns(UserWarning, match="no residual sublayer: .* gradients of parameters alone are read"):
        node = gf.measure(lambda w, x: jnp.sum((x @ w) ** 2), cases.normal(4, 2), X)["model"]
    assert node.sizes["outer"] == 1
    assert "stream_gradient" not in node


def test_a_silent_meter_is_an_error_that_names_it():
    def loss(params, x, dials):
        gf.meter(x, dials["forgotten"])
        return metered(params, x, {"stream_gradient": dials["some"]})

    dials = {"some": jnp.zeros(DEPTH + 2), "forgotten": jnp.zeros(())}
    with pytest.raises(ValueError, match=r"read nothing.*: forgotten, some\[4\]$") as error:
        gf.measure(loss, params(), X, dials=dials)
    assert "\n" not in str(error.value)


def test_a_meter_behind_a_stopped_gradient_is_silent():
    def loss(params, x, dials):
        return bare(params, x) + jnp.sum(jax.lax.stop_gradient(gf.meter(x, dials["stopped"])))

    with pytest.raises(ValueError, match=r"read nothing.*: stopped$"):
        gf.measure(loss, params(), X, dials={"stopped": jnp.zeros(())})


def test_a_gradient_of_zero_is_no_error():
    def loss(params, x, dials):
        return bare(params, x) + 0.0 * jnp.sum(gf.meter(x, dials["zero"]))

    node = gf.measure(loss, params(), X, dials={"zero": jnp.zeros(())})["model"]
    assert float(node["zero"]) == 0


def test_the_value_of_a_dial_does_not_matter():
    one, other = (
        gf.measure(metered, params(), X, dials={"stream_gradient": dial})["model"]["stream_gradient"].values
        for dial in (jnp.zeros(DEPTH + 1), jnp.full(DEPTH + 1, 3.0))
    )
    np.testing.assert_array_equal(one, other)


# ---- every dial is read once ---------------------------------------------------------------------------------


def plainly(params, x, dials):
    return through(params, x, lambda x, l: gf.meter(x, dials["stream"][l]))


def scanned(params, x, dials):
    def layer(x, row):
        w, dial = row
        return x + jnp.tanh(gf.meter(x, dial) @ w), None

    x, _ = jax.lax.scan(jax.checkpoint(layer), x, (params["layers"]["w"], dials["stream"][:DEPTH]))
    return jnp.sum(jax.jit(gf.meter)(x, dials["stream"][DEPTH]) @ params["head"]["v"])


def counted(params, x, dials):
    w = params["layers"]["w"]
    x = jax.lax.fori_loop(0, DEPTH, lambda l, x: x + jnp.tanh(gf.meter(x, dials["stream"][l]) @ w[l]), x)
    return jnp.sum(gf.meter(x, dials["stream"][DEPTH]))


def by_example(loss):
    return lambda params, x, dials: jax.vmap(lambda one: loss(params, one[None], dials))(x).sum()


LOSSES = {"a loop": plainly, "a scan": scanned, "a counted loop": counted}
LOSSES |= {f"{name}, under vmap": by_example(loss) for name, loss in LOSSES.items()}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_dial_array_that_is_too_short_is_an_error_that_names_the_dial(loss):
    assert gf.measure(loss, params(), X, dials={"stream": jnp.zeros(DEPTH + 1)})["model"]["stream"].size == DEPTH + 1
    with pytest.raises(ValueError, match=rf"more than one meter.*: stream\[{DEPTH - 1}\] \(2 meters\); give") as error:
        gf.measure(loss, params(), X, dials={"stream": jnp.zeros(DEPTH)})
    assert "\n" not in str(error.value)


def test_two_meters_on_a_dial_without_axes_are_an_error():
    def twice(params, x, dials):
        return through(params, gf.meter(x, dials["one"]), lambda x, l: gf.meter(x, dials["one"]) if l == 1 else x)

    with pytest.raises(ValueError, match=r": one \(2 meters\); give"):
        gf.measure(twice, params(), X, dials={"one": jnp.zeros(())})


def test_a_dial_that_is_chosen_by_the_data_is_counted_with_its_array():
    def chosen(params, x, dials):
        l = jnp.argmax(x[0])
        return through(params, gf.meter(x, dials["some"][l]), lambda x, _: gf.meter(x, dials["some"][l]))

    with pytest.raises(ValueError, match=r"some of 2 dials \(5 meters\)"):
        gf.measure(chosen, params(), X, dials={"some": jnp.zeros(2)})
