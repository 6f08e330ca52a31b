"""Laws: one-line descriptions of a profile, fitted in logs, with intervals over seeds, and the choice between them.

    constant     y = a                     what keeps the gradient
    power        y = a (1 + l/l₀)^k        what independent branches of equal variance give a pre-norm stack: k = −ζ/2
    exponential  y = a e^{k l}             what a chain of equal gains gives
    stretched    y = a e^{k √l}            what saturating branches without a norm give (DyT, erf): partial Jacobian e^{√(l/λ)}
    monomial     y = a l^k                 against the total depth, which is never 0

The stretched exponential of Doshi, He and Gromov 2023 (and Alekseev 2026 for DyT and Derf) has the exponent ½, and so has
ours: a free exponent β in e^{k l^β} runs from the power law (β → 0) to the exponential (β → 1), and at the depths of
networks it imitates both so well that β and k could not be told apart. λ is 1/k². It is an asymptotic law; an embedding
that saturates the branches already shifts l, which is not fitted.

A law is fitted to each seed by least squares on log y; an estimate is the mean over seeds with its 95% t-interval.
A single seed has an estimate and no interval: residuals over depth are not independent, and an interval made of them
covers the truth half as often as it says.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import optimize

from .results.arguments import of_class
from .results.statistics import CONFIDENCE, half_width


@dataclass(frozen=True)
class Law:
    """`log y = curve(l, log a, k, …)`, with the names of its numbers, a start for the fit, and how it is written.

    `words` may hold `{x}` (the position), `{k}` (with its interval, where there is one) and `{l0}`.
    """

    name: str
    formula: str
    words: str
    names: tuple[str, ...]
    curve: Callable
    bounds: tuple[tuple[float, ...], tuple[float, ...]]
    start: tuple[float, ...]


_ANY = np.inf


def _line(name: str, formula: str, words: str, rise: Callable) -> Law:
    """The law `log y = log a + k · rise(l)`."""
    curve = lambda l, log_a, k: log_a + k * rise(l)
    return Law(name, formula, words, ("log_a", "k"), curve, ((-_ANY,) * 2, (_ANY,) * 2), (0.0, 0.0))


constant = Law("constant", "a", "constant", ("log_a",), lambda l, log_a: log_a + 0 * l, ((-_ANY,), (_ANY,)), (0.0,))
exponential = _line("exponential", "a exp(k l)", "e^(({k}) {x})", lambda l: l)
stretched = _line("stretched", "a exp(k l^0.5)", "exp(({k}) {x}^0.5)", np.sqrt)
monomial = _line("monomial", "a l^k", "{x}^({k})", np.log)
power = Law(
    "power",
    "a (1 + l/l0)^k",
    "(1 + {x}/{l0})^({k})",
    ("log_a", "k", "log_l0"),
    lambda l, log_a, k, log_l0: log_a + k * np.log1p(l * np.exp(-log_l0)),
    ((-_ANY, -_ANY, np.log(1e-2)), (_ANY, _ANY, np.log(1e3))),
    (0.0, -0.5, np.log(2.0)),
)

OVER_DEPTH = (constant, exponential, stretched, power)
OVER_TOTAL_DEPTH = (constant, monomial, exponential)
LETTERS = {"total_depth": "L"}  # every other position is l
_ROUNDING = 1e-6  # of a log: what float32 leaves of an exact law
_NOT_RULED_OUT = -2 * np.log(1 - CONFIDENCE)  # difference in AICc at which the evidence is 20 to 1


def fit(profile: xr.DataArray, law: Law, *, over: str = "depth", seeds: str = "seed") -> xr.Dataset:
    """The law's numbers for a profile: `estimate`, `low`, `high` [number], and `residual`, the rms of log y's misfit.

    With a single seed `low` and `high` are NaN. The attribute `identified` is 0 where a number is at the edge of what was
    searched for some seed; and, for the power law, where the interval of k holds 0 (l₀ is then arbitrary; with a single seed:
    where k is 0) or l₀ is beyond the last position (the profile then ends before the power begins).

    Parameters
    ----------
    profile : labelled, positive, with the dimension `over` and perhaps `seeds`; no other dimension
    law : `constant`, `power`, `exponential`, `stretched`, `monomial`, or one of your own

    Errors: ValueError where values are not positive and finite, or fewer than the law's numbers plus one; NoFit, a ValueError,
    where the search comes to no end.
    """
    of_class("the profile", profile, xr.DataArray)
    of_class("the law", law, Law)
    l, logs = _logs(profile, over, seeds)
    if law is monomial and not (l > 0).all():
        raise ValueError(f"a l^k has no logarithm at {over} = 0: drop it, or fit the power law, which has an offset")
    if l.size <= len(law.names):
        raise ValueError(f"{law.name} has {len(law.names)} numbers: {l.size} positions are too few to fit it")
    numbers = np.array([_fit_one(law, l, row) for row in logs])
    if len(logs) > 1:
        half, of = half_width(numbers.std(0, ddof=1), len(logs)), "95% t-interval over seeds"
    else:
        half, of = np.full(len(law.names), np.nan), "one seed: no interval"
    centre = numbers.mean(0)
    misfit = np.sqrt(np.mean([(law.curve(l, *n) - row) ** 2 for n, row in zip(numbers, logs, strict=True)]))
    values = {"estimate": centre, "low": centre - half, "high": centre + half}
    fitted = xr.Dataset(
        {**{name: ("number", value) for name, value in values.items()}, "residual": misfit},
        coords={"number": list(law.names)},
        attrs={
            "law": law.name,
            "formula": law.formula,
            "words": law.words,
            "of": of,
            "seeds": len(logs),
            "over": over,
            "quantity": str(profile.name),
        },
    )
    inside = not any(np.isclose(n, bound, atol=1e-3).any() for n in numbers for bound in law.bounds)
    return fitted.assign_attrs(identified=int(inside and _has_an_offset(fitted, l)))


def _logs(profile: xr.DataArray, over: str, seeds: str):
    """`(l, log y [seed, position])` of a profile that has logarithms."""
    extra = {str(dim) for dim in profile.dims} - {over, seeds}
    if extra:
        raise ValueError(f"choose one entry along {sorted(extra)} before fitting a law over {over!r}")
    rows = np.atleast_2d(profile.transpose(..., over).values)
    if not (np.isfinite(rows).all() and (rows > 0).all()):
        raise ValueError(f"a law needs positive finite values; {profile.name} has others")
    return np.asarray(profile[over].values, float), np.log(np.asarray(rows, float))


class NoFit(ValueError):
    """The search for a law's numbers came to no end."""


