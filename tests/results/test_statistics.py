"""Bands and paired ratios against scipy, and by hand."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from gradflow.results.quantities import QUANTITIES
from gradflow.results.statistics import band, half_width, paired_log_ratio, standard_deviation

CLOSE = {"rtol": 1e-12}


def values(*by_seed, name: str = "stream_gradient", first: int = 0) -> xr.DataArray:
    """A quantity with a seed dimension."""
    seeds = np.arange(first, first + len(by_seed))
    return xr.DataArray(np.array(by_seed, float), dims="seed", coords={"seed": seeds}, name=name)


def profiles(seeds: int, depths: int, name: str = "stream_gradient", seed: int = 0) -> xr.DataArray:
    """Lognormal values [seed, depth]."""
    drawn = np.exp(np.random.default_rng(seed).normal(size=(seeds, depths)))
    return xr.DataArray(drawn, dims=("seed", "depth"), coords={"seed": np.arange(seeds)}, name=name)


# ---- the interval -------------------------------------------------------------------------------------------


def test_half_of_an_interval_is_students():
    """The table of t at 0.975: 12.706 for one degree of freedom, 3.182 for three, 2.262 for nine."""
    for n, t in ((2, 12.706), (4, 3.182), (10, 2.262)):
        assert half_width(2.0, n) == pytest.approx(t * 2 / n**0.5, rel=2e-4)
    assert np.isnan(half_width(2.0, 1))


def test_a_band_of_a_positive_quantity_is_the_geometric_mean_with_scipys_interval_in_logs():
    drawn = profiles(5, 7)
    found = band(drawn)
    assert set(found.dims) == {"depth"}
    interval = stats.ttest_1samp(np.log(drawn.values), 0).confidence_interval(0.95)
    np.testing.assert_allclose(found["mean"], stats.gmean(drawn.values), **CLOSE)
    np.testing.assert_allclose(found["low"], np.exp(interval.low), **CLOSE)
    np.testing.assert_allclose(found["high"], np.exp(interval.high), **CLOSE)


def test_a_band_by_hand():
    """1 and 4: geometric mean 2; the logs spread by ln(4)/√2, and t₁ = 12.7062."""
    found = band(values(1, 4))
    reach = 4 ** (12.7062 / 2)
    assert float(found["mean"]) == pytest.approx(2)
    assert float(found["low"]) == pytest.approx(2 / reach, rel=1e-4)
    assert float(found["high"]) == pytest.approx(2 * reach, rel=1e-4)


def test_a_band_of_a_signed_quantity_is_the_arithmetic_mean_with_scipys_interval():
    drawn = profiles(5, 3, name="budget") - 1.5
    interval = stats.ttest_1samp(drawn.values, 0).confidence_interval(0.95)
    found = band(drawn)
    np.testing.assert_allclose(found["mean"], drawn.values.mean(0), **CLOSE)
    np.testing.assert_allclose(found["low"], interval.low, **CLOSE)
    np.testing.assert_allclose(found["high"], interval.high, **CLOSE)


def test_quantities_that_can_be_negative_are_not_averaged_in_logs():
    signed = {name for name, quantity in QUANTITIES.items() if quantity.mean == "arithmetic"}
    assert {"budget", "leave_gain", "split", "token_cosine"} <= signed
    assert not {"loss", "stream_gradient", "parameter_gradient", "stream_rms", "partial_jacobian"} & signed


def test_a_quantity_of_the_users_own_counts_as_positive():
    assert float(band(values(1, 4, name="mine"))["mean"]) == pytest.approx(2)


def test_a_band_of_the_standard_deviation_on_request():
    drawn = profiles(6, 2)
    found = band(drawn, half=standard_deviation)
    spread = np.log(drawn.values).std(0, ddof=1)
    np.testing.assert_allclose(found["high"] / found["mean"], np.exp(spread), **CLOSE)
    np.testing.assert_allclose(found["low"] / found["mean"], np.exp(-spread), **CLOSE)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """2000 times 4 lognormal seeds: 95% coverage to within four binomial standard errors."""
    drawn = profiles(4, 2000)
    found = band(drawn)
    covered = float(((found["low"] < 1) & (found["high"] > 1)).mean())
    assert abs(covered - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5


def test_a_single_seed_has_a_mean_and_no_interval():
    for alone in (values(3.0), values(3.0).isel(seed=0)):
        found = band(alone)
        assert float(found["mean"]) == pytest.approx(3)
        assert np.isnan(found["low"])
        assert np.isnan(found["high"])


def test_a_band_keeps_the_other_dimension_and_the_attributes():
    drawn = profiles(3, 4).assign_attrs(units="norm")
    over_depth = band(drawn, dim="depth")
    np.testing.assert_allclose(over_depth["mean"], stats.gmean(drawn.values, axis=1), **CLOSE)
    assert band(drawn).attrs == {"units": "norm"}


def test_a_zero_makes_the_geometric_mean_zero():
    found = band(values(1, 0, 2))
    assert float(found["mean"]) == 0
    assert np.isnan(found["low"])


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["stream_gradient", "budget", "mine"])
def test_a_band_is_of_the_seeds_that_are_finite_and_says_how_many(name, hole):
    found, without = band(values(1, hole, 2, 5, name=name)), band(values(1, 2, 5, name=name))
    assert int(found["n"]) == int(without["n"]) == 3
    for bound in ("mean", "low", "high"):
        assert float(found[bound]) == float(without[bound])


def test_a_band_of_two_seeds_of_which_one_is_not_finite_has_no_interval():
    found = band(values(3, np.nan))
    assert float(found["mean"]) == pytest.approx(3)
    assert int(found["n"]) == 1
    assert np.isnan(found["low"])
    assert np.isnan(found["high"])


def test_a_band_of_nothing_is_of_no_seed():
    for empty in (values(np.nan, np.inf), values(np.nan).isel(seed=0)):
        found = band(empty)
        assert int(found["n"]) == 0
        assert np.isnan(found["mean"])


def test_seeds_are_counted_place_by_place():
    drawn = profiles(3, 4)
    drawn[1, :2] = np.nan
    found = band(drawn)
    assert found["n"].values.tolist() == [2, 2, 3, 3]
    np.testing.assert_allclose(found["mean"][:2], stats.gmean(drawn.values[[0, 2], :2]), **CLOSE)
    interval = stats.ttest_1samp(np.log(drawn.values[[0, 2], 0]), 0).confidence_interval(0.95)
    assert float(found["high"][0]) == pytest.approx(np.exp(interval.high))


def test_a_quantity_of_the_users_own_that_is_negative_has_an_arithmetic_mean():
    assert float(band(values(-1, 4, name="mine"))["mean"]) == pytest.approx(1.5)


# ---- paired comparison --------------------------------------------------------------------------------------


def test_a_paired_ratio_is_scipys_paired_test_of_the_logs():
    a, b = profiles(6, 3, seed=1), profiles(6, 3, seed=2)
    found = paired_log_ratio(a, b)
    la, lb = np.log(a.values), np.log(b.values)
    interval = stats.ttest_rel(la, lb).confidence_interval(0.95)
    np.testing.assert_allclose(found["mean"], (la - lb).mean(0), **CLOSE)
    np.testing.assert_allclose(found["low"], interval.low, **CLOSE)
    np.testing.assert_allclose(found["high"], interval.high, **CLOSE)
    expected = [stats.pearsonr(*columns).statistic for columns in zip(la.T, lb.T, strict=True)]
    np.testing.assert_allclose(found["correlation"], expected, **CLOSE)


def test_pairing_takes_away_what_the_seeds_have_in_common():
    common = profiles(6, 1)
    found = paired_log_ratio(3 * common, common)
    np.testing.assert_allclose(found["low"], np.log(3), **CLOSE)
    np.testing.assert_allclose(found["high"], np.log(3), **CLOSE)
    np.testing.assert_allclose(found["correlation"], 1, **CLOSE)


@pytest.mark.parametrize("other", [values(1, 2), values(1, 2, 3, first=1), values(1, 2, 3, 4)])
def test_different_seeds_are_refused(other):
    with pytest.raises(ValueError, match="exact"):
        paired_log_ratio(values(1, 2, 3), other)


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_pair_of_which_one_is_not_finite_is_left_out_and_counted(hole):
    a, b = profiles(6, 1, seed=1), profiles(6, 1, seed=2)
    a[2], b[4] = hole, hole
    kept = [0, 1, 3, 5]
    found, without = paired_log_ratio(a, b), paired_log_ratio(a.isel(seed=kept), b.isel(seed=kept))
    assert found["n"].item() == 4
    for what in ("mean", "low", "high", "correlation"):
        np.testing.assert_allclose(found[what], without[what], **CLOSE)


def test_no_pair_at_all_is_no_warning():
    found = paired_log_ratio(values(np.nan, 2), values(1, np.inf))
    assert int(found["n"]) == 0
    assert np.isnan(found["mean"])


def test_a_pair_with_a_zero_is_no_warning():
    assert float(paired_log_ratio(values(3, 0, 1), values(2, 1, 1))["mean"]) == -np.inf


def test_a_single_pair_has_a_ratio_and_no_interval():
    found = paired_log_ratio(values(3), values(2))
    assert float(found["mean"]) == pytest.approx(np.log(1.5))
    assert np.isnan(found["low"])
