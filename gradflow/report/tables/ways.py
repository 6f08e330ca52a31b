"""Families of wirings in the numbers of an atlas: which way the gradient goes toward the input, and what goes along with it.

A wiring's way is read from the 95% interval of its net log-gain, at initialization and after the training; an interval on both
sides of zero leaves it open, unless all of it is next to nothing.
"""

import pandas as pd

EVEN = 0.5  # nat from the top of the stack to the bottom that count as kept
ON_PATH = 0.05  # nat that norms take or give, from which on one stands on the path
ALIKE = 0.1  # nat between two log-gains that count as the same
WAYS = GROWS, KEPT, DECAYS, OPEN = ("grows", "is kept", "decays", "is open")
REFERENCE = "pre"


def ways(points: pd.DataFrame) -> pd.DataFrame:
    """Returns a row a wiring and time: `family`, `model`, `when`, the net log-gain with its interval, `way`, and three marks.

    `on_path` is whether norms take or give anything after the training, `as_pre` whether the net is that of pre-norm, to `ALIKE`
    nat (False where the atlas has no pre-norm). `points` is `atlas.points(tree)`.
    """
    net = points.loc[points["number"] == "net", ["family", "model", "when", "mean", "low", "high"]]
    norm = points.query("number == 'norm' and when == 'trained'").set_index("model")["mean"]
    pre = net[net["model"] == REFERENCE].set_index("when")["mean"]
    from_pre = net["mean"] - net["when"].map(pre)
    return net.assign(
        way=[way(low, high) for low, high in zip(net["low"], net["high"], strict=True)],
        on_path=net["model"].map(norm).abs() > ON_PATH,
        as_pre=(from_pre.abs() <= ALIKE) & (net["model"] != REFERENCE),
    )


def way(low: float, high: float) -> str:
    """Returns one of `WAYS` for the interval of a net log-gain, in nat: kept where it is within `EVEN`, else by its sign."""
    if low >= -EVEN and high <= EVEN:
        return KEPT
    if low > 0:
        return GROWS
    if high < 0:
        return DECAYS
    return OPEN
