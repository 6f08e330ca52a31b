"""The numbers behind figures and pages, as long tables with a band over seeds; knows results and laws, and draws nothing.

Bottom up: steps, profiles, budget, nonfinite, fits, outcome, jacobians, attention, activations,
removal, precision, extremes, numbers, theory, experiments, growth, coordinates, atlas, atlas_page, ways.
"""

from .budget import NET, budget_from_top, budget_totals, ends, net_budget
from .profiles import (
    are_logs,
    called,
    compared,
    context_differences,
    described,
    digits,
    heat,
    heat_limits,
    interval,
    long,
    nodes,
    places,
    profile,
    profiles_of,
    relative,
    signed,
    similarity,
    total_depth,
    training,
    variable,
)
from .steps import at_step, at_steps, shown_steps, steps_of
