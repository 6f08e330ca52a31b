"""Labelled results: dimensions and coordinates from the table, files that are whole or absent, joins that drop nothing."""

import json

import numpy as np
import pytest
import xarray as xr

from gradflow.model.parameters.initializers import FanIn
from gradflow.results import against_total_depth, load, relative, save, settings
from gradflow.results.configuration import dumps, loads
from gradflow.results.quantities import FACTORS, FIXED, JACOBIANS, PROBES, QUANTITIES, TERMS
from gradflow.results.tree import Readings, label, variable

SEEDS, SUBLAYERS = 3, 4
COORDS = {
    "depth": np.arange(SUBLAYERS + 1),
    "sublayer": np.arange(1, SUBLAYERS + 1),
    "kind": ("sublayer", ["attention", "mlp"] * 2),
    "parameter": ("parameter", ["query", "down"]),
}
SHAPES = {
    "loss": (),
    "readout_gradient": (),
    "stream_gradient": (SUBLAYERS + 1,),
    "parameter_gradient": (SUBLAYERS, 2),
    "budget": (SUBLAYERS, len(FACTORS)),
    "split": (SUBLAYERS, len(TERMS)),
    "partial_jacobian": (SUBLAYERS + 1, len(PROBES)),
    "singular_values": (SUBLAYERS, len(JACOBIANS), 6),
}


def readings(seeds: int = SEEDS, seed: int = 0) -> Readings:
    """Positive numbers for every quantity of `SHAPES`."""
    draw = np.random.default_rng(seed).uniform
    arrays = {name: draw(0.5, 2, (seeds, *shape)) for name, shape in SHAPES.items()}
    return Readings(arrays, COORDS, FanIn(2.0))


def tree(**attributes) -> xr.DataTree:
    """Two models and their seeds."""
    models = {"pre": readings(seed=1), "post": readings(seed=2)}
    return label(models, leading={"seed": np.arange(SEEDS)}, **attributes)


# ---- the table ----------------------------------------------------------------------------------------------


def test_every_quantity_has_a_name_a_formula_a_unit_and_known_dimensions():
    known = {
        "depth",
        "other_depth",
        "sublayer",
        "block",
        "token",
        "feature",
        "parameter",
        "outer",
        "index",
        "direction",
    }
    known |= {"expert", "head", *FIXED}
    for name, quantity in QUANTITIES.items():
        assert quantity.name == name
        assert quantity.long_name
        assert quantity.formula
        assert quantity.units
        assert set(quantity.dims) <= known


# ---- label --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_a_quantity_gets_its_dimensions_behind_the_leading_ones(name):
    made = tree()["post"][name]
    assert made.dims == ("seed", *QUANTITIES[name].dims)
    np.testing.assert_array_equal(made.values, readings(seed=2).arrays[name])


def test_a_quantity_gets_its_long_name_unit_and_formula():
    attrs = tree()["pre"]["stream_gradient"].attrs
    assert attrs == {"long_name": "stream gradient", "units": "norm", "formula": "‖∂loss/∂x_l‖"}


def test_fixed_dimensions_are_labelled_from_the_table():
    node = tree()["pre"]
    for dim, names in {"factor": FACTORS, "term": TERMS, "jacobian": JACOBIANS, "probe": PROBES}.items():
        assert tuple(node[dim].values) == names
    np.testing.assert_array_equal(
        node["budget"].sel(factor="fork"), readings(seed=1).arrays["budget"][..., FACTORS.index("fork")]
    )


def test_given_coordinates_are_kept_and_those_of_absent_dimensions_left_out():
    node = tree()["pre"]
    assert list(node["kind"].values) == ["attention", "mlp", "attention", "mlp"]
    assert list(node["parameter_gradient"].sel(sublayer=2).coords["parameter"].values) == ["query", "down"]
    alone = label({"m": Readings({"loss": np.ones(2)}, {"kind": ("sublayer", ["mlp"])})}, leading={"seed": [0, 1]})
    assert "kind" not in alone["m"].coords


def test_the_models_share_the_seeds_of_the_root():
    made = tree()
    np.testing.assert_array_equal(made["seed"], np.arange(SEEDS))
    for name in ("pre", "post"):
        assert "seed" not in made[name].to_dataset(inherit=False).indexes
        np.testing.assert_array_equal(made[name]["seed"], np.arange(SEEDS))


def test_leading_dimensions_come_in_the_order_they_are_given_in():
    arrays = {"loss": np.arange(6.0).reshape(2, 3)}
    made = label({"m": Readings(arrays, {})}, leading={"step": [0, 10], "seed": [0, 1, 2]})
    assert made["m"]["loss"].dims == ("step", "seed")
    assert float(made["m"]["loss"].sel(step=10, seed=1)) == 4


