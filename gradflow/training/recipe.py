"""Recipes: the optimizer, its learning rate through time, clipping and dropout, as one value.

    W' = W + rate(s) · direction(clipped gradient)

`direction` is an optax transformation at learning rate 1, `rate` the schedule, a number for each step. Since every rule
here ends by multiplying with the learning rate, this is the optimizer of that name; and as the rate is a number handed to
the compiled step, runs that differ in learning rate, warm-up or schedule share one program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..model.numerics.precision import in_float32
from ..results.arguments import known, real, whole
from ..results.configuration import registered
from .optimizers import OPTIMIZERS, Adam, Optimizer, WithEps, is_rule, is_stacked, named

MOST = 2**31 - 1  # steps: optimizers count them in int32


def _constant(warmup: int, steps: int) -> optax.Schedule:
    return optax.constant_schedule(1.0)


def _linear(warmup: int, steps: int) -> optax.Schedule:
    return optax.linear_schedule(1.0, 0.0, max(1, steps - warmup))


def _cosine(warmup: int, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(1.0, max(1, steps - warmup))


def _inverse_sqrt(warmup: int, steps: int) -> optax.Schedule:
    """Vaswani et al. 2017, eq. 3, with its peak at lr; they count steps from 1."""

    def schedule(step):
        return (max(1, warmup) / (step + warmup + 1)) ** 0.5

    return schedule


# Shapes after the warm-up, at peak 1: functions of the warm-up's length and the number of steps.
SCHEDULES: dict[str, Callable[[int, int], optax.Schedule]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "inverse_sqrt": _inverse_sqrt,
}


@registered
@dataclass(frozen=True)
class Recipe:
    """The optimizer, its learning rate through time, clipping and dropout.

    optimizer : a name in `OPTIMIZERS`, kept as the value that it names, a value such as `Adam(b2=0.98)`, or any optax
        transformation at learning rate 1
    lr : the peak learning rate; 1 for an optax transformation with a rate of its own
    warmup : steps over which the rate rises linearly, `lr · (s + 1)/warmup`; 0 for none
    schedule : the rate after it: "constant", or "linear" and "cosine" to zero at the last step, or "inverse_sqrt"
    clip : largest norm of the whole gradient, or None (Pascanu et al. 2013, algorithm 1)
    clip_parameter : largest norm of each parameter's gradient, layer by layer, or None
    dropout : share of each branch's output, and of the embedding, put to zero in training (Vaswani et al. 2017, section 5.4)
    attention_dropout : share of attention's probabilities put to zero in training (as in the code of BERT and GPT-2)
    """

    optimizer: str | Optimizer | optax.GradientTransformation = "adam"
    lr: float = 1e-3
    warmup: int = 0
    schedule: str = "constant"
    clip: float | None = None
    clip_parameter: float | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self):
        if isinstance(self.optimizer, str):  # a name and its value make equal recipes
            object.__setattr__(self, "optimizer", named(self.optimizer))
        elif not is_rule(self.optimizer):
            raise TypeError(
                f"optimizer is {self.optimizer!r}: give a name ({', '.join(OPTIMIZERS)}), a value such as Adam(b2=0.98), or an "
                f"optax transformation"
            )
        known("schedule", self.schedule, SCHEDULES)
        real("lr", self.lr, above=0)
        for name, largest in (("clip", self.clip), ("clip_parameter", self.clip_parameter)):
            if largest is not None:
                real(name, largest, above=0)
        whole("warmup", self.warmup, least=0, most=MOST)
        real("dropout", self.dropout, least=0, below=1)
        real("attention_dropout", self.attention_dropout, least=0, below=1)

    @classmethod
    def original(cls, width: int = 512, warmup: int = 4000, dropout: float = 0.1) -> "Recipe":
        """Returns the recipe of the original Transformer.

        Its Adam, and `rate = d^(−1/2) · min(n^(−1/2), n · warmup^(−3/2))` at step n = 1, 2, …

        (Vaswani et al. 2017, eq. 3 and section 5.3.) The peak is `(d · warmup)^(−1/2)`; dropout is 0.3 for the big model. Label
        smoothing is the model's.

        >>> Recipe.original().rates(10)[:2].tolist()
        [1.746...e-07, 3.493...e-07]
        """
        width, warmup = whole("width", width), whole("warmup", warmup, most=MOST)
        return cls(Adam(0.9, 0.98, 1e-9), (width * warmup) ** -0.5, warmup, "inverse_sqrt", dropout=dropout)

    def direction(self) -> optax.GradientTransformation:
        """Returns clipping and the optimizer at learning rate 1; the same object for equal recipes, to share programs."""
        return _direction(self.optimizer, self.clip, self.clip_parameter)  # type: ignore[arg-type]

    @property
    def eps(self) -> float | None:
        """Returns Adam's ε, where the optimizer is a value that has one."""
        return self.optimizer.eps if isinstance(self.optimizer, WithEps) else None

    def rates(self, steps: int) -> np.ndarray:
        """Returns the learning rate at steps 0 … steps − 1, float32."""
        after_warmup = SCHEDULES[self.schedule](self.warmup, steps)
        rising = [(step + 1) / self.warmup for step in range(min(self.warmup, steps))]
        following = [after_warmup(step) for step in range(steps - len(rising))]
        return np.asarray(rising + following, np.float32) * np.float32(self.lr)


def recipe(optimizer) -> Recipe:
    """Returns a recipe unchanged; an optax transformation, whose learning rate is its own, as a recipe of rate 1.

    A name or a value such as `Adam()` has no rate of its own: a recipe with the default one.
    """
    if isinstance(optimizer, Recipe):
        return optimizer
    if isinstance(optimizer, optax.GradientTransformation):
        return Recipe(optimizer, lr=1.0)
    return Recipe(optimizer)


@lru_cache
def _direction(rule, clip: float | None, clip_parameter: float | None) -> optax.GradientTransformation:
    links = []
    if clip_parameter:
        links.append(clip_by_parameter(clip_parameter))
    if clip:
        links.append(optax.clip_by_global_norm(clip))
    if not isinstance(rule, optax.GradientTransformation):
        rule = rule.direction()
    if not links:
        return rule
    return optax.chain(*links, rule)


def clip_by_parameter(largest: float) -> optax.GradientTransformation:
    """Returns `g · min(1, largest/‖g‖)` for each parameter by itself; in the stack layer by layer."""

    def clipped(g):
        norm = jnp.linalg.norm(in_float32(g))
        scale = jnp.minimum(1, largest / jnp.where(norm > 0, norm, 1))
        return (g * scale).astype(g.dtype)

    def init(params):
        return optax.EmptyState()

    def of_leaf(path, g):
        return jax.vmap(clipped)(g) if is_stacked(path) else clipped(g)

    def update(updates, state, params=None):
        return jax.tree_util.tree_map_with_path(of_leaf, updates), state

    return optax.GradientTransformation(init, update)
