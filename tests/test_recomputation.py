"""A bundle's numbers computed again from what its results say of themselves: the same bits here, or one line why not."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from interop_files import CONFIGS, contents, saved

import gradflow as gf
import gradflow.cli as cli
from gradflow.jobs import Inspection
from gradflow.recomputation import Beginning, recompute
from gradflow.report.bundle import opened
from gradflow.results.tree import settings

SHAPE = {"depth": 1, "width": 8, "heads": 2, "context": 8}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A run of one wiring with a warm-up and a schedule that ends with it, and its sweep."""
    data, models = gf.data.text(context=8, batch=2), gf.transformers("post", **SHAPE)
    recipe = gf.Recipe(lr=0.01, warmup=2, schedule="cosine", clip=1.0)
    _, run = gf.train(models, data, recipe, steps=6, record=(0, 2, 6), seeds=2, readings="backward")
    sweep = gf.sweep(models, data, depth=(1, 2), seeds=2)
    return gf.report.write(run, tmp_path_factory.mktemp("again") / "out", sweep=sweep)


def again(bundle, part_only: bool, files=()) -> dict:
    contents = opened(bundle)
    found = recompute(contents.trees, contents.record, bundle, dict(files), part_only=part_only)
    return {one.part: (one.recorded, one.again) for one in found}


def test_the_first_steps_and_the_smallest_size_have_the_same_bits(bundle):
    found = again(bundle, part_only=True)
    assert list(found) == ["training/post", "sweep/post/depth_1"]
    recorded, computed = found["training/post"]
    assert computed["step"].values.tolist() == [0, 2]
    for name in computed.data_vars:
        np.testing.assert_array_equal(computed[name], recorded[name].sel(step=[0, 2]), err_msg=str(name))
    recorded, computed = found["sweep/post/depth_1"]
    for name in computed.data_vars:
        np.testing.assert_array_equal(computed[name], recorded[name], err_msg=str(name))


@pytest.mark.long
def test_everything_has_the_same_bits_and_verification_says_so(bundle):
    done = gf.report.verify(bundle, level=3, recompute=recompute)
    assert done.in_order, str(done)
    assert [level.number for level in done.levels] == [0, 1, 2, 3]


@pytest.mark.long
def test_a_prediction_and_a_measurement_are_computed_again(tmp_path):
    data, models = gf.data.text(context=8, batch=2), gf.transformers("pre", **SHAPE)
    start = gf.measure(models, data, seeds=2, key=3, quantities=("backward", "partial_jacobian"))
    theory = gf.predict(models, data, key=3, draws=1, replicas=2)
    out = gf.report.write(start, tmp_path / "out", theory=theory)
    done = gf.report.verify(out, level=3, recompute=recompute)
    assert done.in_order, str(done)
    assert set(again(out, part_only=False)) == {"training/pre", "theory/pre"}


def test_the_rates_of_a_beginning_are_those_of_the_whole_run():
    whole = gf.Recipe(lr=0.1, warmup=3, schedule="cosine")
    part = Beginning(**vars(whole), whole=20)
    np.testing.assert_array_equal(part.rates(5), whole.rates(20)[:5])
    assert part.direction() is whole.direction()


def changed(bundle, tmp_path, **settings_of_run):
    """The contents of a bundle whose run says something else of itself."""
    contents = opened(bundle)
    for name, value in settings_of_run.items():
        contents.trees["training"]["post"].attrs[name] = value if isinstance(value, str) else json.dumps(value)
    return contents


@pytest.mark.parametrize(
    ("says", "line"),
    [
        ({"key": "key<fry>()"}, "its key is key<fry>(), which is no whole number"),
        ({"readings": [{"steps": [0], "readings": ["mine"]}]}, "its reading mine is a function of the author's"),
        ({"data": {"name": "a batch", "shapes": {}}}, "it read a batch, which is not in the bundle"),
        ({"data": {"name": "x", "sha256": "ab", "targets": "the next token"}}, "it read tokens, x, which are not in"),
        (
            {"data": {"name": "x", "sha256": "ab", "context": 8, "batch": 2}},
            "it read the text x, which is not in the bundle: give it, --text FILE",
        ),
        ({"recipe": {"unregistered": "mine"}}, "'mine' was written by name only"),
    ],
)
def test_what_can_not_be_computed_again_is_one_line(says, line, bundle, tmp_path):
    contents = changed(bundle, tmp_path, **says)
    trees = {"training": contents.trees["training"]}
    (one,) = recompute(trees, contents.record, bundle, {}, part_only=True)
    assert one.again is None
    assert line in one.why
    assert len(one.why.splitlines()) == 1


def test_another_text_is_refused(bundle, tmp_path):
    (tmp_path / "text").write_bytes(bytes(range(256)) * 20)
    contents = opened(bundle)
    for one in recompute(contents.trees, contents.record, bundle, {"text": tmp_path / "text"}, part_only=True):
        assert re.match("the text here has the SHA-256 .*, the one that was read ", one.why)
    assert (bundle / "text" / "pydoc_data.topics.txt").exists()
    assert settings(contents.run)["data"]["sha256"]


# ---- every kind of bundle -----------------------------------------------------------------------------------


def checked(out, **files) -> tuple[list, list]:
    """What a verification at level 2 finds wrong, and what it can't compute again."""
    done = gf.report.verify(out, level=2, recompute=recompute, **files)
    return list(map(str, done.findings)), done.missed