def test_names_that_are_paths_make_nodes_within_nodes():
    made = label({"t5/encoder": readings(), "t5/decoder": readings()}, leading={"seed": np.arange(SEEDS)})
    assert set(made["t5"].children) == {"encoder", "decoder"}


def test_a_meter_of_the_users_own_has_the_dimensions_it_says():
    own = Readings({"mine": np.ones((2, 5)), "scalar": np.ones(2)}, {"dims": {"mine": ["layer"]}})
    node = label({"m": own}, leading={"seed": [0, 1]})["m"]
    assert node["mine"].dims == ("seed", "layer")
    assert node["scalar"].dims == ("seed",)
    assert "dims" not in node.coords


@pytest.mark.parametrize("shape", [(SEEDS,), (SEEDS, 5, 2)])
def test_a_wrong_rank_is_an_error_that_names_shape_and_dimensions(shape):
    wrong = Readings({"stream_gradient": np.ones(shape)}, {})
    with pytest.raises(ValueError, match=r"stream_gradient has shape \(3,.*\('seed', 'depth'\)") as caught:
        label({"m": wrong}, leading={"seed": np.arange(SEEDS)})
    assert str(shape) in str(caught.value)


def test_seeds_of_another_number_than_the_roots_are_refused():
    with pytest.raises(ValueError, match="align"):
        label({"m": readings(seeds=2)}, leading={"seed": np.arange(SEEDS)})


def test_the_configuration_comes_back_from_its_node():
    assert loads(tree()["pre"].attrs["configuration"]) == FanIn(2.0)
    assert "configuration" not in label({"m": Readings({"loss": np.ones(())}, {})})["m"].attrs


def test_settings_are_the_roots_attributes_as_plain_data():
    origin = {"commit": None, "clean": True, "versions": {"jax": "0.1"}}
    made = tree(provenance=origin, key="0", scale=0.5, wirings=("pre", "post"))
    assert isinstance(made.attrs["provenance"], str)
    assert settings(made) == {"provenance": origin, "key": "0", "scale": 0.5, "wirings": ["pre", "post"]}
    assert settings(made["pre"]) == {**settings(made), "configuration": {"type": "FanIn", "gain": 2.0}}


def test_truth_values_none_and_numpys_numbers_come_back_as_they_were(tmp_path):
    given = {
        "clean": True,
        "shared": False,
        "text": None,
        "count": np.int64(3),
        "scale": np.float32(0.5),
        "on": np.True_,
    }
    expected = {"clean": True, "shared": False, "text": None, "count": 3, "scale": 0.5, "on": True}
    made = tree(**given)
    assert settings(made) == expected
    assert settings(load(save(made, tmp_path / "results.nc"))) == expected
    assert all(type(settings(made)[name]) is type(value) for name, value in expected.items())


def test_text_that_is_not_json_stays_as_it_is():
    assert settings(tree(key="[0 0]", note="")) == {"key": "[0 0]", "note": ""}


# ---- reading out --------------------------------------------------------------------------------------------


def test_an_unknown_quantity_gets_the_nearest_names():
    with pytest.raises(KeyError, match="did you mean 'stream_gradient'"):
        variable(tree()["pre"], "stream_gradeint")


def test_relative_divides_by_the_readout_or_by_the_top():
    node, arrays = tree()["pre"], readings(seed=1).arrays
    stream, readout = arrays["stream_gradient"], arrays["readout_gradient"]
    np.testing.assert_allclose(relative(node, "stream_gradient"), stream / readout[:, None])
    np.testing.assert_allclose(relative(node, "stream_gradient", "top"), stream / stream[:, -1:])
    np.testing.assert_array_equal(relative(node, "stream_gradient", None), stream)
    parameter = relative(node, "parameter_gradient", "top")
    np.testing.assert_allclose(parameter, arrays["parameter_gradient"] / stream[:, -1, None, None])
    assert parameter.dims == ("seed", "sublayer", "parameter")


def test_relative_says_what_it_is_relative_to():
    ratio = relative(tree()["pre"], "stream_gradient", "top")
    assert ratio.name == "stream_gradient"
    assert ratio.attrs["units"] == "1"
    assert ratio.attrs["formula"].endswith("relative to top")
    assert relative(tree()["pre"], "stream_gradient", None).attrs["units"] == "norm"
    with pytest.raises(ValueError, match="did you mean 'readout'.*None for absolute"):
        relative(tree()["pre"], "stream_gradient", "redout")


# ---- against the total depth --------------------------------------------------------------------------------


