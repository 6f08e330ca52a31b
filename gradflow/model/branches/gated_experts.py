"""Experts whose shared one is behind a gate: `y_t = Σ_e g_te f_e(x_t) + σ(⟨w, x_t⟩) f_shared(x_t)` (Qwen Team 2024, Qwen1.5-MoE).

What is here agrees with an independent library, see the tests: qwen3_next in transformers. Axes: x is [T, d].
"""

from dataclasses import dataclass, replace

import jax

from ...results.arguments import real
from ...results.configuration import registered
from ..parameters.keys import at
from .branch import GatedFeedForward, linear
from .experts import Experts


@registered
@dataclass(frozen=True)
class GatedShareExperts(Experts):
    """Experts, and one of hidden width `shared_ratio · d` that every token goes through, as far as a sigmoid lets it."""

    shared_ratio: float = 2 / 3

    def __post_init__(self):
        real("shared_ratio", self.shared_ratio, above=0)

    def always(self) -> GatedFeedForward:
        """Returns what every token goes through."""
        return replace(self.expert(), ratio=self.shared_ratio)

    def init(self, key, width: int):
        """Returns the parameters of experts, and `{"share": Linear}`, which has one output."""
        share = linear(at(key, "share"), self.weights, "share", width, 1, width, False)
        return {**super().init(key, width), "share": share}

    def of_all(self, params, x):
        """Returns what the shared expert puts out, behind its gate [T, d]."""
        return jax.nn.sigmoid(params["share"](x)) * super().of_all(params, x)
