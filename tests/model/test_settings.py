"""Settings of JAX: entry points run under its usual ones, and the core holds under the strict ones."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradflow as gf
from gradflow.model.numerics.settings import USUAL, here, set_to, usual_settings
from gradflow.model.numerics.threads import side_by_side

pytestmark = pytest.mark.promotes  # each sets the settings of its own

TEXT = gf.data.text(context=4, batch=1)
MODEL = gf.transformer("post", depth=1, width=8, heads=2, context=4)
OTHERS = {
    "jax_check_tracer_leaks": True,
    "jax_debug_infs": True,
    "jax_debug_key_reuse": True,
    "jax_debug_nans": True,
    "jax_default_prng_impl": "rbg",
    "jax_disable_jit": True,
    "jax_enable_custom_prng": True,
    "jax_legacy_prng_key": "error",
    "jax_no_tracing": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_random_seed_offset": 7,
    "jax_softmax_custom_jvp": True,
    "jax_threefry_partitionable": False,
}


def numbers() -> dict[str, np.ndarray]:
    """Of weights, of a stack and of somebody's own loss with a meter that is not read at first."""
    loss = lambda params, batch, dials: jnp.sum((gf.meter(params["w"], dials["here"]) * batch) ** 2)
    tree = gf.measure(MODEL, TEXT, seeds=1, quantities=("economy",))["model"]
    own = gf.measure(loss, {"w": jnp.ones(3)}, jnp.ones(3), dials={"here": jnp.zeros(())})["model"]
    found = {f"{i}/{name}": np.asarray(a) for i, node in enumerate((tree, own)) for name, a in node.data_vars.items()}
    return found | {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(MODEL.init(0)))}


@pytest.fixture(scope="module")
def usual():
    with usual_settings():
        return numbers()


@pytest.mark.parametrize(("setting", "value"), OTHERS.items(), ids=OTHERS)
def test_the_same_bits_come_out_under_any_other_setting(setting, value, usual):
    before = jax.config.values[setting]
    jax.config.update(setting, value)
    try:
        found = numbers()
    finally:
        jax.config.update(setting, before)
    assert found.keys() == usual.keys()
    for name, array in usual.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_nothing_is_set_where_all_is_as_usual():
    with usual_settings():
        here = {name: jax.config.values[name] for name in USUAL}
        with usual_settings():
            assert {name: jax.config.values[name] for name in USUAL} == here


def test_what_somebody_set_is_there_again_afterwards():
    with jax.debug_nans(True):
        with usual_settings():
            assert not jax.config.values["jax_debug_nans"]
        assert jax.config.values["jax_debug_nans"]


def test_a_recorder_starts_where_nan_stops_a_program():
    with jax.debug_nans(True):
        optax.chain(gf.record(stacked=None), optax.sgd(0.1)).init({"w": jnp.ones(3)})


@pytest.mark.parametrize("wiring", ["pre", "post", "deepnorm", "layerscale", "ngpt", "normformer", "mhc"])
@pytest.mark.parametrize(
    ("setting", "value"), [(jax.numpy_rank_promotion, "raise"), (jax.numpy_dtype_promotion, "strict")]
)
def test_a_model_by_itself_and_its_gradient_hold_under_strict_promotion(wiring, setting, value):
    model = gf.transformer(wiring, depth=2, width=8, heads=2, context=4)
    batch = jax.tree.map(lambda a: a[0], TEXT.batch(0, 0))

    def loss(params):
        x, _ = gf.walk(model.stack, params["stack"], model.enter(params, batch["inputs"]))
        return model.loss(params, model.leave(params, x), batch["targets"])

    with setting(value):
        logits = jax.eval_shape(model, model.shapes, batch["inputs"])
        grads = jax.eval_shape(jax.grad(loss), model.shapes)
    assert logits.shape == (4, 256)
    assert jax.tree.structure(grads) == jax.tree.structure(model.shapes)


def test_what_is_computed_side_by_side_has_the_settings_of_the_thread_that_asks():
    def of_one(x, power):
        assert threading.current_thread() is not threading.main_thread()
        return jnp.asarray(x) ** power, jax.config.jax_default_matmul_precision

    with jax.enable_x64(False), jax.default_matmul_precision("highest"):
        pairs = side_by_side(None, of_one, (1.5, 2.5, 3.5), (2, 3, 4))
    assert [precision for _, precision in pairs] == ["highest"] * 3
    assert [float(value) for value, _ in pairs] == [1.5**2, 2.5**3, 3.5**4]
    assert all(value.dtype == "float32" for value, _ in pairs)


def test_what_fails_beside_others_says_so():
    def of_one(x):
        if x == 2:
            raise ValueError("two")
        return x

    with pytest.raises(ValueError, match="two"):
        side_by_side(None, of_one, (1, 2, 3))


def test_settings_that_a_thread_was_given_are_there_for_a_block():
    with jax.enable_x64(False):
        wanted = here()
    with set_to(wanted):
        assert jnp.ones(()).dtype == "float32"
    assert jnp.ones(()).dtype == "float64"
