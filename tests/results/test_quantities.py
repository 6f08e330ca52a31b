"""The table of quantities: what readings yield is in it, and what it says of them can be called, drawn and set."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from matplotlib.mathtext import MathTextParser

import gradflow as gf
from gradflow.instruments.backward.updates import UPDATES
from gradflow.instruments.readings import READINGS, readings
from gradflow.model.numerics.settings import usual_settings
from gradflow.results.quantities import QUANTITIES, SOURCES, row
from gradflow.theory import predict
from gradflow.theory.gram import TheoryContext
from gradflow.training.step import Step

WITHOUT_READING = {"train", "record", "logged", "sensitivity", "predict"}  # taken by calls of their own
COLUMNS = ["meaning", "formula", "latex", "unit", "mean", "reading", "how to get it", "cost", "figure"]


@pytest.fixture(scope="module")
def model():
    return gf.transformer("pre", depth=1, width=8, heads=2, context=6, vocabulary=256)


@pytest.fixture(scope="module")
def batch():
    tokens = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
    return {"inputs": tokens, "targets": tokens + 1}


@usual_settings()
def shapes(function, *arguments):
    """What a function returns, without its numbers, under the settings in which `measure`, `train` and `predict` call it."""
    return jax.eval_shape(function, *arguments)


def of(reading: str) -> set[str]:
    """The quantities that the table says a reading yields."""
    return {name for name, quantity in QUANTITIES.items() if quantity.reading == reading}


# ---- what readings yield ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READINGS)
def test_what_a_reading_yields_is_in_the_table_as_its_own(name, model, batch):
    yielded = set(shapes(partial(READINGS[name], model), shapes(model.init, jax.random.key(0)), batch))
    assert yielded <= set(QUANTITIES)
    assert SOURCES[name].of or yielded == of(name)


@pytest.mark.parametrize("name", UPDATES)
def test_what_a_reading_of_an_update_yields_is_in_the_table_as_its_own(name, model, batch):
    params = shapes(model.init, jax.random.key(0))
    assert set(shapes(partial(UPDATES[name], model), (params, params), batch)) == of(name)


def test_what_a_step_of_training_yields_beyond_the_backward_pass_is_in_the_table_as_its_own(model, batch):
    step = Step(model, gf.Recipe().direction(), eps=1e-8)
    keys = jax.random.split(jax.random.key(0), 2)
    state = shapes(step.start, keys)
    own = jax.tree.map(lambda a: jnp.stack([a, a]), batch)
    _, yielded = shapes(partial(Step.__call__, step), state, own, keys, jnp.float32(0.1), jnp.int32(0))
    assert set(yielded) - of("backward") == of("train")


def test_the_quantities_that_are_predicted_are_those_the_table_says(model, batch):
    place = TheoryContext(8, 6, 1, jax.random.key(0))
    yielded = set()
    for reading in predict.READINGS.values():
        yielded |= set(shapes(lambda inputs, reading=reading: reading(model, batch, place), 0))
    assert yielded == {name for name, quantity in QUANTITIES.items() if quantity.predicted}


# ---- what is said of readings -------------------------------------------------------------------------------


def test_every_reading_has_its_source():
    assert set(SOURCES) == set(READINGS) | set(UPDATES) | WITHOUT_READING
    assert {quantity.reading for quantity in QUANTITIES.values()} <= set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_says_what_it_costs_and_names_calls_that_there_are(name):
    source = SOURCES[name]
    assert source.name == name
    assert source.cost
    assert source.calls
    for path in re.findall(r"gf\.([\w.]+)\(", " ".join(source.calls)):
        found = gf
        for part in path.split("."):
            found = getattr(found, part)
        assert callable(found)


@pytest.mark.parametrize("name", QUANTITIES)
def test_what_is_asked_for_by_the_call_is_what_yields_the_quantity(name):
    calls = gf.quantities(name).loc[name, "how to get it"]
    asked = set(re.findall(r'(?:quantities|readings)="(\w+)"', calls))
    assert asked == ({QUANTITIES[name].reading} - WITHOUT_READING)
    for reading in asked:
        assert readings(reading, READINGS | UPDATES) == readings(name, READINGS | UPDATES)
        if "gf.predict" in calls:
            assert predict.readings(reading)
    assert ("gf.predict" in calls) == QUANTITIES[name].predicted


@pytest.mark.parametrize("name", sorted(of("train") | of("record") | of("logged") | of("sensitivity")))
def test_what_no_reading_yields_is_refused_where_readings_are_named(name):
    with pytest.raises(ValueError, match=f"no reading '{name}'"):
        readings(name, READINGS | UPDATES)


# ---- what is said of quantities -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_formula_in_latex_can_be_set(name):
    latex = QUANTITIES[name].latex
    assert latex
    assert "$" not in latex
    assert MathTextParser("path").parse(f"${latex}$").width > 0


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_figure_is_there_and_has_room_for_the_quantity(name):
    quantity = QUANTITIES[name]
    assert quantity.mean in ("geometric", "arithmetic")
    if quantity.figure is None:
        return
    assert quantity.figure in gf.plot.__all__
    assert callable(getattr(gf.plot, quantity.figure))
    if quantity.figure == "profile":
        assert len({"depth", "sublayer"} & set(quantity.dims)) == 1
    if quantity.figure == "factors":
        assert quantity.dims == ("sublayer", "jacobian")


def test_what_has_a_profile_over_depth_has_a_figure():
    over_depth = {name for name, q in QUANTITIES.items() if {"depth", "sublayer"} & set(q.dims)}
    without = {name for name in over_depth if QUANTITIES[name].figure is None}
    assert {name for name in without if not name.endswith("_sem")} == {"spectrum_probes"}


def test_the_error_of_a_prediction_is_over_replicas():
    error = row("stream_gradient_sem")
    assert (error.mean, error.reading, error.dims) == ("arithmetic", "predict", ("depth",))
    assert row("stream_gradient_sem_sem") is None


# ---- the table as it is shown -------------------------------------------------------------------------------


def test_the_table_has_a_row_for_every_quantity_and_says_all_of_it():
    table = gf.quantities()
    assert list(table.index) == list(QUANTITIES)
    assert list(table.columns) == COLUMNS
    assert table.map(lambda entry: isinstance(entry, str) and bool(entry)).all(axis=None)
    assert (table["figure"].str.startswith("gf.plot.") | (table["figure"] == "none")).all()


def test_a_quantity_by_its_name_is_its_row():
    told = gf.quantities("spectral_density")
    assert list(told.index) == ["spectral_density"]
    assert told.equals(gf.quantities().loc[["spectral_density"]])
    assert told.loc["spectral_density", "cost"] == SOURCES["spectrum"].cost
    assert gf.quantities("loss_sem").loc["loss_sem", "how to get it"] == "gf.predict(...)"


def test_a_reading_by_its_name_is_all_that_it_yields():
    told = gf.quantities("lyapunov")
    assert set(told["reading"]) == {"lyapunov"}
    assert list(told.index) == [name for name, row in QUANTITIES.items() if row.reading == "lyapunov"]


@pytest.mark.parametrize("name", ["bugdet", "learning_rate_sem", "", 3, ["budget"]])
def test_an_unknown_name_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"no quantity .*known: loss, stream_gradient") as refused:
        gf.quantities(name)
    assert "\n" not in str(refused.value)
    if name == "bugdet":
        assert "did you mean 'budget'" in str(refused.value)
