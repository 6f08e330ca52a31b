"""Readings by their names: pure functions `(model, params, batch) -> {quantity: array}`, whose arrays `results.label` labels."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ..model.inputs.context import context_of
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


# What is read of real tokens alone. A Jacobian is a map of all tokens of the first example: cut that one to its own.
OF_PADDED = (
    gradients.reading,
    gradients.economy,
    gradients.rematerialized,
    noise.per_example,
    gradients.heldout_loss,
    removal.removal,
    attention.by_head,
    activations.massive,
    similarity.between_positions,
    experts.load,
)


def check_padding(chosen: Iterable[Reading], batch) -> None:
    """Refuses readings, of those of this table, that would count padding among the tokens."""
    texts = context_of(batch["inputs"]).get("texts")
    if texts is None or not bool((np.asarray(texts) < 0).any()):
        return
    for reading in chosen:
        if reading in READINGS.values() and reading not in OF_PADDED:
            raise ValueError(
                f"{name_of(reading)} counts padding among the tokens: cut examples to one length, or ask for "
                f"{', '.join(name_of(one) for one in OF_PADDED)}"
            )


def name_of(reading, known: Mapping = READINGS) -> str:
    """Returns the name by which a reading is asked for; of a function of one's own its own name."""
    for name, one in known.items():
        if one is reading:
            return name
    return own_name(reading)


def own_name(function) -> str:
    """Returns a function's own name; of an object that is called that of its type."""
    return getattr(function, "__name__", type(function).__name__)
