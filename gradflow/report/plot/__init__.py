"""Figures drawn from labelled data: each function takes a tree (or node) and perhaps `ax`, and returns the Axes.

Depth runs left to right, from the input to the output; a quantity that spans decades has a log axis. Nothing is computed here:
numbers come from `tables`. The Axes carry their caption as their label (`ax.get_label()`): quantity, probe and every
condition; `save` writes picture, table and caption. Bottom up: setting, canvas, saving, looks, scales, lines, legends, profiles,
budgets, maps, training, jacobians, theory, experiments, layers,
attention, activations, removal, precision, atlas, trunk, published.
"""

from .activations import massive
from .atlas import atlas
from .attention import attention, heads
from .budgets import budget, budget_totals
from .canvas import STYLE, WIDTHS, figure
from .experiments import amplification, collapse, outcomes, through
from .jacobians import alignment, exponents, factors, spectral_density, spectrum, spectrum_bands
from .layers import coordinate_check, similarity, variance_growth
from .maps import heatmap
from .precision import precision
from .profiles import profile
from .published import reproduction
from .removal import removal
from .saving import save
from .theory import agreement, variance
from .training import comparison, total_depth, training
from .trunk import trunk

__all__ = [
    "STYLE",
    "WIDTHS",
    "agreement",
    "alignment",
    "amplification",
    "atlas",
    "attention",
    "budget",
    "budget_totals",
    "collapse",
    "comparison",
    "coordinate_check",
    "exponents",
    "factors",
    "figure",
    "heads",
    "heatmap",
    "massive",
    "outcomes",
    "precision",
    "profile",
    "removal",
    "reproduction",
    "save",
    "similarity",
    "spectral_density",
    "spectrum",
    "spectrum_bands",
    "through",
    "total_depth",
    "training",
    "trunk",
    "variance",
    "variance_growth",
]
