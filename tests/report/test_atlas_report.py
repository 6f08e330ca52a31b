"""The table, the page, the figures and the sentences of an atlas, from numbers that are made up."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import gradflow as gf
from gradflow.report.tables import atlas, atlas_page
from gradflow.report.tables.ways import way, ways
from gradflow.report.text import families
from gradflow.results import folder
from gradflow.results.quantities import FACTORS, JACOBIANS, PROBES
from gradflow.results.tree import Readings, label

STEPS, SEEDS, S = np.array([0, 9]), np.arange(3), 6


def node(rate: float) -> Readings:
    """A stream gradient that is e^(rate l), all of it the fork's; everything else is 1, and a seed wobbles by a tenth."""
    shape, wobble = (len(STEPS), len(SEEDS)), np.array([-0.1, 0.0, 0.1])[:, None]
    l = np.arange(S + 1)
    stream = np.broadcast_to(np.exp(rate * l + wobble * l / S), (*shape, S + 1))
    budget = np.zeros((*shape, S, len(FACTORS)))
    budget[..., 1] = np.log(stream[..., :-1] / stream[..., 1:])
    arrays = {
        "stream_gradient": stream,
        "readout_gradient": np.ones(shape),
        "budget": budget,
        "partial_jacobian": np.ones((*shape, S + 1, len(PROBES))),
        "token_cosine": np.full((*shape, S + 1), 0.5),
        "heldout_loss": np.full(shape, 3.0),
        "largest_singular_value": np.full((*shape, S, len(JACOBIANS)), 2.0),
        "smallest_singular_value": np.full((*shape, S, len(JACOBIANS)), np.nan),
    }
    return Readings(arrays, {"depth": l, "sublayer": l[1:], "kind": ("sublayer", ["attention", "mlp"] * (S // 2))})


@pytest.fixture(scope="module")
def tree():
    """Three wirings: one decays toward the input, one grows, one of another family diverged; another failed."""
    rates = {"decays": 0.5, "grows": -0.5, "diverged": np.nan}
    run = label({name: node(rate) for name, rate in rates.items()}, leading={"step": STEPS, "seed": SEEDS})
    for name in rates:
        run[name].attrs |= {"equation": f"x + F x | {name}", "source": "<nobody>", "no_theory": f"{name}: none"}
        run[name].attrs["family"] = "lost" if name == "diverged" else "finite"
    nodes = {
        "/": xr.Dataset(attrs={"failed": json.dumps({"broken": "ValueError: it is"})}),
        "training": run.to_dataset(),
    }
    nodes |= {f"training/{name}": child.to_dataset(inherit=False) for name, child in run.children.items()}
    return xr.DataTree.from_dict(nodes)


@pytest.fixture(scope="module")
def table(tree):
    return atlas.table(tree)


def test_rows_are_sorted_by_the_gradient_that_is_left_and_none_is_missing(table):
    assert table["wiring"].tolist() == ["grows", "decays", "diverged", "broken"]
    rows = table.set_index("wiring")
    assert rows["net_trained"].tolist()[:2] == pytest.approx([3.0, -3.0])
    assert rows["fork_start"].tolist()[:2] == pytest.approx([3.0, -3.0])
    assert rows.loc[["diverged", "broken"], "net_trained"].isna().all()
    assert rows.loc["grows", "law_start"].startswith("e^((−0.5")
    assert rows.loc["grows", "law_start_k"] == pytest.approx(-0.5)
    assert rows.loc["diverged", "law_start"] == ""
    assert np.isnan(rows.loc["grows", "sigma_min_start"])
    assert rows.loc["grows", "sigma_max_start"] == pytest.approx(2.0)


def test_the_page_holds_every_wiring_and_the_numbers_it_sorts_by(table):
    page = atlas_page.page(table, "caption <1>")
    assert "caption &lt;1&gt;" in page
    assert page.count("<tr>") == len(table) + 1
    heads = re.findall("<th>(.*?)</th>", page)
    assert all(row.count("<td") == len(heads) for row in re.findall("<tr>(<td.*)</tr>", page))
    assert [re.search("<td>(.*?)</td>", row)[1] for row in re.findall("<tr>(<td.*)</tr>", page)] == list(
        table["wiring"]
    )
    at = heads.index("net budget log(g_0/g_S) (nat), trained")
    cells = [re.findall(r"<td( data-n=\"(.*?)\")?>", row)[at][1] for row in re.findall("<tr>(<td.*)</tr>", page)]
    assert [float(cell) for cell in cells[:2]] == pytest.approx([3.0, -3.0])
    assert cells[2:] == ["", ""]
    assert "http" not in page


def test_the_markdown_says_why_there_is_no_theory_and_what_failed(table):
    told = atlas_page.markdown(table)
    lines = told.splitlines()
    assert len(lines) == 2 + len(table)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "no theory: grows: none" in told
    assert "ValueError: it is" in told


def test_the_figure_has_a_row_a_wiring_and_is_drawn_where_numbers_are_missing(tree):
    whole = gf.plot.atlas(tree)
    assert [text.get_text() for text in whole.axes[0].get_yticklabels()] == ["grows", "decays", "diverged"]
    assert "triangles" in whole.get_label()


def test_a_family_is_drawn_alone_at_the_width_of_a_column_and_its_caption_begins_with_its_sentence(tree):
    page = gf.plot.atlas(tree, "finite")
    assert page.get_figwidth() == gf.plot.WIDTHS["icml-column"]
    named = [ax for ax in page.axes if ax.get_yticklabels()]
    assert [[text.get_text() for text in ax.get_yticklabels()] for ax in named] == [["grows", "decays"]] * len(named)
    assert page.get_label().startswith(f"{families.of_tree(tree)['finite']}. ")
    with pytest.raises(ValueError, match=r"no family in this atlas 'finit': did you mean 'finite'"):
        gf.plot.atlas(tree, "finit")


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.1, 0.9), "grows"),
        ((0.1, 0.4), "is kept"),
        ((-0.5, 0.5), "is kept"),
        ((-0.9, -0.1), "decays"),
        ((-0.6, 0.1), "is open"),
        ((np.nan, np.nan), "is open"),
    ],
)
def test_a_way_is_read_from_an_interval(interval, expected):
    assert way(*interval) == expected


