"""Laws: the numbers a synthetic profile was made with come back, and their intervals cover them as often as they say."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from gradflow import laws

TRUE = {
    "power": {"log_a": np.log(2.0), "k": -0.5, "log_l0": np.log(3.0)},
    "exponential": {"log_a": np.log(0.5), "k": -0.04},
    "monomial": {"log_a": np.log(7.0), "k": 0.3},
}
LAWS = {"power": laws.power, "exponential": laws.exponential, "monomial": laws.monomial}
over_laws = pytest.mark.parametrize("name", LAWS)


def synthetic(name: str, *, key: int = 0, seeds: int = 6, noise: float = 0.02, spread: float = 0.05, **numbers):
    """A profile [seed, depth] of that law; each seed has an exponent of its own, and each value its noise, in logs."""
    true, draw = {**TRUE[name], **numbers}, np.random.default_rng(key).normal
    l = np.arange(1, 41)
    own = {**true, "k": true["k"] + spread * draw(size=(seeds, 1))}
    log_y = LAWS[name].curve(l, *own.values()) + noise * draw(size=(seeds, l.size))
    return xr.DataArray(np.exp(log_y), dims=("seed", "depth"), coords={"depth": l}, name="stream_gradient")


def by_name(fitted: xr.Dataset, what: str = "estimate") -> dict:
    """`{number: value}`."""
    return dict(zip(fitted["number"].values, fitted[what].values, strict=True))


# ---- the formulas -------------------------------------------------------------------------------------------


def test_the_laws_are_what_their_formulas_say():
    l = np.array([1.0, 2.0, 10.0])
    np.testing.assert_allclose(np.exp(laws.power.curve(l, np.log(2), -0.5, np.log(3))), 2 * (1 + l / 3) ** -0.5)
    np.testing.assert_allclose(np.exp(laws.exponential.curve(l, np.log(2), -0.5)), 2 * np.exp(-0.5 * l))
    np.testing.assert_allclose(np.exp(laws.monomial.curve(l, np.log(2), -0.5)), 2 * l**-0.5)


# ---- recovery -----------------------------------------------------------------------------------------------


@over_laws
def test_a_profile_without_noise_gives_its_numbers_back(name):
    fitted = laws.fit(synthetic(name, noise=0.0, spread=0.0), LAWS[name])
    for number, value in TRUE[name].items():
        for what in ("estimate", "low", "high"):
            assert by_name(fitted, what)[number] == pytest.approx(value, abs=1e-6)
    assert float(fitted["residual"]) < 1e-7
    assert fitted.attrs["identified"] == 1


@over_laws
def test_noise_moves_the_numbers_by_a_few_standard_errors_at_most(name):
    fitted = laws.fit(synthetic(name, seeds=30), LAWS[name])
    sem = (fitted["high"] - fitted["low"]) / 2 / stats.t.ppf(0.975, 29)
    off = abs(fitted["estimate"] - np.array(list(TRUE[name].values())))
    assert (off < 4 * sem).all()
    assert float(sem.sel(number="k")) == pytest.approx(0.05 / 30**0.5, rel=0.5)


@over_laws
def test_the_residual_is_the_noise(name):
    assert float(laws.fit(synthetic(name, seeds=30), LAWS[name])["residual"]) == pytest.approx(0.02, rel=0.1)


@over_laws
def test_the_interval_of_the_exponent_covers_it_as_often_as_it_says(name):
    """200 profiles of 6 seeds: 95% of the intervals hold the truth, to within four binomial standard errors."""
    tries = 200
    fits = [laws.fit(synthetic(name, key=key), LAWS[name]).sel(number="k") for key in range(tries)]
    covered = np.mean([f["low"] < TRUE[name]["k"] < f["high"] for f in fits])
    assert abs(covered - 0.95) < 4 * (0.95 * 0.05 / tries) ** 0.5


def test_an_estimate_is_the_mean_over_seeds_with_scipys_interval():
    profile = synthetic("exponential")
    lines = [stats.linregress(profile["depth"], np.log(row)).slope for row in profile.values]
    interval = stats.ttest_1samp(lines, 0).confidence_interval(0.95)
    fitted = laws.fit(profile, laws.exponential)
    found = [by_name(fitted, what)["k"] for what in ("estimate", "low", "high")]
    np.testing.assert_allclose(found, [np.mean(lines), interval.low, interval.high], rtol=1e-6)
    assert fitted.attrs["of"] == "95% t-interval over seeds"


@pytest.mark.parametrize("keep", [lambda p: p.isel(seed=0), lambda p: p.isel(seed=[0])])
def test_a_single_seed_has_the_interval_of_the_regression_and_says_so(keep):
    profile = keep(synthetic("exponential"))
    fitted = laws.fit(profile, laws.exponential)
    line = stats.linregress(profile["depth"], np.log(profile.values.ravel()))
    half = stats.t.ppf(0.975, 38) * line.stderr
    found = [by_name(fitted, what)["k"] for what in ("estimate", "low", "high")]
    np.testing.assert_allclose(found, [line.slope, line.slope - half, line.slope + half], rtol=1e-5)
    assert "not independent" in fitted.attrs["of"]


def test_the_order_of_the_dimensions_does_not_matter():
    profile = synthetic("power")
    xr.testing.assert_identical(laws.fit(profile.transpose("depth", "seed"), laws.power), laws.fit(profile, laws.power))


def test_a_law_over_another_dimension():
    profile = synthetic("monomial").rename(depth="total_depth", seed="run")
    fitted = laws.fit(profile, laws.monomial, over="total_depth", seeds="run")
    assert by_name(fitted) == by_name(laws.fit(synthetic("monomial"), laws.monomial))


@over_laws
def test_the_fitted_curve_goes_through_the_profile(name):
    profile = synthetic(name, noise=0.0, spread=0.0)
    fitted = laws.fit(profile, LAWS[name])
    np.testing.assert_allclose(laws.curve(fitted, LAWS[name], profile["depth"]), profile.isel(seed=0), rtol=1e-5)


# ---- what a law is not fitted to ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_values_that_have_no_logarithm_are_refused(value):
    profile = synthetic("power").copy(deep=True)
    profile[2, 3] = value
    with pytest.raises(ValueError, match="positive finite values; stream_gradient has others"):
        laws.fit(profile, laws.power)


@pytest.mark.parametrize(("name", "numbers"), [("power", 3), ("exponential", 2), ("monomial", 2)])
def test_as_many_positions_as_numbers_are_too_few(name, numbers):
    profile = synthetic(name, spread=0.0)
    with pytest.raises(ValueError, match=f"{name} has {numbers} numbers: {numbers} positions are too few"):
        laws.fit(profile.isel(depth=slice(numbers)), LAWS[name])
    assert np.isfinite(laws.fit(profile.isel(depth=slice(numbers + 1)), LAWS[name])["estimate"]).all()


def test_a_further_dimension_has_to_be_chosen_from_first():
    profile = synthetic("power").expand_dims(parameter=["query", "down"], step=[0])
    with pytest.raises(ValueError, match=r"choose one entry along \['parameter', 'step'\] before fitting"):
        laws.fit(profile, laws.power)


def test_a_monomial_of_a_profile_that_starts_at_zero_is_refused():
    profile = synthetic("exponential")
    with pytest.raises(ValueError, match="0"):
        laws.fit(profile.assign_coords(depth=np.arange(40)), laws.monomial)


# ---- in words -----------------------------------------------------------------------------------------------


def test_a_law_in_words_has_the_exponent_with_its_interval():
    sentences = {name: laws.sentence(laws.fit(synthetic(name, noise=0.0, spread=0.0), LAWS[name])) for name in LAWS}
    assert sentences == {
        "power": "(1 + l/3)^(−0.50 ± 0.00)",
        "exponential": "e^((−0.04 ± 0.00) l)",
        "monomial": "l^(0.30 ± 0.00)",
    }


def test_the_interval_in_words_is_half_of_it():
    fitted = laws.fit(synthetic("monomial"), laws.monomial)
    half = by_name(fitted, "high")["k"] - by_name(fitted)["k"]
    assert half > 0.01
    assert laws.sentence(fitted) == f"l^({by_name(fitted)['k']:.2f} ± {half:.2f})"


def test_an_offset_at_the_edge_of_what_is_searched_is_not_identified():
    """An exponential decay is a power with l₀ as large as may be: its k says nothing, and the law says so."""
    fitted = laws.fit(synthetic("exponential", k=-0.3), laws.power)
    assert fitted.attrs["identified"] == 0
    assert laws.sentence(fitted).startswith("a (1 + l/l0)^k: not identified")


def test_one_seed_without_an_offset_is_enough_for_not_identified():
    profile = synthetic("power", spread=0.0)
    mixed = xr.concat([profile, synthetic("exponential", k=-0.3, seeds=1)], "seed")
    assert laws.fit(profile, laws.power).attrs["identified"] == 1
    assert laws.fit(mixed, laws.power).attrs["identified"] == 0
