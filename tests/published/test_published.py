"""Published figures: the registry is whole, verdicts come from intervals and can fail, and every entry runs at toy size."""

import math
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import gradflow as gf
from gradflow import cli, jobs
from gradflow.published import rows
from gradflow.published.entry import SIZES
from gradflow.published.rates import _borne, _entropy
from gradflow.published.registry import ENTRIES, REGISTRY, reported
from gradflow.results.reproduction import (
    FAILS,
    HOLDS,
    NOT,
    OPEN,
    READ,
    REPRODUCED,
    SMALLER,
    UNDECIDED,
    VERDICTS,
    Equals,
    Interval,
    Within,
    verdict,
)

pytestmark = pytest.mark.usefixtures("quickly_compiled")
TOY = "deepscalelm-variance"  # the one that compiles least
over_entries = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def toy(quickly_compiled):
    return gf.reproduce(TOY, size="toy")


def value_at(claim, holding: bool) -> float:
    """A number for which the claim holds, or does not."""
    if isinstance(claim, Equals):
        return claim.value if holding else claim.value + 2 * (claim.allowance + 1)
    inside, outside = 1.0, -1.0
    if math.isfinite(claim.least):
        inside, outside = claim.least + 1e-3, claim.least - 1
    if math.isfinite(claim.most):
        inside, outside = claim.most - 1e-3, claim.most + 1
    return inside if holding else outside


def made_up(entry, failing: int | None = None, half: float = 1e-12) -> pd.DataFrame:
    """Rows of an entry for which every claim holds, but for the one of that place."""
    made = []
    for i, claim in enumerate(entry.claims):
        value = value_at(claim, i != failing)
        made.append(rows.between(claim.number, value, value - half, value + half, 4))
    return rows.table(made + rows.points("curve", (1, 2), (1, 2)))


# ---- verdicts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.9, 1.1, HOLDS),
        (1.02, 1.1, HOLDS),
        (1.06, 1.1, FAILS),
        (0.5, 0.94, FAILS),
        (0.5, 1.5, OPEN),
        (math.nan, math.nan, OPEN),
    ],
)
def test_a_number_equals_the_published_one_where_its_interval_holds_it_and_is_narrow(low, high, outcome):
    claim = Equals("k", "1", READ, value=1.0, resolution=0.2, allowance=0.05)
    assert claim.judged(Interval((low + high) / 2, low, high, 4)) == outcome


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.1, 0.2, HOLDS), (-0.2, -0.1, FAILS), (-0.1, 0.1, OPEN), (0.0, 0.0, OPEN), (math.nan, 1.0, OPEN)],
)
def test_a_number_is_within_bounds_with_all_of_its_interval(low, high, outcome):
    assert Within("k", "positive", READ, least=0.0).judged(Interval((low + high) / 2, low, high, 4)) == outcome


def test_a_figure_is_reproduced_where_all_its_statements_hold_at_the_published_size():
    assert verdict([HOLDS, HOLDS], smaller=False) == REPRODUCED
    assert verdict([HOLDS, HOLDS], smaller=True) == SMALLER
    assert verdict([HOLDS, OPEN], smaller=False) == UNDECIDED
    assert verdict([OPEN, FAILS], smaller=True) == NOT
    assert verdict([], smaller=False) == UNDECIDED


@over_entries
def test_every_verdict_can_be_both(entry):
    best = reported(entry, "full", made_up(entry), 0.0).verdict
    assert best == (SMALLER if entry.reduced else REPRODUCED)
    for i in range(len(entry.claims)):
        report = reported(entry, "full", made_up(entry, failing=i), 0.0)
        assert report.verdict == NOT
        assert report.numbers["outcome"][i] == FAILS


@over_entries
def test_quick_and_toy_sizes_never_say_that_the_published_size_was_made(entry):
    for size in ("quick", "toy"):
        assert reported(entry, size, made_up(entry), 0.0).verdict == SMALLER


# ---- the registry -------------------------------------------------------------------------------------------


def test_the_thirteen_wanted_figures_and_the_threshold_are_there():
    assert len(REGISTRY) == len(ENTRIES) == 14
    assert list(gf.reproductions().index) == list(REGISTRY)


@over_entries
def test_an_entry_has_its_source_its_settings_and_its_sizes(entry):
    assert re.fullmatch(r"\d{4}\.\d{5}", entry.source.arxiv)
    assert 2015 <= entry.source.year <= 2026
    assert entry.source.authors
    assert entry.source.place
    assert entry.published_setting
    assert set(entry.sizes) == set(SIZES)
    for options in entry.sizes.values():
        assert "{" not in entry.our_setting.format(**options)
    assert len({claim.number for claim in entry.claims}) == len(entry.claims)
    assert all(claim.published for claim in entry.claims)
    assert entry.minutes > 0


