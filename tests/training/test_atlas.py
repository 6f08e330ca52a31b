"""The atlas at toy size: what is in it, what a kill leaves, what theory refuses, what a broken wiring does to the others."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gradflow as gf
from gradflow.report.tables import atlas as atlas_tables
from gradflow.report.tables import atlas_page
from gradflow.results.locks import held
from gradflow.results.stored import load, save
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
    assert "no theory for this" in atlas_page.markdown(rows.reset_index())
    sides = (xr.DataTree.from_dict({"pre": tree[place]["pre"].to_dataset()}) for place in ("start", "theory"))
    assert rows.loc["pre", "theory_ratio"] in gf.results.against_theory(*sides)["pre"]["ratio"].values.astype(float)


def test_a_killed_run_goes_on_with_what_is_missing_and_ends_with_the_same_bits(tree, models, data, folder, monkeypatch):
    assert sorted(path.name for path in folder.iterdir()) == ["own.nc", "pre.nc"]
    (folder / "own.nc").unlink()
    (folder / ".own.nc.99999999.part").write_text("half")
    made, one = [], module._one
    monkeypatch.setattr(module, "_one", lambda name, **rest: (made.append(name), one(name, **rest))[1])
    again = gf.atlas(models, data, predict=refusing, folder=folder, **TOY)
    assert made == ["own"]
    assert sorted(path.name for path in folder.iterdir()) == ["own.nc", "pre.nc"]
    for name in models:
        for quantity in ("stream_gradient", "partial_jacobian", "largest_singular_value"):
            np.testing.assert_array_equal(again["training"][name][quantity], tree["training"][name][quantity])


def test_a_changed_configuration_is_refused_and_the_remedy_named(tree, models, data, folder):
    with pytest.raises(FileExistsError, match=r"steps was 2, now 3.*name another folder"):
        gf.atlas(models, data, predict=refusing, folder=folder, **{**TOY, "steps": 3})


def with_another_configuration(path):
    tree = load(path)
    tree.attrs["configuration"] = "[1]"
    save(tree, path)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda path: os.truncate(path, 500), "is no result, or damaged"),
        (lambda path: path.write_bytes(b""), "is no result, or damaged"),
        (lambda path: path.write_text("not HDF5"), "is no result, or damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "is a directory: a regular file is expected"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is a FIFO: a regular file is expected"),
        (lambda path: (path.unlink(), path.symlink_to("nothing")), "it is a link to nothing"),
        (lambda path: save(xr.DataTree(), path), "is no wiring's file of an atlas"),
        (with_another_configuration, "is no wiring's file of an atlas"),
        (lambda path: save(load(path).filter(lambda node: False), path), "is no wiring's file of an atlas"),
        (lambda path: path.with_name("own.nc").replace(path), "is no wiring's file of an atlas"),
    ],
)
def test_a_damaged_file_of_a_wiring_is_one_line_with_the_remedy(damage, line, tree, models, data, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "wirings"))
    damage(copy / "pre.nc")
    with pytest.raises(OSError, match=rf"pre\.nc.*{line}.*or delete it, and pre is made again$") as refused:
        gf.atlas(models, data, predict=refusing, folder=copy, **TOY)
    assert len(str(refused.value).splitlines()) == 1


def test_a_folder_that_cannot_be_one_or_that_another_is_at_is_refused_before_anything_runs(models, data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"can't write to .*file \(File exists\): name a folder"):
        gf.atlas(models, data, folder=tmp_path / "file", **TOY)
    told = []

    def atlas():
        try:
            gf.atlas(models, data, folder=tmp_path, **TOY)
        except BlockingIOError as error:
            told.append(str(error))

    with held(tmp_path):
        thread = threading.Thread(target=atlas)
        thread.start()
        thread.join()
    assert f"{tmp_path} is in use by process {os.getpid()}" in told[0]


def test_a_wiring_that_breaks_stops_none_of_the_others(models, data, folder, tree):
    broken = {**models, "broken": gf.transformer("pre", **{**SHAPE, "context": 4})}  # too short for the data
    found = gf.atlas(broken, data, predict=refusing, folder=folder, **TOY)
    assert set(found["training"].children) == {"pre", "own"}
    assert list(settings(found)["failed"]) == ["broken"]
    assert settings(found)["tracebacks"]["broken"].startswith("Traceback")
    row = atlas_tables.table(found).set_index("wiring").loc["broken"]
    assert np.isnan(row["net_trained"])
    assert row["failed"]


@pytest.mark.long
def test_other_processes_make_the_same_wirings(tree, models, data):
    found = gf.atlas(models, data, executor=2, **TOY)
    for name in models:
        for quantity in ("stream_gradient", "partial_jacobian"):
            ours, theirs = (one["training"][name][quantity].isel(step=0) for one in (tree, found))
            xr.testing.assert_allclose(theirs, ours, rtol=1e-4)


def test_every_named_wiring_can_be_in_it():
    assert len(gf.transformers(*gf.wirings().index, **SHAPE)) == len(gf.wirings())
