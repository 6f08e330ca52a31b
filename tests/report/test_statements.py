"""What is said about a run is true of it: norms, depths, data, batches, also of a part of a tree, and what theory is beside."""

import json

import made
import pytest

import gradflow as gf
from gradflow.report import plot, tables
from gradflow.report.text import captions
from gradflow.results import against_theory, settings
from gradflow.results.agreement import unlike
from gradflow.results.configuration import encode, registered
from gradflow.results.description import describe
from gradflow.results.tree import Readings, label


def of_models(*models):
    """The conditions that a tree of these models tells."""
    return captions.setting(made.tree([f"m{i}" for i in range(len(models))], models=dict(enumerate(models))))


# ---- norms and sizes ----------------------------------------------------------------------------------------


def norms_by_hand(data) -> set:
    """Names of all norms in a configuration, by a list of them."""
    if isinstance(data, list):
        return set().union(*map(norms_by_hand, data))
    if not isinstance(data, dict):
        return set()
    own = {data["type"]} & {"LayerNorm", "RMSNorm", "DyT", "Derf"} if "type" in data else set()
    return own.union(*map(norms_by_hand, data.values()))


@pytest.mark.parametrize("name", gf.wirings().index)
def test_the_norm_of_every_wiring_is_told(name):
    model = encode(gf.transformer(name, norm=gf.norms.DyT(), **made.SHAPE))
    assert set(describe(model)["texts"]["norm"].split(", ")) == (norms_by_hand(model) or {"none"})


def test_norms_of_heads_and_of_ones_own_are_told():
    from dataclasses import dataclass

    from gradflow.model.layers.layer import Identity

    @registered
    @dataclass(frozen=True)
    class Cube(Identity):
        """Somebody's own."""

    own = gf.Wiring("mine", norm_in=Cube(), inner_layers=(("inner", gf.norms.RMSNorm()),))
    assert of_models(gf.transformer(own, **made.SHAPE))["norm"] == "Cube, RMSNorm"
    both = of_models(*gf.transformers("pre", "none", **made.SHAPE).values())
    assert both["norm"] == "LayerNorm / none"


def test_the_number_of_parameters_is_told_where_it_is_known():
    model = gf.transformer("pre", **made.SHAPE)
    told = lambda *numbers: captions.setting(
        label({f"m{number}": Readings({"loss": 1.0}, {}, model, number) for number in numbers})
    )["stack"]
    assert told(None) == "2 blocks of attention, mlp; width 8"
    assert told(6144) == "2 blocks of attention, mlp; width 8; 6,144 parameters"
    assert told(7000, 6144, 6500).endswith("width 8; 6,144 to 7,000 parameters")


def test_a_sweep_tells_all_its_depths_and_widths():
    swept = made.sweep(depths=(6, 12, 24), seeds=2)
    assert captions.setting(swept)["stack"] == "6, 12 and 24 blocks of attention, mlp; width 8"
    assert "6, 12 and 24 blocks" in plot.total_depth(swept).get_label()
    wide = [gf.transformer("pre", **{**made.SHAPE, "width": width}) for width in (8, 16)]
    assert of_models(*wide)["stack"] == "2 blocks of attention, mlp; width 8 and 16"
    assert of_models(gf.transformer("pre", **{**made.SHAPE, "depth": 1}))["stack"].startswith("1 block of")


# ---- a part of a tree ---------------------------------------------------------------------------------------