def points_of(family: str, **wirings) -> pd.DataFrame:
    """Points of wirings `(net log-gain, its norms)`, a nat to either side, the same before and after the training."""
    rows = []
    for name, (net, norm) in wirings.items():
        for number, mean in (("net", net), ("norm", norm)):
            for when in atlas.WHEN:
                rows.append([name, family, number, when, mean, mean - 0.3, mean + 0.3, 3])
    return pd.DataFrame(rows, columns=atlas.POINT)


@pytest.mark.parametrize(
    ("wirings", "expected"),
    [
        ({"a": (2, 0), "b": (1, 0)}, "grows in all 2 (+1.0 to +2.0 nat)"),
        ({"a": (0, -9)}, "is kept in it (0.0 nat)"),
        (
            {"a": (2, 0), "b": (-1, -3), "c": (-2, -5)},
            "decays where a norm is on the path (2: −2.0 to −1.0 nat) and nowhere else (1: +2.0 nat)",
        ),
        ({"a": (2, 0), "b": (-1, 0)}, "grows in 1 (a), decays in 1 (b)"),
        ({"a": (2, -3), "b": (-1, -3), "c": (0.4, 0)}, "grows in 2 (a, c), decays in 1 (b)"),
        ({"a": (0.25, 0), "b": (-1, -3)}, "decays in 1 (b), is open in 1 (a)"),
        (dict.fromkeys("abcd", (-2, 0)) | {"e": (1, 0)}, "grows in 1 (e), decays in 4"),
        ({"a": (np.nan, 0), "b": (np.nan, 0)}, "is open in 2 (a, b)"),
    ],
)
def test_a_sentence_says_the_strongest_rule_that_all_wirings_obey_and_else_counts(wirings, expected):
    rows = ways(points_of("any", **wirings))
    assert families.rule(rows[rows["when"] == "trained"]) == expected


def test_what_starts_as_pre_norm_is_counted(tree):
    points = pd.concat([points_of("norms", pre=(1, 0)), points_of("lanes", alike=(1.05, 0), other=(2, 0))])
    said = families.of_tree(tree, points)
    assert said["lanes"].endswith(
        "at the start it grows in all 2 (+1.1 to +2.0 nat); within 0.1 nat of pre-norm: 1 of 2"
    )
    assert "of pre-norm" not in said["norms"]


@pytest.mark.parametrize("draws_or_says", [gf.plot.atlas, gf.findings.atlas])
def test_what_is_no_atlas_is_refused_in_a_line(draws_or_says, tree):
    with pytest.raises(TypeError, match=r"^the atlas is 1: an xarray.DataTree is needed"):
        draws_or_says(1)
    with pytest.raises(ValueError, match=r"^the atlas has no training: give what gf.atlas returned$"):
        draws_or_says(tree["training"])


def test_findings_have_a_sentence_for_every_family(tree):
    decays = "toward the input the gradient, after 9 steps, grows in 1 (grows), decays in 1 (decays)"
    assert gf.findings.atlas(tree) == [
        f"finite (2 wirings): {decays}; at the start it grows in 1 (grows), decays in 1 (decays)",
        "lost (1 wiring): toward the input the gradient, after 9 steps, is open in 1 (diverged); "
        "at the start it is open in 1 (diverged)",
    ]


def test_the_folder_is_whole_and_another_configuration_is_refused(tree, tmp_path):
    out = gf.report.write_atlas(tree, tmp_path / "out", configuration={"steps": 9})
    for name in ("results.nc", "figures/atlas.pdf", "figures/atlas.csv", "tables/atlas.html", "tables/atlas.md",
                 "figures/atlas_finite.pdf", "figures/atlas_lost.csv", "tables/families.csv"):  # fmt: skip
        assert name in json.loads((out / folder.MANIFEST).read_text())["outputs"]
        assert (out / name).exists()
    assert pd.read_csv(out / "tables" / "atlas.csv")["wiring"].tolist() == ["grows", "decays", "diverged", "broken"]
    assert (out / "tables" / "summary.txt").read_text(encoding="utf-8").splitlines()[1:] == gf.findings.atlas(tree)
    assert gf.report.verify(out).in_order
    assert r"\providecommand{\gfGrowsNetTrained}" in (out / "numbers.tex").read_text(encoding="utf-8")
    with pytest.raises(FileExistsError, match="steps was 9, now 8; name another folder"):
        gf.report.write_atlas(tree, out, configuration={"steps": 8})
