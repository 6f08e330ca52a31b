"""Readings by their names: pure functions `(model, params, batch) -> {quantity: array}`, whose arrays `results.label` labels."""

from collections.abc import Callable, Iterable, Mapping

from ..model.stacks.transformer import check_precision
from ..results.arguments import known as one_of
from ..results.quantities import by_what_they_yield, listed
from . import composite, rounding
from .backward import gradients, noise
from .forward import activations, attention, experts, removal, similarity
from .jacobians import chain, spectrum

Reading = Callable[..., dict]

# What can be asked for by name: these, and every quantity that one of them yields.
READINGS: dict[str, Reading] = {
    "backward": gradients.reading,
    "economy": gradients.economy,
    "rematerialized": gradients.rematerialized,
    "parameter_gradient_per_example": noise.per_example,
    "heldout_loss": gradients.heldout_loss,
    "partial_jacobian": chain.partial_jacobian,
    "spectrum": spectrum.spectrum,
    "spectrum_window": spectrum.window,
    "lyapunov": chain.lyapunov,
    "alignment": chain.alignment,
    "end_to_end": chain.end_to_end,
    "composite_gain": composite.gain,
    "expert_load": experts.load,
    "similarity": similarity.between_positions,
    "attention": attention.by_head,
    "activations": activations.massive,
    "layer_removal": removal.removal,
    "rounding": rounding.rounding,
}


def readings(quantities: str | Iterable[str | Reading], known: Mapping[str, Reading] = READINGS) -> tuple[Reading, ...]:
    """Returns the reading functions behind names, of readings or of what they yield; a reading function passes through."""
    if callable(quantities):
        return (quantities,)
    functions = by_what_they_yield(known)
    chosen = []
    for quantity in listed(quantities):
        if callable(quantity):
            chosen.append(quantity)
        else:
            chosen.append(functions[one_of("reading", quantity, known, also=functions)])
    if rounding.rounding in chosen:
        check_precision(rounding.EXACT)
    return tuple(dict.fromkeys(chosen))


def name_of(reading, known: Mapping = READINGS) -> str:
    """Returns the name by which a reading is asked for; of a function of one's own its own name."""
    for name, one in known.items():
        if one is reading:
            return name
    return own_name(reading)


def own_name(function) -> str:
    """Returns a function's own name; of an object that is called that of its type."""
    return getattr(function, "__name__", type(function).__name__)
