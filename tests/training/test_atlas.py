"""The atlas at toy size: what is in it, what a kill leaves, what theory refuses, what a broken wiring does to the others."""

import numpy as np
import pytest
import xarray as xr

import gradflow as gf
from gradflow.report import atlas_tables
from gradflow.results.tree import settings
from gradflow.training import atlas as module

pytestmark = pytest.mark.usefixtures("quickly_compiled")
SHAPE = {"depth": 1, "width": 8, "heads": 2, "context": 8}
TOY = {"steps": 2, "seeds": 2, "scatter": 3}


def refusing(models, data, **options):
    """A theory that speaks of pre-norm alone."""
    if "pre" not in models:
        raise NotImplementedError(f"{next(iter(models))}: no theory for this\nand more")
    return gf.predict(models, data, **options)


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


@pytest.fixture(scope="module")
def models(quickly_compiled):
    return gf.transformers("pre", gf.Wiring("own", norm_out=gf.norms.LayerNorm(), equation="N(x + F x)"), **SHAPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("atlas") / "wirings"


@pytest.fixture(scope="module")
def tree(models, data, folder):
    return gf.atlas(models, data, predict=refusing, folder=folder, **TOY)


def test_it_is_three_trees_of_one_schema_and_agrees_with_the_functions_it_is_made_of(tree, models, data):
    assert {place: set(node.children) for place, node in tree.children.items()} == {
        "training": {"pre", "own"},
        "start": {"pre", "own"},
        "theory": {"pre"},
    }
    _, run = gf.train(models, data, gf.Recipe(), steps=2, seeds=2, record=(0, 2), readings=("backward",))
    measured = gf.measure({"pre": models["pre"]}, data, seeds=3, quantities=("economy",))
    for name in models:
        for quantity in ("stream_gradient", "budget", "heldout_loss"):
            np.testing.assert_array_equal(tree["training"][name][quantity], run[name][quantity])
    np.testing.assert_allclose(tree["start/pre"]["stream_gradient"], measured["pre"]["stream_gradient"], rtol=1e-5)
    stream = run["own"]["stream_gradient"].isel(step=-1)
    expected = np.log(stream.isel(depth=0) / stream.isel(depth=-1)).mean()
    row = atlas_tables.table(tree).set_index("wiring").loc["own"]
    assert row["net_trained"] == pytest.approx(float(expected), abs=1e-5)
    assert row["equation"] == "N(x + F x)"


def test_a_refusal_of_theory_is_kept_in_one_line(tree):
    assert tree["training/own"].attrs["no_theory"] == "own: no theory for this"
    rows = atlas_tables.table(tree).set_index("wiring")
    assert np.isnan(rows.loc["own", "theory_ratio"])
    assert "no theory for this" in atlas_tables.markdown(rows.reset_index())
    sides = (xr.DataTree.from_dict({"pre": tree[place]["pre"].to_dataset()}) for place in ("start", "theory"))
    assert rows.loc["pre", "theory_ratio"] in gf.results.against_theory(*sides)["pre"]["ratio"].values.astype(float)


def test_a_killed_run_goes_on_with_what_is_missing_and_ends_with_the_same_bits(tree, models, data, folder, monkeypatch):
    assert sorted(path.name for path in folder.iterdir()) == ["own.nc", "pre.nc"]
    (folder / "own.nc").unlink()
    (folder / ".own.nc.1.part").write_text("half")
    made, one = [], module._one
    monkeypatch.setattr(module, "_one", lambda name, *rest: (made.append(name), one(name, *rest))[1])
    again = gf.atlas(models, data, predict=refusing, folder=folder, **TOY)
    assert made == ["own"]
    assert sorted(path.name for path in folder.iterdir()) == ["own.nc", "pre.nc"]
    for name in models:
        for quantity in ("stream_gradient", "partial_jacobian", "largest_singular_value"):
            np.testing.assert_array_equal(again["training"][name][quantity], tree["training"][name][quantity])


def test_a_changed_configuration_is_refused_and_the_remedy_named(tree, models, data, folder):
    with pytest.raises(FileExistsError, match=r"steps was 2, now 3.*name another folder"):
        gf.atlas(models, data, predict=refusing, folder=folder, **{**TOY, "steps": 3})


def test_a_wiring_that_breaks_stops_none_of_the_others(models, data, folder, tree):
    broken = {**models, "broken": gf.transformer("pre", **{**SHAPE, "context": 4})}  # too short for the data
    found = gf.atlas(broken, data, predict=refusing, folder=folder, **TOY)
    assert set(found["training"].children) == {"pre", "own"}
    assert list(settings(found)["failed"]) == ["broken"]
    row = atlas_tables.table(found).set_index("wiring").loc["broken"]
    assert np.isnan(row["net_trained"])
    assert row["failed"]


def test_every_named_wiring_can_be_in_it():
    assert len(gf.transformers(*gf.wirings().index, **SHAPE)) == len(gf.wirings())