PARTS = {
    "a model": lambda run: run["pre"],
    "a model at a step": lambda run: run["pre"].sel(step=3),
    "a model with some seeds": lambda run: run["pre"].isel(seed=[0, 1]),
    "some steps": lambda run: run.isel(step=[0]),
    "a copy": lambda run: run["pre"].copy(),
    "a branch of another tree": lambda run: type(run)(children={"training": run})["training"],
    "a model of another tree": lambda run: type(run)(children={"training": run})["training/pre"],
    "a tree put together": lambda run: type(run).from_dict({"pre": run["pre"].to_dataset()}),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_tree_tells_the_conditions_of_the_whole(part):
    run = made.tree(steps=(0, 3))
    told, whole = captions.setting(PARTS[part](run)), captions.setting(run)
    for what in ("data", "loss", "training", "precision", "stack"):
        assert told[what] == whole[what]
    assert told["seeds"].endswith("batches one a seed and step")


@pytest.mark.long
def test_a_file_of_several_trees_keeps_what_each_was_and_its_root_what_all_were(tmp_path):
    run, swept = made.tree(steps=(0, 3)), made.sweep(depths=(1, 2, 3))
    kept = gf.results.load(gf.report.write(run, tmp_path / "out", sweep=swept) / "results.nc")
    assert settings(kept)["data"] == made.TEXT
    assert "recipe" not in settings(kept["sweep/pre/depth_1"])
    assert captions.setting(kept["training"]) == captions.setting(run)
    assert captions.setting(kept["sweep"]) == captions.setting(swept)
    assert settings(kept["training/pre"])["provenance"] == settings(run)["provenance"]
    again = gf.report.write(kept["training"], tmp_path / "again")
    assert settings(gf.results.load(again / "results.nc"))["provenance"] == settings(run)["provenance"]


def test_a_batch_of_ones_own_is_told_by_its_shapes():
    tree = made.tree(data={"name": "a batch", "shapes": {"inputs": {"source": [2, 6]}, "targets": [2, 6]}})
    assert captions.setting(tree)["data"] == "a batch as given, inputs.source 2 × 6, targets 2 × 6"


# ---- theory beside measurement ------------------------------------------------------------------------------


def predicted(**options):
    """A made-up prediction of the same models."""
    theory = {"assumptions": ["infinite width"], "heads drawn": 8}
    tree = made.tree(seeds=1, **{"theory": theory, "batches": None, **options}).isel(seed=0, drop=True)
    for node in tree.leaves:
        node.attrs.pop("batches")
        for quantity in ("stream_gradient", "readout_gradient"):
            node[f"{quantity}_sem"] = 0.01 * node[quantity]
    tree.attrs.pop("batches")
    return tree


SAME, OTHER = {"batch_sha256": "a" * 64}, {"batch_sha256": "b" * 64}
OWN = {"data": {"name": "a batch", "shapes": {"inputs": [2, 8], "targets": [2, 8]}}}
DIFFERENT = {
    "another key": (
        {"key": "5"},
        {},
        "different batches .measured: a text, context 8, batch 2, key 5; predicted: .* key 0.",
    ),
    "another text": ({"data": {**made.TEXT, "sha256": "cd" * 32}}, {}, "different data"),
    "another context": ({"data": {**made.TEXT, "context": 16}}, {}, "different data .*context 16.* context 8"),
    "other arrays": (OTHER, SAME, "different batches"),
    "other shapes": (
        OWN,
        {"data": {"name": "a batch", "shapes": {"inputs": [1, 8], "targets": [1, 8]}}},
        "different data",
    ),
}
ALIKE = {
    "the same": ({}, {}, ""),
    "the same arrays by other keys": ({**SAME, "key": "5"}, SAME, ""),
    "the same arrays, cut and as given": ({**SAME, **OWN}, SAME, ""),
    "a batch of one's own without a hash": (OWN, OWN, "it is not recorded whether both are of the same batch"),
    "a key that is an array": ({"key": "Array((), dtype=key<fry>)\n[0 5]"}, {}, "keys are written differently"),
    "one batch a seed": ({"batches": "one a seed"}, {}, "measured are batches one a seed, theory is of one batch"),
    "given weights": ({"weights": "given"}, {}, "measured are given weights, theory is of fresh ones"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_theory_of_another_batch_is_refused_wherever_both_meet(case):
    ours, theirs, words = DIFFERENT[case]
    measured, theory = made.tree(**ours), predicted(**theirs)
    for compare in (
        lambda: against_theory(measured, theory),
        lambda: plot.profile(measured, theory=theory),
        lambda: tables.profile(measured, "stream_gradient", theory={name: theory[name] for name in ("pre", "post")}),
    ):
        with pytest.raises(
            ValueError, match=f"measured and predicted are of {words}.*: give both the same data and key"
        ):
            compare()


@pytest.mark.parametrize("case", ALIKE)
def test_what_may_be_compared_says_in_one_line_what_differs(case):
    ours, theirs, words = ALIKE[case]
    measured, theory = made.tree(**ours), predicted(**theirs)
    assert words in unlike(measured["pre"], theory["pre"])
    assert bool(words) == bool(unlike(measured["pre"], theory["pre"]))
    assert words in against_theory(measured, theory)["post"].attrs.get("compared", "")
    caption = plot.profile(measured, theory=theory).get_label()
    assert (f"Not alike: {unlike(measured['pre'], theory['pre'])}." in caption) == bool(words)


def test_a_theory_of_another_model_is_refused():
    other = dict(enumerate(gf.transformers("pre", "post", **{**made.SHAPE, "width": 16}).values()))
    with pytest.raises(
        ValueError, match="predicted is not the one measured: width was 16, now 8; predict the same models"
    ):
        against_theory(made.tree(), predicted(models=other))


def test_a_run_is_compared_at_its_start_and_the_caption_says_that_its_batches_differ():
    run, theory = made.tree(steps=(0, 3)), predicted()
    assert "theory is of one batch" in plot.profile(run, theory=theory).get_label()
    assert "theory is of one batch" in against_theory(run, theory)["pre"].attrs["compared"]


def test_trees_by_hand_are_compared_with_a_line_that_nothing_is_known():
    bare = lambda tree: type(tree).from_dict({"pre": tree["pre"].to_dataset().drop_attrs(deep=False)})
    found = against_theory(bare(made.tree()), bare(predicted()))["pre"]
    assert found.attrs["compared"] == "it is not recorded whether both are of the same batch"


def test_a_sweep_is_compared_model_by_model():
    swept = made.sweep(("pre",), depths=(1, 2))
    theory = type(swept).from_dict(
        {path: predicted()["pre"].to_dataset().assign_attrs(node.attrs) for path, node in tables.nodes(swept).items()}
    )
    assert [node.path for node in against_theory(swept, theory).leaves] == ["/pre/depth_1", "/pre/depth_2"]
    shape = json.loads(theory["pre/depth_2"].attrs["configuration"])
    theory["pre/depth_2"].attrs["configuration"] = json.dumps({**shape, "width": 32})
    with pytest.raises(ValueError, match="width was 32, now 8"):
        against_theory(swept, theory)