@pytest.mark.long
def test_an_atlas_is_computed_again_with_its_start_and_its_theory(tmp_path):
    data, models = gf.data.text(context=8, batch=2), gf.transformers("pre", "admin", **SHAPE)
    tree = gf.atlas(models, data, steps=3, seeds=2, scatter=2, predict=gf.predict)
    out = gf.report.write_atlas(tree, tmp_path / "out")
    assert checked(out) == ([], [])
    parts = {"training", "start", "theory"}
    assert set(again(out, part_only=False)) == {f"{part}/{name}" for part in parts for name in ("pre", "admin")}
    assert gf.report.verify(out, level=3, recompute=recompute).in_order


@pytest.mark.long
def test_sides_of_an_encoder_decoder_are_computed_again(tmp_path):
    whole = gf.architecture("transformer-base").scaled(depth=1, width=8, heads=2, vocabulary=256).model()
    data = gf.data.Halves(gf.data.text(context=8, batch=2))
    tree = gf.measure({"t5": whole}, data, seeds=2)
    out = gf.report.write(tree, tmp_path / "out")
    assert checked(out) == ([], [])
    assert set(again(out, part_only=True)) == {"training/t5/encoder", "training/t5/decoder"}


@pytest.mark.long
def test_a_trained_model_is_measured_again_where_its_weights_are_at_hand(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "toy", CONFIGS["gemma2"], contents(CONFIGS["gemma2"]))
    (tmp_path / "tokens.txt").write_text(" ".join(str(i * i % 11) for i in range(40)))
    options = {"tokens": Path("tokens.txt"), "context": 5, "batch": 2, "readings": ("backward",)}
    Inspection.prepared([Path("toy")], [], tmp_path / "out", options).run()
    assert checked("out") == ([], [])
    (tmp_path / "toy").rename(tmp_path / "elsewhere")
    done = gf.report.verify("out", level=2, recompute=recompute)
    assert "the weights that it read is no part of the bundle: --weights FOLDER" in done.levels[0].notes[0]
    assert (done.in_order, done.missed) == (
        True,
        ["training/toy: it measured the weights of toy, which are not at hand: give their folder, --weights FOLDER"],
    )
    assert checked("out", weights="elsewhere") == ([], [])
    content = (tmp_path / "elsewhere" / "model.safetensors").read_bytes()
    (tmp_path / "elsewhere" / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    wrong, missed = checked("out", weights="elsewhere")
    assert "the SHA-256 of the model.safetensors" in wrong[0]
    assert "the weights_sha256 of elsewhere, with what it reads here, is not the recorded one" in missed[0]


def test_what_a_python_session_had_alone_is_not_computed_again(bundle):
    """Norms of another tool, weights that were given, a program: each is one line."""
    for says, line in (
        ({"logged": {"pre": "x"}}, "another tool logged these norms"),
        ({"weights": "given"}, "its weights were given in a Python session"),
        ({"weights": "drawn"}, "it does not say how it was made"),
        ({"configuration": "null", "recipe": {"type": "Recipe"}}, "it is a program of the author's"),
    ):
        kept = opened(bundle)
        node = kept.trees["training"]["post"]
        node.attrs.pop("recipe")
        node.attrs.pop("readings")
        kept.trees["training"].attrs.pop("recipe")
        kept.trees["training"].attrs.pop("readings")
        for name, value in says.items():
            node.attrs[name] = value if isinstance(value, str) else json.dumps(value)
        trees = {"training": kept.trees["training"]}
        (one,) = recompute(trees, kept.record, bundle, {}, part_only=True)
        assert line in one.why
        assert one.again is None


# ---- the commands -------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in; what a command sets for a process of its own is set back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    return tmp_path


def printed(capsys, monkeypatch, *words) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["gradflow", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def test_the_command_says_the_time_of_each_level_and_what_is_wrong_by_its_exit_code(bundle, here, capsys, monkeypatch):
    code, out, _ = printed(capsys, monkeypatch, "verify", bundle)
    assert code == 0
    assert re.findall(r"^level (\d), .*: in order \([\d.]+ s\)$", out, re.MULTILINE) == ["0", "1"]
    copy = shutil.copytree(bundle, here / "copy")
    rows = (copy / "tables" / "total_depth.csv").read_text()
    (copy / "tables" / "total_depth.csv").write_text(rows.replace("post,1,", "post,9,", 1))
    code, out, _ = printed(capsys, monkeypatch, "verify", copy)
    assert code == 3
    assert "tables/total_depth.csv: its SHA-256: it is " in out
    assert "tables/total_depth.csv: line 2: it is 9, and should be 1" in out
    code, out, errors = printed(capsys, monkeypatch, "verify", here / "no")
    assert (code, out) == (2, "")
    assert "there is no folder" in errors


@pytest.mark.further
def test_a_bundle_made_again_by_another_python_keeps_the_text_that_was_read(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("gradflow.results.topics.content", lambda: b"that of another version")
    out = gf.report.again(bundle, tmp_path / "out")
    assert (out / "text" / "pydoc_data.topics.txt").exists()
    assert gf.report.verify(out).in_order


@pytest.mark.long
def test_the_command_makes_a_bundle_again_and_refuses_to_overwrite_it(bundle, here, capsys, monkeypatch):
    code, out, errors = printed(capsys, monkeypatch, "report", bundle, "--width", "5.0", "--blind")
    assert code == 0, errors
    assert "are in gradflow-report/" in out
    assert (opened(here / "gradflow-report").record.width, opened(here / "gradflow-report").record.blind) == (5.0, True)
    code, _, errors = printed(capsys, monkeypatch, "report", bundle)
    assert code == 2
    assert "holds a finished run" in errors
    assert "--overwrite" in errors