def node(depth: int, seeds) -> xr.Dataset:
    """A stack of `depth` blocks of two sublayers; its numbers say where they are: 100·depth + sublayer + seed/10."""
    position = np.arange(1, 2 * depth + 1)
    values = 100.0 * depth + position + np.asarray(seeds)[:, None] / 10
    arrays = {"parameter_gradient": np.stack([values, -values], axis=-1)}
    coords = {"sublayer": position, "kind": ("sublayer", ["attention", "mlp"] * depth), "parameter": ["up", "down"]}
    made = label({"m": Readings(arrays, coords)}, leading={"seed": np.asarray(seeds)})
    return made["m"].to_dataset().assign_attrs(total_depth=depth)


def sweep(seeds=lambda depth: range(3)) -> xr.DataTree:
    """`model/depth_n` for two models at depths 2, 4 and 8."""
    return xr.DataTree.from_dict({f"{m}/depth_{n}": node(n, seeds(n)) for m in ("pre", "post") for n in (2, 4, 8)})


def test_one_entry_of_every_profile_against_the_total_depth():
    chosen = against_total_depth(sweep(), "parameter_gradient", sublayer=-1, parameter="down")
    assert set(chosen) == {"pre", "post"}
    picked = chosen["pre"]
    assert picked.dims == ("total_depth", "seed")
    assert list(picked["total_depth"].values) == [2, 4, 8]
    expected = [[-(100 * n + 2 * n + s / 10) for s in range(3)] for n in (2, 4, 8)]
    np.testing.assert_allclose(picked, expected)
    assert picked.attrs["units"] == "norm"


def test_a_number_is_a_position_and_a_name_is_a_label():
    chosen = against_total_depth(sweep(), "parameter_gradient", sublayer=0, parameter="up")["post"]
    np.testing.assert_allclose(chosen.isel(seed=0), [201, 401, 801])


def test_a_number_of_numpys_is_a_position_too():
    chosen = against_total_depth(sweep(), "parameter_gradient", sublayer=np.int64(0), parameter="up")["post"]
    np.testing.assert_allclose(chosen.isel(seed=0), [201, 401, 801])


def test_depths_with_different_seeds_are_refused():
    with pytest.raises(ValueError, match="exact"):
        against_total_depth(sweep(lambda depth: range(depth)), "parameter_gradient", sublayer=-1)


# ---- files --------------------------------------------------------------------------------------------------


def rich_tree() -> xr.DataTree:
    """Every kind of thing that results hold: text coordinates, integers, NaN, float32, nested nodes, Greek letters."""
    made = tree(provenance={"commit": None}, key="0", note="α = 1, (2N)^¼", scale=0.5, count=3)
    holes = made["pre"].to_dataset().copy(deep=True)
    holes["parameter_gradient"][0, 0, 0] = np.nan
    holes["loss"] = holes["loss"].astype(np.float32)
    holes["rank_deficit"] = (("seed", "sublayer"), np.arange(SEEDS * SUBLAYERS).reshape(SEEDS, SUBLAYERS))
    inside = xr.Dataset({"fit": ("number", [1.0, np.inf])}, {"number": ["log_a", "k"]}, {"identified": 1})
    made["pre"].dataset = holes
    return made.assign({"laws": xr.DataTree(inside)})


def test_what_is_saved_is_loaded_identically(tmp_path):
    before = rich_tree()
    path = save(before, str(tmp_path / "results.nc"))
    assert path == tmp_path / "results.nc"
    after = load(path)
    xr.testing.assert_identical(after, before)
    assert after["pre"]["loss"].dtype == np.float32
    assert after["pre"]["rank_deficit"].dtype == before["pre"]["rank_deficit"].dtype
    assert settings(after) == settings(before)
    assert [p.name for p in tmp_path.iterdir()] == ["results.nc"]


def test_what_is_loaded_no_longer_needs_its_file(tmp_path):
    after = load(save(tree(), tmp_path / "results.nc"))
    save(after, tmp_path / "results.nc")
    (tmp_path / "results.nc").unlink()
    xr.testing.assert_identical(after, tree())


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = save(tree(), tmp_path / "results.nc")
    old = path.read_bytes()
    bad = tree()
    bad["post"].attrs["thing"] = object()  # met after the root and `pre` are written
    with pytest.raises(TypeError):
        save(bad, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_in_the_middle_of_a_write_leaves_no_file(tmp_path, monkeypatch):
    def interrupted(digest):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradflow.results.stored._seal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tree(), tmp_path / "results.nc")
    assert not list(tmp_path.iterdir())


def test_json_attributes_are_readable_without_gradflow(tmp_path):
    with xr.open_datatree(save(tree(provenance={"clean": True}), tmp_path / "results.nc"), engine="h5netcdf") as raw:
        assert json.loads(raw.attrs["provenance"]) == {"clean": True}
        assert raw["pre"].attrs["configuration"] == dumps(FanIn(2.0))