def _fit_one(law: Law, l, log_y) -> np.ndarray:
    """The numbers, by least squares from the law's start, the level taken from the data."""
    start = (log_y[0] if law is power else log_y.mean(), *law.start[1:])
    with warnings.catch_warnings():  # of a covariance that can't be had; it isn't used
        warnings.simplefilter("ignore", optimize.OptimizeWarning)
        try:
            return optimize.curve_fit(law.curve, l, log_y, p0=start, bounds=law.bounds, maxfev=20_000)[0]
        except RuntimeError:
            raise NoFit(f"the fit of the law {law.formula} came to no end: try another law") from None


def _bends(fitted: xr.Dataset) -> bool:
    """Whether the interval of k leaves 0 out, and what rounding makes of it; of a single seed, k itself."""
    if "k" not in fitted["number"]:
        return False
    bounds = ("estimate", "estimate") if fitted.attrs["seeds"] == 1 else ("low", "high")
    low, high = (float(fitted[bound].sel(number="k")) for bound in bounds)
    return low > _ROUNDING or high < -_ROUNDING


def _has_an_offset(fitted: xr.Dataset, l) -> bool:
    """Whether the profile says what l₀ is, where the law has one."""
    if "log_l0" not in fitted["number"]:
        return True
    return _bends(fitted) and float(fitted["estimate"].sel(number="log_l0")) < np.log(l.max())


