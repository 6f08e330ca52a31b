"""Figures of Jacobians: spectra of sublayers and their factors, Lyapunov exponents of depth, alignment."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...results.quantities import GEOMETRIC, JACOBIANS
from ..tables import jacobians
from ..tables.profiles import called, described, nodes
from ..text import captions
from .canvas import COLOURS, axes, colours, faded, legend, styled
from .lines import MARKERS, by, curve, legend_above, over, scale

KINDS = dict(zip(MARKERS, COLOURS, strict=False))
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
_PALETTE = colours(JACOBIANS)


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
    ax = axes(ax)
    table = jacobians.spectrum(node, sublayer=sublayer, seed=seed, step=step)
    for factor, rows in by(table, "jacobian"):
        ax.plot(rows["relative_index"], rows["singular_value"], color=_PALETTE[factor], label=WORDS[factor])
    scale(ax, True, 1.0)
    model = called(node)
    ax.set_xlabel("relative index, largest first")
    ax.set_ylabel("singular value")
    ax.set_title(f"{legend(model)}, sublayer {sublayer}{_at(step)}", loc="left")
    ax.legend(loc="lower left")
    lead = f"Singular values of sublayer {sublayer} of {model} and of its factors, seed {seed}{_at(step)}"
    return captions.attached(ax, node, lead, "singular_values", probe=_probe(node), lines="")


@styled
def spectrum_bands(node, *, jacobian="sublayer", step=None, ax=None) -> Axes:
    """Draws singular values against depth: median, 25 to 75% and 5 to 95% of them, and the extremes; one colour a kind."""
    ax = axes(ax)
    table = jacobians.bands(node, jacobian=jacobian, step=step)
    for kind, rows in by(table, "kind"):
        colour = KINDS.get(kind, COLOURS[-1])
        x = rows["sublayer"]
        ax.plot(x, rows["0.5"], color=colour, label=kind)
        ax.fill_between(x, rows["0.25"], rows["0.75"], color=colour, alpha=0.3, linewidth=0)
        ax.fill_between(x, rows["0.05"], rows["0.95"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(x, rows["smallest"], ":", color=colour, linewidth=0.8)
        ax.plot(x, rows["largest"], ":", color=colour, linewidth=0.8)
    scale(ax, True, 1.0)
    over(ax, "sublayer")
    model = called(node)
    ax.set_ylabel(f"singular values,\n{WORDS[jacobian]}")
    ax.set_title(f"{legend(model)}{_at(step)}", loc="left")
    legend_above(ax, columns=table["kind"].nunique())
    lead = (
        f"Singular values of {model}, {WORDS[jacobian]}, against depth{_at(step)}: median, 25 to 75% and 5 to 95% of "
        f"them; dotted: smallest and largest"
    )
    return captions.attached(ax, node, lead, "singular_value_quantiles", probe=_probe(node), lines=captions.LINES)


@styled
def spectral_density(node, *, jacobian="sublayer", sublayers=None, step=None, ax=None) -> Axes:
    """Draws the density of the singular values of a few sublayers: share per tenth of a decade; deeper is darker."""
    ax = axes(ax)
    table = jacobians.density(node, jacobian=jacobian, sublayers=sublayers, step=step)
    deepest = table["sublayer"].max()
    for place in sorted(set(table["sublayer"])):
        rows = table[table["sublayer"] == place]
        kind = rows["kind"].iloc[0]
        shade = faded(KINDS.get(kind, COLOURS[-1]), 0.35 + 0.65 * place / deepest)
        ax.step(rows["sigma"], rows["mean"], where="mid", color=shade, label=f"{kind}, {place}")
    visible = table[table["mean"] > 1e-4]["sigma"]
    ax.set_xscale("log")
    if len(visible):
        ax.set_xlim(visible.min() / 1.3, visible.max() * 1.3)
    ax.axvline(1.0, color="0.6", linewidth=0.6, zorder=0)
    model = called(node)
    ax.set_xlabel(f"singular value, {WORDS[jacobian]}")
    ax.set_ylabel("share per 0.1 decade")
    ax.set_title(f"{legend(model)}{_at(step)}", loc="left")
    legend_above(ax, columns=2)
    lead = f"Density of the singular values of {model}, {WORDS[jacobian]}, by sublayer{_at(step)}"
    return captions.attached(ax, node, lead, "spectral_density", probe=_probe(node), lines=captions.LINES)


@styled
def factors(node, quantity="jacobian_gain", *, step=None, ax=None) -> Axes:
    """Draws one number of the spectrum factor by factor against depth: norm, skip + branch, and their product."""
    ax = axes(ax)
    table = jacobians.factors(node, quantity, step=step)
    for factor, rows in by(table, "jacobian"):
        curve(ax, rows, "sublayer", _PALETTE[factor], WORDS[factor])
    row = described(quantity)
    if row.mean == GEOMETRIC:
        scale(ax, True, 1.0)
    else:
        scale(ax, False, 0.0)
    over(ax, "sublayer")
    unit = f" ({row.units})" if row.units != "1" else ""
    model = called(node)
    ax.set_ylabel(f"{row.long_name}{unit}")
    ax.set_title(f"{legend(model)}{_at(step)}", loc="left")
    legend_above(ax, columns=2)
    lead = f"{row.long_name.capitalize()} of the sublayers of {model}, factor by factor{_at(step)}"
    return captions.attached(ax, node, lead, quantity, probe=_probe(node))


@styled
def exponents(tree, *, step=None, ax=None) -> Axes:
    """Draws the leading Lyapunov exponents of depth in order: above 0 a perturbation grows, below it decays."""
    ax = axes(ax)
    table = jacobians.exponents(tree, step=step)
    palette = colours(nodes(tree))
    for name, rows in by(table, "model"):
        curve(ax, rows, "direction", palette[name], legend(name), marker="o", ms=2.5)
    scale(ax, False, 0.0)
    ax.set_xlabel("leading direction")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("Lyapunov exponent\n(nat per sublayer)")
    ax.set_title(_at(step)[2:], loc="left")
    legend_above(ax, columns=max(1, table["model"].nunique()))
    lead = f"Lyapunov exponents of depth{_at(step)}"
    probe = "probe: random tangents of the first example of the batch, kept orthonormal"
    return captions.attached(ax, tree, lead, "lyapunov_exponent", probe=probe)


@styled
def alignment(tree, *, step=None, ax=None) -> Axes:
    """Draws the leading tangent's share that is the same on all tokens, and the loss cotangent's share along all tangents.

    The legend has a colour for every model, and a kind of line for each of the two shares.
    """
    ax = axes(ax)
    table = jacobians.alignment(tree, step=step)
    palette = colours(nodes(tree))
    styles = {
        "token_mean_share": ("-", "token mean"),
        "cotangent_share": ("--", "cotangent"),
    }
    for name, rows in by(table, "model"):
        label = legend(name)
        if not np.isfinite(rows["mean"]).any():
            label += ": not finite"
        ax.plot([], [], color=palette[name], label=label)
    for quantity, of_quantity in by(table, "quantity"):
        line, words = styles[quantity]
        ax.plot([], [], line, color="0.3", label=words)
        for name, rows in by(of_quantity, "model"):
            curve(ax, rows, "depth", palette[name], HIDDEN, linestyle=line)
    ax.set_yticks((0, 0.25, 0.5, 0.75, 1))
    over(ax, "stream position")
    ax.set_ylabel("share of the squared norm")
    ax.set_title(_at(step)[2:], loc="left")
    legend_above(ax, columns=2)
    lead = (
        f"Leading tangents over depth{_at(step)}: the first one's token-mean share, and the cotangent's share along all"
    )
    probe = "probe: random tangents of the first example of the batch, kept orthonormal, and its loss's gradient"
    return captions.attached(ax, tree, lead, "token_mean_share", "cotangent_share", probe=probe)
