"""Findings and figures of experiments, from readings that are made up, so that what is true of them is known."""

import numpy as np
import optax
import pytest

import gradflow as gf
from gradflow.report import plot
from gradflow.report.tables import experiments
from gradflow.report.text import captions, findings
from gradflow.results import configuration
from gradflow.results.quantities import FACTORS
from gradflow.results.tree import Readings, entries, label, side_by_side

SEEDS = np.arange(4)
WOBBLE = np.array([-0.03, 0.0, 0.01, 0.02])


def run(**final) -> object:
    """A run of models that all start at a loss of 5.5 and end at the given one, seeds wobbling alike, or at several."""
    readings = {}
    for name, loss in final.items():
        start = 5.5 + WOBBLE
        arrays = {"heldout_loss": np.stack([start, np.broadcast_to(np.asarray(loss) + WOBBLE, 4)])}
        readings[name] = Readings(arrays, {})
    return label(readings, leading={"step": np.array([0, 9]), "seed": SEEDS})


@pytest.fixture(scope="module")
def grid():
    """post needs warm-up at 1e-2 and loses two seeds without it; pre is indifferent; at 1e-1 nothing helps."""
    trees = {
        "a": run(pre=3.0, post=3.1),
        "b": run(pre=2.9, post=[5.6, 3.3, 5.7, 3.2]),
        "c": run(pre=7.0, post=[np.nan, np.inf, 9.0, 9.0]),
        "d": run(pre=3.0, post=2.8),
        "e": run(pre=2.9, post=3.0),
        "f": run(pre=[2.7, 2.9, 3.1, 3.0], post=9.0),
    }
    return side_by_side("recipe", trees, lr=[1e-3, 1e-2, 1e-1] * 2, warmup=[0.0] * 3 + [10.0] * 3)


def test_a_seed_diverged_where_its_loss_is_not_finite_or_not_below_the_start(grid):
    table = experiments.outcomes(grid).set_index(["model", "recipe"])
    assert table["diverged"].unstack().loc["post"].tolist() == [0, 2, 4, 0, 0, 4]
    assert table["diverged"].unstack().loc["pre"].tolist() == [0, 0, 4, 0, 0, 0]
    assert table.loc[("post", "d"), "mean"] == pytest.approx((2.8 + WOBBLE).mean())


def test_warm_up_is_called_needed_where_it_is(grid):
    told = findings.warmup(grid)
    assert len(told) == 6
    assert "(with minus without)" in told[0]
    find = lambda start: next(line for line in told if line.startswith(start))
    assert "helps: −0.30" in find("post, learning rate 0.001")
    assert "(2 of 4 seeds diverged) without" in find("post, learning rate 0.01")
    assert "saves 2 seeds" in find("post, learning rate 0.01")
    assert find("post, learning rate 0.1:").endswith("diverged without, diverged with; 10 steps of warm-up saves none")
    assert "makes no difference that is seen" in find("pre, learning rate 0.01")
    assert "saves 4 seeds" in find("pre, learning rate 0.1:")


def test_the_best_recipe_has_no_seed_that_diverged_and_models_are_paired_at_their_best(grid):
    assert experiments.best(grid) == {"pre": "b", "post": "d"}
    assert findings.quality(grid)[-1] == "post is better than pre: −0.10 [−0.10, −0.10] nat"
    hopeless = side_by_side("recipe", {"a": run(pre=9.0, post=3.0)}, lr=[1.0], warmup=[0.0])
    assert findings.quality(hopeless)[-1] == "pre: no recipe is stable"


def test_sensitivity_is_the_mean_excess_over_the_best_where_a_diverged_run_counts_as_the_start(grid):
    pre = experiments.sensitivity(grid["pre"])
    losses = np.stack([3.0, 2.9, 5.5, 3.0, 2.9] * np.ones((4, 1)), axis=0) + WOBBLE[:, None]
    losses = np.column_stack([losses, np.array([2.7, 2.9, 3.1, 3.0]) + WOBBLE])
    excess = (losses - losses.min(axis=1, keepdims=True)).mean(axis=1)
    assert float(pre["mean"]) == pytest.approx(excess.mean())
    assert all("sensitivity to the learning rate" in line for line in findings.sensitivity(grid))


def test_recipes_of_one_rate_are_told_by_name_one_against_the_other():
    tree = side_by_side(
        "recipe", {"default": run(pre=3.0, post=3.4), "tuned": run(pre=3.0, post=3.0)}, lr=[1e-3] * 2, warmup=[0.0, 9.0]
    )
    pre, post = findings.adam(tree)
    assert "tuned makes no difference that is seen" in pre
    assert "tuned helps: −0.40" in post
    assert "(tuned minus default)" in post
    ax = plot.outcomes(tree)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["default", "tuned"]