def choose(
    profile: xr.DataArray, candidates: Sequence[Law] = OVER_DEPTH, *, over: str = "depth", seeds: str = "seed"
) -> xr.Dataset:
    """The candidates' fits and their `verdict` [law]; the attribute `chosen` names the simplest law that is not worse.

    Each seed in turn is left out: a law is fitted to the mean of log y over the others, and `score` is the mean over seeds
    of its squared misfit to the one left out, per position. `behind` is the score minus that of the best law, paired over
    seeds, `behind_low` its lower 95% t-bound: a law is `worse` where that is above 0. Of the others the one with the fewest
    numbers is `chosen` (of as many, the one with the least score). Another is `indistinguishable` where it is identified and
    the interval of its k leaves 0 out; otherwise it is `needless`: it imitates a simpler law.

    This is cross-validation with the rule of parsimony of Breiman et al. 1984 (§3.4.3, at 95% in place of one standard
    error). Only seeds are taken to be independent; positions along one backward pass are not, and an AICc over positions
    would take their common drift for evidence. Levels that differ between seeds cancel: every law has a level. Scores share
    the seeds they were fitted to, so bounds are approximate, and two seeds separate little (t = 12.7).

    With a single seed `score` is the AICc of Hurvich and Tsai 1989, `n log(RSS/n) + 2K + 2K(K+1)/(n−K−1)`, n positions, K
    numbers and the variance, and `weight` its Akaike weight (Burnham and Anderson 2002, §2.9); a law is `worse` where the
    evidence is 20 to 1 against it, and one that is not is `indistinguishable` where it is identified. As positions are not
    independent, too much may be separated: `by` says which it was.

    With these come, by law, all that `fit` returns, `identified`, the `sentence`, and the `curve` at the positions.

    Parameters
    ----------
    profile : as for `fit`
    candidates : laws; one with as many numbers as there are positions is left out

    Errors: as for `fit`; ValueError where one seed has too few positions for the AICc of every law.

    >>> l, noise = np.arange(20), np.random.default_rng(0).normal(0, 0.01, (4, 20))
    >>> profile = xr.DataArray(np.exp(-0.1 * l + noise), dims=("seed", "depth"), coords={"depth": l})
    >>> to_text(choose(profile))
    'e^((−0.100 ± 0.001) l)'
    """
    l, logs = _logs(profile, over, seeds)
    laws = [law for law in candidates if len(law.names) < l.size]
    if not laws:
        raise ValueError(f"{l.size} positions are too few to fit any of {', '.join(law.name for law in candidates)}")
    fits = [fit(profile, law, over=over, seeds=seeds) for law in laws]
    scored = _by_left_out_seeds(laws, l, logs) if len(logs) > 1 else _by_aicc(laws, l, logs[0])
    verdicts = _verdicts(laws, fits, scored)
    own = {
        "verdict": ("law", verdicts),
        "identified": ("law", [f.attrs["identified"] for f in fits]),
        "sentence": ("law", [sentence(f) for f in fits]),
        "curve": (("law", over), [curve(f, law, l) for f, law in zip(fits, laws, strict=True)]),
    }
    names = xr.DataArray([law.name for law in laws], dims="law", name="law")
    fitted = xr.concat(fits, names, join="outer", combine_attrs="drop").assign_coords({over: profile[over].values})
    shared = {name: fits[0].attrs[name] for name in ("of", "seeds", "over", "quantity")}
    chosen = laws[verdicts.index("chosen")].name
    return fitted.merge(scored).assign(own).assign_attrs(**shared, **scored.attrs, chosen=chosen).drop_vars("worse")


def _verdicts(laws: Sequence[Law], fits: Sequence[xr.Dataset], scored: xr.Dataset) -> list[str]:
    """What is said of each law, from its fit and whether it is worse than the best."""
    kept = [i for i, worse in enumerate(scored["worse"].values) if not worse]
    simplest = min(kept, key=lambda i: (len(laws[i].names), float(scored["score"][i])))
    says_more = [fitted.attrs["identified"] and _bends(fitted) for fitted in fits]
    verdicts = ["worse"] * len(laws)
    for i in kept:
        verdicts[i] = "indistinguishable" if says_more[i] else "needless"
    verdicts[simplest] = "chosen"
    return verdicts


