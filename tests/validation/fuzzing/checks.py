"""Checks: each takes what a case returned, and raises `Wrong` where that is not so."""

import io

import matplotlib.pyplot as plt
import numpy as np

from gradflow.results.quantities import QUANTITIES


class Wrong(Exception):
    """A check that failed."""


def need(held: bool, words: str) -> None:
    """`Wrong`, unless it holds."""
    if not held:
        raise Wrong(words)


def passed(result):
    """Nothing is asked of it but to be there."""
    return result


def measured(tree):
    """Losses are positive and finite, gradients of the stream too, under their documented names."""
    need(len(tree.leaves) > 0, "an empty tree")
    for node in tree.leaves:
        for name in ("loss", "stream_gradient"):
            if name in node:
                values = np.asarray(node[name])
                need(values.size > 0, f"{node.path} has no entries of {name}")
                need(
                    bool(np.isfinite(values).all() and (values > 0).all()),
                    f"{node.path}: {name} is {values.ravel()[:4]}",
                )
        unknown = [name for name in node.data_vars if name.removesuffix("_sem") not in QUANTITIES]
        need(not unknown, f"{node.path} has {unknown}")
    return tree


def trained(both):
    """As `measured`, of a run."""
    params, run = both
    need(
        set(params) == {node.name for node in run.leaves},
        f"weights of {list(params)}, readings of {list(run.children)}",
    )
    measured(run)
    return both


def drawn(figure):
    """A figure with a caption, which a file can be made of."""
    need(bool(str(figure.get_label()).strip()), "a figure without a caption")
    whole = figure if isinstance(figure, plt.Figure) else figure.figure
    whole.savefig(io.BytesIO(), format="png", dpi=20)
    return figure


def same(one, other, words: str = "results", rtol: float = 1e-6) -> None:
    """Both trees hold the same numbers under the same names."""
    numbers = [
        {f"{node.path}/{name}": np.asarray(node[name]) for node in tree.leaves for name in node.data_vars}
        for tree in (one, other)
    ]
    need(set(numbers[0]) == set(numbers[1]), f"{words}: other names, {sorted(set(numbers[0]) ^ set(numbers[1]))[:3]}")
    for name, values in numbers[0].items():
        close = values.shape == numbers[1][name].shape and np.allclose(
            values.astype(float), numbers[1][name].astype(float), rtol=rtol, atol=1e-12, equal_nan=True
        )
        need(close, f"{words}: {name} differs")


def attributes(tree) -> dict:
    """What a tree says of itself, but for when and by what it was made."""
    return {name: value for name, value in tree.attrs.items() if name != "provenance"}
