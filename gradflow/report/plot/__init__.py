"""Figures drawn from labelled data: each function takes a tree (or node) and perhaps `ax`, and returns the Axes.

Depth runs left to right, from the input to the output; a quantity that spans decades has a log axis. Nothing is computed here:
numbers come from `tables`. The Axes carry their caption as their label (`ax.get_label()`): quantity, probe and every
condition; `save` writes picture, table and caption. Bottom up: setting, canvas, saving, lines, profiles, jacobians,
theory, experiments, atlas, trunk, published.
"""

from .atlas import atlas
from .canvas import STYLE, WIDTHS, figure
from .experiments import amplification, collapse, outcomes, through
from .jacobians import alignment, exponents, factors, spectral_density, spectrum, spectrum_bands
from .profiles import budget, budget_totals, comparison, heatmap, profile, total_depth, training
from .published import reproduction
from .saving import save
from .theory import agreement, variance
from .trunk import trunk

__all__ = [
    "STYLE",
    "WIDTHS",
    "agreement",
    "alignment",
    "amplification",
    "atlas",
    "budget",
    "budget_totals",
    "collapse",
    "comparison",
    "exponents",
    "factors",
    "figure",
    "heatmap",
    "outcomes",
    "profile",
    "reproduction",
    "save",
    "spectral_density",
    "spectrum",
    "spectrum_bands",
    "through",
    "total_depth",
    "training",
    "trunk",
    "variance",
]