def test_outcomes_have_a_curve_a_model_and_warm_up_and_a_cross_where_a_seed_diverged(grid):
    ax = plot.outcomes(grid)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["pre, no warm-up", "pre, 10 steps", "post, no warm-up", "post, 10 steps"]
    crosses = [len(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "x"]
    assert crosses == [1, 0, 2, 1]
    assert "crosses: at least one seed diverged" in ax.get_label()
    assert ax.get_xscale() == "log"


def test_trees_stand_side_by_side_only_where_steps_and_seeds_agree(grid):
    assert grid["post"]["heldout_loss"].dims == ("recipe", "step", "seed")
    other = label(
        {"pre": Readings({"heldout_loss": np.ones((1, 4))}, {})}, leading={"step": np.array([0]), "seed": SEEDS}
    )
    with pytest.raises(ValueError, match="not recorded at the same steps"):
        side_by_side("recipe", {"a": run(pre=3.0), "b": other})


def test_the_entries_of_a_dimension_are_models_of_a_tree_of_their_own(grid):
    tree = entries(grid, "post", extra=grid["pre"].to_dataset().sel(recipe="a"))
    assert list(tree.children) == [*"abcdef", "extra"]
    np.testing.assert_array_equal(tree["d"]["heldout_loss"], grid["post"]["heldout_loss"].sel(recipe="d"))
    assert "recipe" not in tree["d"].coords


def through_training() -> object:
    """A run whose gradient at the bottom falls by ten a record, while the norms lose and the forks gain."""
    steps, shape = np.array([0, 1, 10]), (3, 4, 3)
    stream = np.ones(shape) * np.array([1.0, 0.1, 0.01])[:, None, None] * np.exp(WOBBLE)[:, None]
    budget = np.zeros((3, 4, 2, len(FACTORS)))
    budget[..., 0], budget[..., 1] = -1.5, 0.5
    arrays = {
        "stream_gradient": stream,
        "readout_gradient": np.ones((3, 4)),
        "budget": budget,
        "token_cosine": np.ones(shape) * 0.75,
        "heldout_loss": 3.0 + WOBBLE * np.ones((3, 1)),
    }
    coords = {"sublayer": np.array([1, 2]), "kind": ("sublayer", ["attention", "mlp"])}
    return label({"post": Readings(arrays, coords)}, leading={"step": steps, "seed": SEEDS})


def test_a_collapse_is_told_by_its_deepest_step_with_its_budget():
    (told,) = findings.collapse(through_training())
    for words in (
        "1.0 [",
        "least at step 10: 0.01",
        "norm −3.0",
        "fork +1.0",
        "token cosine 0.750 [",
        "held-out loss 3.00 [",
    ):
        assert words in told


def test_the_anatomy_of_a_collapse_has_four_panels_over_the_same_steps():
    figure = plot.collapse(through_training())
    assert len(figure.axes) == 4
    assert [ax.get_title(loc="left").split()[-1] for ax in figure.axes] == ["bottom", "loses", "top", "loss"]
    assert figure.axes[0].get_yscale() == "log"
    assert "anatomy" in figure.get_label()
    with pytest.raises(ValueError, match="did you mean 'norm'"):
        plot.through(through_training(), "nrm")


@pytest.mark.parametrize(("power", "told"), [(1.0, "+1.00 [+1.00, +1.00]"), (0.0, "0.00 [0.00, 0.00]")])
def test_amplification_is_the_exponent_of_the_mean_square(power, told):
    nodes = {"/": run(pre=3.0).to_dataset().drop_dims("step")}
    for blocks in (2, 4, 8):
        change = np.exp(WOBBLE) * 0.01 * blocks ** (power / 2)
        tree = label({"model": Readings({"output_change": change}, {})}, leading={"seed": SEEDS})
        nodes[f"post/depth_{blocks}"] = tree["model"].to_dataset(inherit=False).assign_attrs(total_depth=blocks)
    import xarray as xr

    swept = xr.DataTree.from_dict(nodes)
    (line,) = findings.amplification(swept)
    assert line.endswith(f"it grows as their number to the {told}")
    assert gf.plot.amplification(swept).get_xscale() == "log"


ADAM = "Adam(b1=0.9, b2=0.999, eps=1e-08, weight_decay=0)"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            gf.Recipe(),
            f"{ADAM}, learning rate 0.001, no warm-up, constant schedule, no clipping",
        ),
        (
            gf.Recipe(warmup=9, clip=1.0, dropout=0.1),
            f"{ADAM}, learning rate 0.001, 9 steps of warm-up, constant schedule, norm clipped at 1, dropout 0.1",
        ),
        (
            gf.Recipe(gf.optimizers.SGD(), lr=0.1, clip_parameter=2.0),
            "SGD(momentum=0, nesterov=False), learning rate 0.1",
        ),
        (gf.Recipe(optax.sgd(0.1), lr=1.0), "raining: an optax transformation"),
    ],
)
def test_a_caption_says_how_the_run_was_trained(recipe, words):
    tree = run(pre=3.0)
    tree.attrs["recipe"] = configuration.dumps(recipe)
    assert words in captions.caption(tree, "A run")
    tree.attrs["recipes"] = "{}"
    assert "raining:" not in captions.caption(tree, "Several")
