"""Adam whose learning rate, ε and decay follow the size of the model, weight by weight: CompleteP, and depth-µP.

With m_N the width and m_L the number of blocks over those of the base model for which rate, ε and decay were chosen,

    weight of the stack      rate                  decay
    matrices                 m_N⁻¹ m_L^(α−1)       λ m_N
    gains, biases            m_L^(α−1)             0
    others: matrices         1                     λ
    others: gains, biases    1                     0

and ε m_N⁻¹ m_L^(−α) for all. Branches are multiplied by m_L^(−α), which is the wiring's: `Gain(OfDepth(1/base, -α))`.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..results.arguments import real
from ..results.configuration import registered
from .optimizers import is_stacked


@registered
@dataclass(frozen=True)
class CompleteP:
    """Adam with decay, by the size of the model (Dey et al. 2025, table 1, and the authors' code, whose groups these are).

    α = 1 is CompleteP, α = ½ depth-µP (Yang et al. 2023, table 1), both with µP in the width. Their weights in the stack are
    fan-in at any width, and logits are multiplied by 1/m_N, which is the readout's to do. Decay is of matrices and tables alone.
    """

    width: float = 1.0
    depth: float = 1.0
    alpha: float = 1.0
    b1: float = 0.9
    b2: float = 0.95
    base_eps: float = 1e-12
    weight_decay: float = 0.0

    def __post_init__(self):
        for name, value in (("width", self.width), ("depth", self.depth), ("base_eps", self.base_eps)):
            real(name, value, above=0)
        for name, value in (("b1", self.b1), ("b2", self.b2)):
            real(name, value, least=0, below=1)
        real("weight_decay", self.weight_decay, least=0)
        if not 0.5 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}: a power from 0.5, depth-µP, to 1, CompleteP")

    @classmethod
    def of(cls, model, base, **constants: float) -> "CompleteP":
        """Returns the rule for a model, where rate and constants were chosen for `base`; both have a width and a depth."""
        return cls(model.width / base.width, model.depth / base.depth, **constants)

    @property
    def eps(self) -> float:
        """Adam's ε at this size."""
        return self.base_eps * self.width**-1 * self.depth**-self.alpha

    def factors(self, path, leaf) -> tuple[float, float]:
        """Returns the factor of the learning rate of a weight, and its decay."""
        if not is_stacked(path):
            return 1.0, self.weight_decay * (jnp.ndim(leaf) > 1)
        by_depth = self.depth ** (self.alpha - 1)
        if jnp.ndim(leaf) < 3:  # the first axis is depth
            return by_depth, 0.0
        return by_depth / self.width, self.weight_decay * self.width

    def direction(self) -> optax.GradientTransformation:
        """Returns the rule at the base model's learning rate 1."""
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)
        return optax.chain(adam, optax.GradientTransformation(_stateless, self._by_size))

    def _by_size(self, updates, state, params: Any = None):
        def of_leaf(path, update, weight):
            rate, decay = self.factors(path, weight)
            return -rate * (update + decay * weight)

        return jax.tree_util.tree_map_with_path(of_leaf, updates, params), state


def _stateless(params):
    return optax.EmptyState()
