"""Figures of Jacobians: spectra of sublayers and their factors, Lyapunov exponents of depth, alignment."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...results.quantities import GEOMETRIC, JACOBIANS
from ..tables import jacobians
from ..tables.profiles import called, described, nodes
from ..text import captions
from .canvas import axes, legend, styled
from .legends import legend_above
from .lines import by, check_drawable, curve
from .looks import GUIDE, Look, looks, named
from .scales import over, readable_ticks, scale

WORDS = {
    "norm_in": "norm before branch",
    "branch": "branch",
    "norm_branch": "norm after branch",
    "branch_term": "norm and branch",
    "fork": "skip + branch",
    "norm_out": "norm on the path",
    "sublayer": "whole sublayer",
}
HIDDEN = "_"  # a label that matplotlib leaves out of the legend
_PALETTE = looks(JACOBIANS)
_KINDS = looks(("attention", "mlp", "other"))


def _of_kind(kind: str) -> Look:
    """Returns the look of a kind of sublayer."""
    return _KINDS.get(kind, _KINDS["other"])


def _at(step) -> str:
    """Returns `, step 3`; nothing where there are no steps."""
    return "" if step is None else f", step {step}"


def _probe(node) -> str:
    """Returns the part of a caption that says how the spectra were computed."""
    probes = int(node["spectrum_probes"].max()) if "spectrum_probes" in node else 0
    computed = "exact"
    if probes:
        computed = f"exact, or from {probes} random probes where too large to be"
    return f"spectra: of the first example of the batch, {computed}"


@styled
def spectrum(node, *, sublayer: int, seed: int = 0, step=None, ax=None) -> Axes:
    """Draws singular values of one sublayer and of its factors, largest first, on the spaces where they act."""
    table = jacobians.spectrum(node, sublayer=sublayer, seed=seed, step=step)
    ax = axes(ax)
    for factor, rows in by(table, "jacobian"):
        look = _PALETTE[factor]
        every = max(1, len(rows) // 8)
        style: dict[str, Any] = {"marker": look.marker, "ms": 3, "markevery": every, "label": WORDS[factor]}
        ax.plot(rows["relative_index"], rows["singular_value"], color=look.colour, linestyle=look.dash, **style)
    scale(ax, True, 1.0)
    model = called(node)
    ax.set_xlabel("relative index, largest first")
    ax.set_ylabel("singular value")
    legend_above(ax, columns=2, title=f"{legend(model)}, sublayer {sublayer}{_at(step)}")
    lead = f"Singular values of sublayer {sublayer} of {model} and of its factors, seed {seed}{_at(step)}"
    return captions.attached(ax, node, lead, "singular_values", probe=_probe(node), lines="")


@styled
def spectrum_bands(node, *, jacobian="sublayer", step=None, ax=None) -> Axes:
    """Draws singular values against depth: median, 25 to 75% and 5 to 95% of them, and the extremes; one colour a kind."""
    table = jacobians.bands(node, jacobian=jacobian, step=step)
    model = called(node)
    check_drawable(table, f"the spectra of {model}")
    ax = axes(ax)
    for kind, rows in by(table, "kind"):
        look = _of_kind(kind)
        colour = look.colour
        x = rows["sublayer"]
        ax.plot(x, rows["0.5"], color=colour, linestyle=look.dash, marker=look.marker, ms=3, label=kind)
        ax.fill_between(x, rows["0.25"], rows["0.75"], color=colour, alpha=0.3, linewidth=0)
        ax.fill_between(x, rows["0.05"], rows["0.95"], color=colour, alpha=0.15, linewidth=0)
        for extreme in ("smallest", "largest"):
            ax.plot(x, rows[extreme], GUIDE, color=colour, linewidth=0.8, marker=look.marker, ms=1.5)
    scale(ax, True, 1.0)
    over(ax, "sublayer")
    ax.set_ylabel(f"singular values,\n{WORDS[jacobian]}")
    legend_above(ax, columns=table["kind"].nunique(), title=f"{legend(model)}{_at(step)}")
    lead = (
        f"Singular values of {model}, {WORDS[jacobian]}, against depth{_at(step)}: median, 25 to 75% and 5 to 95% of "
        f"them; dotted: smallest and largest"
    )
    return captions.attached(ax, node, lead, "singular_value_quantiles", probe=_probe(node), lines=captions.LINES)


@styled
def spectral_density(node, *, jacobian="sublayer", sublayers=None, step=None, ax=None) -> Axes:
    """Draws the density of the singular values of a few sublayers: share per tenth of a decade; deeper is darker."""
    table = jacobians.density(node, jacobian=jacobian, sublayers=sublayers, step=step)
    model = called(node)
    check_drawable(table, f"the spectral density of {model}")
    ax = axes(ax)
    deepest = table["sublayer"].max()
    for place in sorted(set(table["sublayer"])):
        rows = table[table["sublayer"] == place]
        kind = rows["kind"].iloc[0]
        look = _of_kind(kind).at(0.4 + 0.6 * place / deepest)
        style = {"color": look.colour, "linestyle": look.dash, "label": f"{kind}, {place}"}
        ax.step(rows["sigma"], rows["mean"], where="mid", **style)
    visible = table[table["mean"] > 1e-4]["sigma"]
    ax.set_xscale("log")
    if len(visible):
        ax.set_xlim(visible.min() / 1.3, visible.max() * 1.3)
    low, high = ax.get_xlim()
    if low <= 1 <= high:
        ax.axvline(1.0, color="0.6", linewidth=0.6, zorder=0)
    readable_ticks(ax)
    ax.set_xlabel(f"singular value, {WORDS[jacobian]}")
    ax.set_ylabel("share per 0.1 decade")
    legend_above(ax, columns=2, title=f"{legend(model)}{_at(step)}")
    lead = f"Density of the singular values of {model}, {WORDS[jacobian]}, by sublayer{_at(step)}"
    return captions.attached(ax, node, lead, "spectral_density", probe=_probe(node), lines=captions.LINES)


@styled
def factors(node, quantity="jacobian_gain", *, step=None, ax=None) -> Axes:
    """Draws one number of the spectrum factor by factor against depth: norm, skip + branch, and their product."""
    table = jacobians.factors(node, quantity, step=step)
    model = called(node)
    check_drawable(table, f"the {described(quantity).long_name} of {model}")
    ax = axes(ax)
    for factor, rows in by(table, "jacobian"):
        curve(ax, rows, "sublayer", _PALETTE[factor], WORDS[factor], of=table)
    row = described(quantity)
    if row.mean == GEOMETRIC:
        scale(ax, True, 1.0)
    else:
        scale(ax, False, 0.0)
    over(ax, "sublayer")
    unit = f" ({row.units})" if row.units != "1" else ""
    ax.set_ylabel(f"{row.long_name}{unit}")
    legend_above(ax, columns=3, title=f"{legend(model)}{_at(step)}", key=table)
    lead = f"{row.long_name.capitalize()} of the sublayers of {model}, factor by factor{_at(step)}"
    return captions.attached(ax, node, lead, quantity, probe=_probe(node))


@styled
def exponents(tree, *, step=None, labels=None, colours=None, ax=None) -> Axes:
    """Draws the leading Lyapunov exponents of depth in order: above 0 a perturbation grows, below it decays."""
    table = jacobians.exponents(tree, step=step)
    check_drawable(table, "the Lyapunov exponents")
    ax = axes(ax)
    palette, texts = looks(nodes(tree), ax, colours), named(nodes(tree), labels)
    for name, rows in by(table, "model"):
        curve(ax, rows, "direction", palette[name], legend(texts[name]))
    scale(ax, False, 0.0)
    ax.set_xlabel("leading direction")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("Lyapunov exponent\n(nat per sublayer)")
    legend_above(ax, columns=max(1, table["model"].nunique()), title=_at(step)[2:])
    lead = f"Lyapunov exponents of depth{_at(step)}"
    probe = "probe: random tangents of the first example of the batch, kept orthonormal"
    return captions.attached(ax, tree, lead, "lyapunov_exponent", probe=probe)


@styled
def alignment(tree, *, step=None, labels=None, colours=None, ax=None) -> Axes:
    """Draws the leading tangent's share that is the same on all tokens, and the loss cotangent's share along all tangents.

    The legend has a colour and a marker for every model, and a kind of line for each of the two shares.
    """
    table = jacobians.alignment(tree, step=step)
    check_drawable(table, "the alignment")
    ax = axes(ax)
    palette, texts = looks(nodes(tree), ax, colours), named(nodes(tree), labels)
    styles = {
        "token_mean_share": ("-", "token mean"),
        "cotangent_share": ("--", "cotangent"),
    }
    for name, rows in by(table, "model"):
        label = legend(texts[name])
        if not np.isfinite(rows["mean"]).any():
            label += ": not finite"
        ax.plot([], [], color=palette[name].colour, linestyle="", marker=palette[name].marker, ms=3.5, label=label)
    for quantity, of_quantity in by(table, "quantity"):
        line, words = styles[quantity]
        ax.plot([], [], line, color="0.3", label=words)
        for name, rows in by(of_quantity, "model"):
            curve(ax, rows, "depth", palette[name], HIDDEN, of=table, linestyle=line)
    readable_ticks(ax)
    over(ax, "stream position")
    ax.set_ylabel("share of the squared norm")
    legend_above(ax, columns=2, title=_at(step)[2:], key=table)
    lead = (
        f"Leading tangents over depth{_at(step)}: the first one's token-mean share, and the cotangent's share along all"
    )
    probe = "probe: random tangents of the first example of the batch, kept orthonormal, and its loss's gradient"
    return captions.attached(ax, tree, lead, "token_mean_share", "cotangent_share", probe=probe)