def _by_left_out_seeds(laws: Sequence[Law], l, logs) -> xr.Dataset:
    """`score`, `behind`, `behind_low` and `worse` [law], from predictions of seeds left out."""
    means = (logs.sum(0) - logs) / (len(logs) - 1)  # of the others
    predicted = np.array([[law.curve(l, *_fit_one(law, l, mean)) for mean in means] for law in laws])
    squared = ((predicted - logs) ** 2).mean(-1)  # [law, seed]
    behind = squared - squared[squared.mean(1).argmin()]
    low = behind.mean(1) - half_width(behind.std(1, ddof=1), len(logs))
    columns = {"score": squared.mean(1), "behind": behind.mean(1), "behind_low": low}
    worse = (low > 0) & (behind.mean(1) > _ROUNDING**2)
    by = "mean squared misfit of the log of a seed left out"
    return xr.Dataset({name: ("law", value) for name, value in {**columns, "worse": worse}.items()}, attrs={"by": by})


def _by_aicc(laws: Sequence[Law], l, log_y) -> xr.Dataset:
    """`score`, `behind`, `weight` and `worse` [law], from the residuals of one profile over its positions."""
    n, count = l.size, np.array([len(law.names) + 1 for law in laws])
    squared = np.array([np.mean((law.curve(l, *_fit_one(law, l, log_y)) - log_y) ** 2) for law in laws])
    if n <= count.max() + 1:
        raise ValueError(f"one seed at {n} positions is too little to choose between these laws: measure more seeds")
    penalty = 2 * count * n / (n - count - 1)  # 2K + 2K(K+1)/(n−K−1) in one fraction
    score = n * np.log(squared + _ROUNDING**2) + penalty
    behind = score - score.min()
    weight = np.exp(-behind / 2) / np.exp(-behind / 2).sum()
    columns = {"score": score, "behind": behind, "weight": weight, "worse": behind > _NOT_RULED_OUT}
    by = "AICc of one seed; depths are not independent"
    return xr.Dataset({name: ("law", value) for name, value in columns.items()}, attrs={"by": by})


def curve(fitted: xr.Dataset, law: Law, l) -> np.ndarray:
    """The law at positions `l`, with the estimated numbers: means over seeds, so not quite the mean of the seeds' curves."""
    return np.exp(law.curve(np.asarray(l, float), *fitted["estimate"].sel(number=list(law.names)).values))


def sentence(fitted: xr.Dataset) -> str:
    """The law in words with its exponent's interval, where it has one, for a legend: `(1 + l/1.9)^(−0.51 ± 0.02)`."""
    if not fitted.attrs["identified"]:
        return f"{fitted.attrs['formula']}: not identified"
    number, high = (fitted[name].to_series() for name in ("estimate", "high"))
    told = {"x": LETTERS.get(fitted.attrs["over"], "l")}
    if "k" in number:
        told["k"] = _with_half(number["k"], high["k"] - number["k"])
    if "log_l0" in number:
        told["l0"] = f"{np.exp(number['log_l0']):.2g}"
    return fitted.attrs["words"].format(**told)


def to_text(choice: xr.Dataset) -> str:
    """The chosen law's sentence, and the names of those it can't be told from: `exp((−0.31 ± 0.02) l^0.5) (or power)`."""
    others = choice["law"].values[choice["verdict"].values == "indistinguishable"]
    words = choice["sentence"].sel(law=choice.attrs["chosen"]).item()
    return f"{words} (or {', '.join(others)})" if len(others) else words


def _with_half(value: float, half: float) -> str:
    """`−0.51 ± 0.02`: the half to its first digit (to two where that is a 1), the value to three digits at most.

    `−0.512` where there is no half.
    """
    size = lambda number, digits: digits - 1 - int(np.floor(np.log10(abs(number)))) if number else 2
    most = max(size(value, 3), 2)
    if not np.isfinite(half):
        return f"{value:.{most}f}".replace("-", "−")
    digits = 2 if f"{half:.0e}".startswith("1") else 1
    places = int(np.clip(size(half, digits), 0, most)) if half else most
    return f"{value:.{places}f} ± {half:.{places}f}".replace("-", "−")
