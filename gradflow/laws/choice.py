"""The choice between laws: by seeds left out, and by the AICc where there is a single seed."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..results.statistics import CONFIDENCE, half_width
from .fitting import ROUNDING, bends, curve, fit, fit_one, logarithms, sentence
from .law import OVER_DEPTH, Law

_NOT_RULED_OUT = -2 * np.log(1 - CONFIDENCE)  # difference in AICc at which the evidence is 20 to 1


def choose(
    profile: xr.DataArray, candidates: Sequence[Law] = OVER_DEPTH, *, over: str = "depth", seeds: str = "seed"
) -> xr.Dataset:
    """Returns the candidates' fits and their `verdict` [law]; the attribute `chosen` names the simplest law that is not worse.

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
    l, logs = logarithms(profile, over, seeds)
    laws = [law for law in candidates if len(law.names) < l.size]
    if not laws:
        raise ValueError(f"{l.size} positions are too few to fit any of {', '.join(law.name for law in candidates)}")
    fits = []
    curves = []
    for law in laws:
        fitted = fit(profile, law, over=over, seeds=seeds)
        fits.append(fitted)
        curves.append(curve(fitted, law, l))
    scored = _by_left_out_seeds(laws, l, logs) if len(logs) > 1 else _by_aicc(laws, l, logs[0])
    verdicts = _verdicts(laws, fits, scored)
    names = xr.DataArray([law.name for law in laws], dims="law", name="law")
    choice = xr.concat(fits, names, join="outer", combine_attrs="drop").merge(scored).drop_vars("worse")
    choice = choice.assign_coords({over: profile[over].values})
    choice["verdict"] = ("law", verdicts)
    choice["identified"] = ("law", [fitted.attrs["identified"] for fitted in fits])
    choice["sentence"] = ("law", list(map(sentence, fits)))
    choice["curve"] = (("law", over), curves)
    shared = {name: fits[0].attrs[name] for name in ("of", "seeds", "over", "quantity")}
    return choice.assign_attrs(**shared, **scored.attrs, chosen=laws[verdicts.index("chosen")].name)


def _verdicts(laws: Sequence[Law], fits: Sequence[xr.Dataset], scored: xr.Dataset) -> list[str]:
    """Returns the verdict on each law, from its fit and whether it is worse than the best."""
    verdicts = ["worse"] * len(laws)
    kept = [i for i, worse in enumerate(scored["worse"].values) if not worse]
    for i in kept:
        if fits[i].attrs["identified"] and bends(fits[i]):
            verdicts[i] = "indistinguishable"
        else:
            verdicts[i] = "needless"
    simplest = min(kept, key=lambda i: (len(laws[i].names), float(scored["score"][i])))
    verdicts[simplest] = "chosen"
    return verdicts


def _by_left_out_seeds(laws: Sequence[Law], l, logs) -> xr.Dataset:
    """Returns `score`, `behind`, `behind_low` and `worse` [law], from predictions of seeds left out."""
    means_of_others = (logs.sum(0) - logs) / (len(logs) - 1)
    predicted = []
    for law in laws:
        of_law = []
        for mean in means_of_others:
            numbers = fit_one(law, l, mean)
            of_law.append(law.curve(l, *numbers))
        predicted.append(of_law)
    squared = ((np.array(predicted) - logs) ** 2).mean(-1)  # [law, seed]
    score = squared.mean(1)
    difference = squared - squared[score.argmin()]
    behind = difference.mean(1)
    low = behind - half_width(difference.std(1, ddof=1), len(logs))
    worse = (low > 0) & (behind > ROUNDING**2)
    columns = {"score": score, "behind": behind, "behind_low": low, "worse": worse}
    return _scores(columns, "mean squared misfit of the log of a seed left out")


def _by_aicc(laws: Sequence[Law], l, log_y) -> xr.Dataset:
    """Returns `score`, `behind`, `weight` and `worse` [law], from the residuals of one profile over its positions."""
    n = l.size
    count = np.array([len(law.names) + 1 for law in laws])
    mean_squares = []
    for law in laws:
        numbers = fit_one(law, l, log_y)
        misfit = law.curve(l, *numbers) - log_y
        mean_squares.append(np.mean(misfit**2))
    squared = np.array(mean_squares)
    if n <= count.max() + 1:
        raise ValueError(f"one seed at {n} positions is too little to choose between these laws: measure more seeds")
    penalty = 2 * count * n / (n - count - 1)  # 2K + 2K(K+1)/(n−K−1) in one fraction
    score = n * np.log(squared + ROUNDING**2) + penalty
    behind = score - score.min()
    evidence = np.exp(-behind / 2)
    columns = {"score": score, "behind": behind, "weight": evidence / evidence.sum(), "worse": behind > _NOT_RULED_OUT}
    return _scores(columns, "AICc of one seed; depths are not independent")


def _scores(columns: dict[str, np.ndarray], by: str) -> xr.Dataset:
    """Returns columns over laws as a dataset; `by` names the score."""
    return xr.Dataset({name: ("law", values) for name, values in columns.items()}, attrs={"by": by})


def to_text(choice: xr.Dataset) -> str:
    """Returns the chosen law's sentence, and the names of the laws that can't be told from it.

    For example `exp((−0.31 ± 0.02) l^0.5) (or power)`.
    """
    chosen = choice["sentence"].sel(law=choice.attrs["chosen"]).item()
    others = choice["law"].values[choice["verdict"].values == "indistinguishable"]
    if not len(others):
        return chosen
    return f"{chosen} (or {', '.join(others)})"
