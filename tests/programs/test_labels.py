"""Readings of somebody's own training loop, labelled: the same tree whichever way they came, and every figure takes it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradflow as gf

STEPS, SEEDS, LAYERS = 4, 3, 2
RATE = 0.05


def loss_fn(params, batch):
    """A pre-norm stack with two sublayers a layer."""
    x = params["embedding"][batch["inputs"]]
    for layer in params["layers"]:
        x = x + jnp.tanh(norm(x) @ layer["mix"])
        x = x + jax.nn.relu(norm(x) @ layer["up"]) @ layer["down"]
    log_p = jax.nn.log_softmax(norm(x) @ params["embedding"].T)
    return -jnp.take_along_axis(log_p, batch["targets"][..., None], -1).mean()


def norm(x):
    return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def init(key):
    draw = jax.random.normal
    embedding, *keys = jax.random.split(key, LAYERS + 1)
    layers = [{"mix": draw(k, (4, 4)), "up": draw(k, (4, 8)), "down": draw(k, (8, 4))} for k in keys]
    return {"embedding": draw(embedding, (8, 4)), "layers": layers}


def batches(steps):
    tokens = np.random.default_rng(0).integers(0, 8, (steps, SEEDS, 2, 6))
    return {"inputs": jnp.asarray(tokens[..., :-1]), "targets": jnp.asarray(tokens[..., 1:])}


BATCHES = batches(STEPS)
STARTS = jax.vmap(init)(jax.random.split(jax.random.key(0), SEEDS))
ONE_BATCH = jax.tree.map(lambda array: array[0, 0], BATCHES)
ONE_START = jax.tree.map(lambda array: array[0], STARTS)


@pytest.fixture(scope="module")
def metered():
    return gf.metered(loss_fn, ONE_START, ONE_BATCH)


@pytest.fixture(scope="module")
def history(metered):
    """Readings [step, seed, …] of plain gradient descent."""

    def step(params, batch):
        _, gradients, reading = jax.vmap(metered)(params, batch)
        return jax.tree.map(lambda w, g: w - RATE * g, params, gradients), reading

    _, history = jax.jit(partial(jax.lax.scan, step))(STARTS, BATCHES)
    return jax.device_get(history)


def of_seed(history, seed):
    return jax.tree.map(lambda array: array[:, seed], history)


def test_a_history_has_the_tree_of_a_run_of_the_built_in_loop(metered, history):
    run = gf.labelled(history, metered)
    node = run["model"]
    assert run["step"].values.tolist() == list(range(STEPS))
    assert run["seed"].values.tolist() == list(range(SEEDS))
    assert node["stream_gradient"].dims == ("step", "seed", "depth")
    assert node["budget"].dims == ("step", "seed", "sublayer", "factor")
    assert node["layer"].values.tolist() == [1, 1, 2, 2]
    assert node["parameter"].values.tolist() == ["down", "mix", "up"]
    assert node["outer"].values.tolist() == ["embedding"]
    np.testing.assert_array_equal(node["stream_gradient"], history["stream_gradient"])
    assert set(node.data_vars) == set(history)


def test_parameters_gradients_are_read_as_a_measurement_reads_them(metered, history):
    node = gf.labelled(history, metered)["model"].isel(step=0, seed=0)
    measured = gf.measure(loss_fn, ONE_START, ONE_BATCH)["model"].isel(seed=0)
    for name in measured.data_vars:
        np.testing.assert_allclose(node[name], measured[name], rtol=1e-9, atol=1e-12, err_msg=name)
        assert node[name].dims == measured[name].dims
    assert node["kind"].values.tolist() == measured["kind"].values.tolist()


def test_a_list_of_readings_is_the_same_as_a_scan(metered, history):
    entries = [jax.tree.map(lambda array, i=i: array[i], history) for i in range(STEPS)]
    assert gf.labelled(entries, metered)["model"].equals(gf.labelled(history, metered)["model"])


def test_one_run_without_an_axis_of_seeds_is_seed_0(metered, history):
    run = gf.labelled(of_seed(history, 1), metered)
    assert run["seed"].values.tolist() == [0]
    assert run["model"]["loss"].dims == ("step", "seed")
    np.testing.assert_array_equal(run["model"]["loss"][:, 0], history["loss"][:, 1])


def test_one_reading_is_a_measurement(metered, history):
    run = gf.labelled(jax.tree.map(lambda array: array[0, 0], history), metered)
    assert run["model"]["stream_gradient"].dims == ("seed", "depth")


def test_the_axes_in_front_can_be_named_in_any_order(metered, history):
    turned = jax.tree.map(lambda array: np.moveaxis(array, 0, 1), history)
    run = gf.labelled(turned, metered, leading={"seed": [7, 8, 9], "step": [0, 10, 20, 30]})
    assert run["step"].values.tolist() == [0, 10, 20, 30]
    assert run["seed"].values.tolist() == [7, 8, 9]
    np.testing.assert_array_equal(run["model"]["loss"], history["loss"])
    assert run["model"]["loss"].dims == ("step", "seed")


@pytest.mark.parametrize("seeds", [1, SEEDS])
@pytest.mark.parametrize("figure", ["profile", "heatmap", "budget", "training"])
def test_every_figure_takes_it(figure, seeds, metered, history):
    chosen = history if seeds > 1 else of_seed(history, 0)
    run = gf.labelled(chosen, metered)
    match figure:
        case "training":
            drawn = gf.plot.training(run, "loss")
        case "heatmap" | "budget":
            drawn = getattr(gf.plot, figure)(run["model"])
        case _:
            drawn = getattr(gf.plot, figure)(run)
    assert drawn.has_data()


@pytest.mark.further
def test_a_report_takes_it(metered, history, tmp_path):
    folder = gf.report.write(gf.labelled(history, metered), tmp_path / "report")
    assert (folder / "figures" / "stream_gradient.pdf").exists()
    assert gf.results.load(folder / "results.nc")["model"].sizes["step"] == STEPS
    assert "program: loss_fn, 192 parameters" in (folder / "tables" / "summary.txt").read_text()


@pytest.mark.parametrize(
    ("records", "leading", "error"),
    [
        ([], None, "no readings"),
        ([1.0], None, "readings are needed"),
        ((1, 2), None, "readings are needed"),
        ("history", {"step": range(9)}, r"shape \(4, 3\), but leading says"),
        ("history", {"step": range(4), "seed": range(2)}, r"shape \(4, 3\), but leading says"),
    ],
)
def test_what_are_no_readings_is_refused(records, leading, error, metered, history):
    with pytest.raises((TypeError, ValueError), match=error):
        gf.labelled(history if records == "history" else records, metered, leading=leading)


def test_a_recorder_and_meters_stand_in_one_loop(metered):
    """Updates of the optimizer under their own names, the stream from the meters."""
    optimizer = optax.chain(optax.sgd(RATE), gf.record("update", stacked=None))
    step = jax.jit(metered)
    params, state, readings, records = ONE_START, optimizer.init(ONE_START), [], []
    for _ in range(2):
        _, gradients, reading = step(params, ONE_BATCH)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        readings.append(reading)
        records.append(gf.recorded(state))
    read, updated = gf.labelled(readings, metered)["model"], gf.labelled(records)["model"]
    by_recorder = updated["outer_update_norm"].sel(outer="embedding").values
    by_meter = read["outer_gradient"].sel(outer="embedding").isel(seed=0).values
    np.testing.assert_allclose(by_recorder, RATE * by_meter, rtol=1e-6)
