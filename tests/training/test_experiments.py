"""Experiments at toy size: each is one call, and what it returns is what its figure and its sentences need."""

import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
import xarray as xr

import gradflow as gf
from gradflow.training.step import Step


def _raises(*_):
    raise ArithmeticError("no update")


RAISING = optax.GradientTransformation(lambda params: optax.EmptyState(), _raises)
pytestmark = pytest.mark.usefixtures("quickly_compiled")
TOY = {"steps": 3, "seeds": 2}


@pytest.fixture(scope="module")
def models(quickly_compiled):
    return gf.transformers("pre", "post", depth=1, width=8, heads=2, context=8)


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def grid(models, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    tree = gf.experiments.warmup(models, data, lrs=(1e-3, 1e-2), warmups=(0, 2), checkpoints=folder, **TOY)
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2", "3"]
    return tree


def test_a_grid_has_every_recipe_with_its_numbers_and_is_the_runs_of_each(models, data, grid):
    node = grid["post"]
    assert node["heldout_loss"].dims == ("recipe", "step", "seed")
    assert node["lr"].values.tolist() == [1e-3, 1e-2] * 2
    assert node["warmup"].values.tolist() == [0, 0, 2, 2]
    _, alone = gf.train({"post": models["post"]}, data, gf.Recipe(lr=1e-2, warmup=2), readings="economy", **TOY)
    for quantity in ("heldout_loss", "stream_gradient", "parameter_gradient"):
        np.testing.assert_array_equal(node[quantity].isel(recipe=-1), alone["post"][quantity])
    assert len(gf.results.settings(grid)["recipes"]) == 4


def test_a_grid_is_drawn_told_and_read_back(grid, tmp_path):
    assert len(gf.findings.warmup(grid)) == len(gf.findings.sensitivity(grid)) * 2 == 4
    assert gf.plot.outcomes(grid).get_lines()
    again = gf.results.load(gf.results.save(grid, tmp_path / "grid.nc"))
    assert gf.findings.warmup(again) == gf.findings.warmup(grid)


def test_learning_rates_and_warm_ups_share_one_program_a_model(models, data):
    before = Step.__call__.programs()
    gf.experiments.sensitivity(models, data, lrs=(1e-4, 1e-3, 1e-2), base=gf.Recipe(warmup=1, schedule="cosine"), **TOY)
    assert Step.__call__.programs() - before <= len(models)


def test_recipes_in_a_folder_are_not_run_again_and_one_that_fails_is_left_out(models, data, tmp_path):
    recipes = {"good": gf.Recipe(), "bad": gf.Recipe(RAISING)}
    with pytest.warns(UserWarning, match="1 of 2 recipes failed, such as bad: ArithmeticError: no update"):
        tree = gf.experiments.grid(models, data, recipes, folder=tmp_path, **TOY)
    assert tree["pre"]["recipe"].values.tolist() == ["good"]
    assert tree["pre"]["lr"].values.tolist() == [1e-3]
    assert gf.results.settings(tree)["failed"]["bad"].startswith("Traceback")
    (written,) = tmp_path.glob("*.nc")
    before = written.stat().st_mtime_ns
    again = gf.experiments.grid(models, data, {"good": gf.Recipe()}, folder=tmp_path, watch=print, **TOY)
    xr.testing.assert_equal(again["post"], tree["post"])
    assert written.stat().st_mtime_ns == before


@pytest.mark.long
def test_a_coordinate_check_has_every_width_and_depth(models, data):
    tree = gf.experiments.coordinate_check(models, data, depths=(1, 2), widths=(8, 16), steps=1, seeds=2)
    for width in (8, 16):
        for depth in (1, 2):
            attributes = tree[f"post/width_{width}/depth_{depth}"].attrs
            assert (attributes["width"], attributes["total_depth"]) == (width, depth)


def test_before_and_after_warm_up_are_its_first_and_its_last_step(models, data):
    run = gf.experiments.before_and_after(models, data, recipe=gf.Recipe(warmup=3), seeds=2)
    assert run["step"].values.tolist() == [0, 3]
    assert len(gf.findings.before_and_after(run)) == 2
    with pytest.raises(ValueError, match="give a recipe that has one"):
        gf.experiments.before_and_after(models, data, recipe=gf.Recipe())


def test_a_collapse_has_what_its_figure_shows(models, data):
    run = gf.experiments.collapse(models, data, **TOY)
    assert len(gf.plot.collapse(run).axes) == 4
    assert len(gf.findings.collapse(run)) == 2


@pytest.mark.long
def test_amplification_is_of_one_update_at_initialization_at_every_depth(models, data):
    swept = gf.experiments.amplification(models, data, depth=(1, 2, 3), seeds=2)
    assert [node.name for node in swept["post"].children.values()] == ["depth_1", "depth_2", "depth_3"]
    change = swept["post/depth_2"]["output_change"]
    assert change.dims == ("seed",)
    assert (change > 0).all()
    assert len(gf.findings.amplification(swept)) == 2
    adam = gf.experiments.amplification(models, data, depth=(1,), seeds=2, recipe=gf.Recipe(lr=1e-3))
    assert (adam["pre/depth_1"]["output_change"] != swept["pre/depth_1"]["output_change"]).all()


def test_a_grid_without_recipes_is_refused(models, data):
    with pytest.raises(ValueError, match="name at least one recipe"):
        gf.experiments.grid(models, data, {})
