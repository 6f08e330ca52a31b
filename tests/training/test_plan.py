"""A run before it is run: what is read of it when, and what it says of itself."""

import json
from functools import partial

import jax
import numpy as np
import optax
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.backward.updates import UPDATES
from gradflow.instruments.jacobians import chain, spectrum
from gradflow.training.optimizers import Adam
from gradflow.training.plan import PRESETS, Plan
from gradflow.training.recipe import Recipe
from gradflow.training.recipe import recipe as recipe_of
from gradflow.training.record_schedule import At, every


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


@pytest.fixture(scope="module")
def plan(data):
    """A plan of 10 steps, recorded at 0, 5 and 10."""

    def make(readings="standard", recipe=Recipe(), *, key=0, seeds=2, steps=10, record=(0, 5, 10)):
        return Plan.of(data, recipe, key, seeds, steps, record, readings)

    return make


def own(model, params, batch):
    """A reading of the user's."""
    return {"mine": params["readout"].kernel[0, 0]}


# ---- what is read when --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("readings", "inline"),
    [
        ("economy", gradients.economy),
        ("standard", gradients.reading),
        ("full", gradients.reading),
        (("rematerialized", "update"), gradients.rematerialized),
        (("update",), gradients.economy),  # loss and gradients come always
        ((own,), gradients.economy),
        (("budget",), gradients.reading),  # by the name of a quantity
    ],
)
def test_the_backward_pass_of_training_reads_the_most_that_is_asked_of_one(readings, inline, plan):
    found = plan(readings)
    assert found.inline is inline
    assert inline not in [r for at in found.separate for r in at.readings]


def test_what_is_not_of_the_backward_pass_is_read_at_every_record_of_weights_or_of_updates(plan):
    found = plan(("backward", "partial_jacobian", "update", own))
    for step in (0, 5):
        assert found.further_at(step) == ((chain.partial_jacobian, own), (UPDATES["update"],))
    assert found.further_at(10) == ((chain.partial_jacobian, own), ())  # no update follows the last step


def test_readings_at_some_steps_are_due_there_alone(plan):
    found = plan(("backward", At((0, 10), "spectrum"), At((5,), "update", "change")))
    due = {step: found.further_at(step) for step in (0, 5, 10)}
    assert due == {
        0: ((spectrum.spectrum,), ()),
        5: ((), (UPDATES["update"], UPDATES["change"])),
        10: ((spectrum.spectrum,), ()),
    }


def test_held_out_text_is_read_by_the_loop_and_never_of_the_training_batch(plan):
    for name in ("heldout_loss", gradients.heldout_loss):
        found = plan(("backward", name))
        assert found.separate == ()


def test_every_preset_reads_what_the_one_before_it_reads():
    economy, standard, full = PRESETS.values()
    assert economy == ("economy",)
    assert set(standard) < set(full)


def test_rates_are_the_recipes_and_none_follows_the_last_step(plan):
    recipe = Recipe(lr=0.1, warmup=4, schedule="cosine")
    rates = plan(recipe=recipe).rates
    np.testing.assert_array_equal(rates[:-1], recipe.rates(10))
    assert len(rates) == 11
    assert np.isnan(rates[-1])


def test_a_seeds_key_does_not_depend_on_how_many_there_are(plan):
    few, many = plan(seeds=2).keys, plan(seeds=5).keys
    assert (few == many[:2]).all()


def test_plans_that_differ_in_rates_and_records_share_what_is_compiled(plan):
    model = gf.transformer("pre", depth=1, width=8, heads=2, context=8)
    base = plan(recipe=Recipe("adam", lr=0.1, clip=1.0))
    slow = plan(recipe=Recipe("adam", lr=0.001, warmup=3, schedule="cosine", clip=1.0), seeds=5, steps=7, record=(7,))
    assert base.step(model) == slow.step(model)
    assert hash(base.step(model)) == hash(slow.step(model))
    others = [
        plan(recipe=Recipe("adam", clip=2.0)),
        plan(recipe=Recipe("adam", clip=1.0, dropout=0.1)),
        plan("economy", Recipe("adam", clip=1.0)),
    ]
    assert base.step(model) not in [other.step(model) for other in others]


# ---- what it says of itself ---------------------------------------------------------------------------------


def test_a_configuration_is_plain_data_with_all_that_decides_the_numbers(plan, data):
    models = gf.transformers("pre", "post", depth=1, width=8, heads=2, context=8)
    found = plan(("backward", At((0,), "spectrum", "update")), Recipe(Adam(b2=0.9)), record=every(5))
    written = json.loads(json.dumps(found.configuration(models, 3)))
    assert written["models"].keys() == {"pre", "post"}
    assert gf.results.configuration.decode(written["models"]["post"]) == models["post"]
    assert gf.results.configuration.decode(written["recipe"]) == Recipe(Adam(b2=0.9))
    assert written["data"] == data.description()
    assert (written["key"], written["seeds"], written["steps"], written["record"]) == ("3", 2, 10, [0, 5, 10])
    assert written["inline"] == "reading"
    assert written["separate"] == [{"steps": [0], "readings": ["spectrum", "sizes"]}]


def test_a_reading_with_options_is_named_by_them_the_same_in_every_process(plan):
    quick = partial(chain.partial_jacobian, probes=4)
    inner = partial(quick, key=1)
    names = plan(("backward", quick, inner, own)).configuration({}, 0)["separate"]
    assert [item["readings"] for item in names] == [
        ["partial_jacobian(probes=4)"],
        ["partial_jacobian(probes=4, key=1)"],
        ["own"],
    ]


def test_an_optax_transformation_is_named_in_the_configuration(plan):
    written = plan(recipe=recipe_of(optax.sgd(0.1))).configuration({}, 0)["recipe"]
    assert written["lr"] == 1.0
    assert json.dumps(written)


def test_optax_transformations_that_differ_in_a_constant_are_told_apart(plan):
    """Equal ones are not, though their closures live at other addresses."""
    models = {"post": gf.transformer("post", depth=2, width=8, heads=2, context=8)}
    written = lambda rule: plan(recipe=recipe_of(rule)).configuration(models, 0).get("programs")
    falling = lambda half: optax.adam(optax.exponential_decay(1e-3, half, 0.5))
    rules = [optax.adam(1e-3), optax.adam(1e-3, b2=0.98), optax.adam(2e-3), falling(10), falling(20)]
    rules.append(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)))
    noisy = lambda seed: optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(seed)), optax.sgd(0.1))
    rules += [noisy(0), noisy(1)]  # a key that a closure holds
    found = [written(rule)["post"] for rule in rules]
    assert len(set(found)) == len(rules)
    assert written(optax.adam(1e-3))["post"] == found[0]
    assert written(falling(10))["post"] == found[3]
    assert written(Adam(b2=0.98)) is None  # a value says its constants itself


# ---- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (
            {"readings": "standart"},
            "no preset or reading 'standart': did you mean 'standard'.*known: economy, standard, full",
        ),
        ({"readings": ("updat",)}, "no reading 'updat': did you mean 'update'"),
        ({"readings": (At((0,), "spectrun"),)}, "did you mean 'spectrum'"),
        ({"readings": ("backward", At((0, 3, 7), "spectrum"))}, r"at steps \[3, 7\].*recorded steps are \(0, 5, 10\)"),
        ({"seeds": 0}, "seeds is 0: at least 1"),
        ({"steps": 0, "record": None}, "steps is 0: at least 1"),
        ({"record": (0, 11)}, "between 0 and steps = 10"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_remedy(options, remedy, plan):
    with pytest.raises(ValueError, match=remedy):
        plan(**options)