def test_a_claim_says_how_it_is_known():
    with pytest.raises(ValueError, match="give one of read in the paper"):
        Within("k", "positive", "rumour")


def test_no_reproduction_is_asked_for_in_vain():
    with pytest.raises(ValueError, match=r"name at least one of gf\.reproductions"):
        gf.reproduce([])


# ---- rows ---------------------------------------------------------------------------------------------------


def test_numbers_have_the_t_interval_of_their_seeds():
    row = rows.number("k", [1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5
    assert (row["mean"], row["n"]) == (2.0, 3)
    assert (row["low"], row["high"]) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert math.isnan(rows.number("k", [1.0])["low"])


def test_the_largest_rate_is_the_last_at_which_the_loss_is_below_the_level():
    values = np.array([[5.0, 5.0, 5.0, 5.0], [2.0, 2.0, 5.0, 2.0], [2.0, 9.0, 5.0, np.nan], [2.0, 9.0, 5.0, 9.0]])
    losses = xr.DataArray(values, dims=("step", "seed"), coords={"step": range(4), "seed": range(4)}, name="loss")
    np.testing.assert_allclose(_borne(losses, 4, 4.0), [0.05, 0.025, 0.0125, 0.025])


def test_the_entropy_of_bytes_is_that_of_their_frequencies():
    assert _entropy([0, 1, 1, 0]) == pytest.approx(math.log(2))
    assert _entropy([7, 7]) == 0


# ---- reports ------------------------------------------------------------------------------------------------


def test_a_reproduction_says_all_of_it(toy):
    assert toy.verdict in VERDICTS
    assert list(toy.numbers["number"]) == [claim.number for claim in REGISTRY[TOY].claims]
    assert set(toy.curves["curve"]) == {"stream variance", "stream gradient"}
    text = str(toy)
    for part in (TOY, toy.verdict, toy.source.arxiv, "toy size", *toy.numbers["outcome"]):
        assert part in text


def test_the_figure_draws_the_curves_and_says_the_verdict(toy):
    ax = gf.plot.reproduction(toy)
    assert ax.get_legend_handles_labels()[1] == ["stream variance", "stream gradient"]
    line = ax.get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), toy.curves.query("curve == 'stream variance'")["mean"])
    assert toy.verdict in ax.get_label()
    assert toy.source.arxiv in ax.get_label()


def test_the_folder_has_numbers_figure_and_report(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "reproduce", lambda name, size: toy)
    report = jobs.reproduced(TOY, "toy", tmp_path / "out")
    assert report is toy
    names = {path.name for path in (tmp_path / "out").iterdir()} - {".lock"}
    assert names >= {"figure.pdf", "figure.png", "figure.csv", "numbers.csv", "report.txt", "manifest.json"}
    written = pd.read_csv(tmp_path / "out" / "numbers.csv")
    assert list(written["outcome"]) == list(toy.numbers["outcome"])
    np.testing.assert_allclose(written["mean"], toy.numbers["mean"])


def told(capsys, monkeypatch, *words) -> str:
    monkeypatch.setattr(sys, "argv", ["gradflow", "reproduce", *words])
    monkeypatch.setattr("gradflow.cli.commands.use_fast_compilation", lambda: None)
    cli.main()
    return capsys.readouterr().out


def test_without_a_name_the_command_lists_all(capsys, monkeypatch):
    listed = told(capsys, monkeypatch)
    for entry in ENTRIES:
        assert f"{entry.name}\n" in listed
        assert f"arXiv:{entry.source.arxiv}" in listed


@pytest.mark.parametrize(
    ("words", "remedy"),
    [(("xiong-last",), "did you mean 'xiong-last-gradient'"), ((TOY, "--size", "huge"), "size")],
)
def test_an_unknown_name_or_size_is_one_line(words, remedy, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        told(capsys, monkeypatch, *words, "--out", "out")
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert remedy in line
    assert len(line.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_figures_in_a_folder_are_not_measured_again(toy, tmp_path):
    first = gf.reproduce((TOY,), size="toy", folder=tmp_path)
    again = gf.reproduce((TOY,), size="toy", folder=tmp_path)
    pd.testing.assert_frame_equal(again[TOY].numbers, toy.numbers)
    pd.testing.assert_frame_equal(again[TOY].curves, toy.curves)
    assert again[TOY].minutes == first[TOY].minutes


@pytest.mark.further
@over_entries
def test_an_entry_runs_at_toy_size(entry):
    report = gf.reproduce(entry.name, size="toy")
    assert report.verdict in VERDICTS
    assert np.isfinite(report.numbers[["mean", "low", "high"]].values).all()
    assert np.isfinite(report.curves[["x", "mean"]].values).all()
    gf.plot.reproduction(report)
