"""The numbers behind figures and pages, as long tables with a band over seeds; knows results and laws, and draws nothing.

Bottom up: profiles, nonfinite, fits, jacobians, theory, experiments, atlas.
"""

from .profiles import (
    NET,
    at_steps,
    budget_from_top,
    budget_totals,
    called,
    compared,
    context_differences,
    described,
    digits,
    ends,
    heat,
    interval,
    long,
    net_budget,
    nodes,
    profile,
    profiles_of,
    relative,
    signed,
    steps_of,
    total_depth,
    training,
    variable,
)
