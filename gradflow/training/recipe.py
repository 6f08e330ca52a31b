"""Recipes: how weights are updated, as one value: an optimizer, its learning rate through time, clipping and dropout.

    W' = W + rate(s) · direction(clipped gradient)

`direction` is an optax transformation at learning rate 1, `rate` the schedule, a number for each step. Since every rule
here ends by multiplying with the learning rate, this is the optimizer of that name; and as the rate is a number handed to
the compiled step, runs that differ in learning rate, warm-up or schedule share one program.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon

from ..model.init import at, root
from ..results.configuration import registered, suggestions


class Optimizer(Protocol):
    """A rule that turns gradients into the direction of an update."""

    def direction(self) -> optax.GradientTransformation:
        """The rule at learning rate 1."""
        ...


@registered
@dataclass(frozen=True)
class SGD:
    """`−m`, `m ← momentum · m + g`; plain gradient descent at momentum 0."""

    momentum: float = 0.0
    nesterov: bool = False

    def direction(self) -> optax.GradientTransformation:
        """`optax.sgd` at learning rate 1."""
        return optax.sgd(1.0, momentum=self.momentum or None, nesterov=self.nesterov)


@registered
@dataclass(frozen=True)
class Adam:
    """`−m̂/(√v̂ + eps)` (Kingma and Ba 2015, algorithm 1), minus `weight_decay · W` (Loshchilov and Hutter 2019, algorithm 2)."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def direction(self) -> optax.GradientTransformation:
        """`optax.adamw` at learning rate 1; Adam where nothing decays."""
        return optax.adamw(1.0, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay)


@registered
@dataclass(frozen=True)
class Lion:
    """`−sign(b1 · m + (1 − b1) · g) − weight_decay · W` (Chen et al. 2023, algorithm 2)."""

    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 0.0

    def direction(self) -> optax.GradientTransformation:
        """`optax.lion` at learning rate 1."""
        return optax.lion(1.0, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay)


@registered
@dataclass(frozen=True)
class RMSProp:
    """`−g/(√v + eps)`, `v ← decay · v + (1 − decay) · g²`; eps outside the root, as in Adam."""

    decay: float = 0.9
    eps: float = 1e-8

    def direction(self) -> optax.GradientTransformation:
        """`optax.rmsprop` at learning rate 1."""
        return optax.rmsprop(1.0, decay=self.decay, eps=self.eps, eps_in_sqrt=False)


@registered
@dataclass(frozen=True)
class Muon:
    """Momentum made orthogonal, for the matrices of the stack, layer by layer (Jordan et al. 2024).

    Adam for all else, with Nesterov's momentum as optax has it there.
    """

    beta: float = 0.95
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def direction(self) -> optax.GradientTransformation:
        """`optax.contrib.muon` at learning rate 1."""
        return muon(
            1.0,
            beta=self.beta,
            eps=self.eps,
            adam_b1=self.b1,
            adam_b2=self.b2,
            muon_weight_dimension_numbers=_stacked_matrices,
        )


@registered
@dataclass(frozen=True)
class Noise:
    """`rms(W) · N(0, 1)` for the entries of every weight, layer by layer: a random perturbation, whatever the gradient.

    At learning rate ε it changes every weight by the share ε (Liu et al. 2020, section 4.2). All seeds get the same draws.
    """

    key: int = 0

    def direction(self) -> optax.GradientTransformation:
        """Another draw at every update; the state is their number."""

        def update(updates, count, params=None):
            places, form = jax.tree_util.tree_flatten_with_path(params)
            keys = jax.random.split(at(root(self.key), count), len(places))
            drawn = [
                _rms(path, w) * jax.random.normal(k, w.shape, w.dtype)
                for k, (path, w) in zip(keys, places, strict=True)
            ]
            return jax.tree.unflatten(form, drawn), optax.safe_increment(count)

        return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def _rms(path, weight):
    """Root mean square of a weight, of each layer where it is stacked."""
    axes = tuple(range(int(path[0].key == "stack"), weight.ndim))
    return jnp.sqrt(jnp.mean(jnp.square(weight), axis=axes, keepdims=True))


OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Adam(),
    "adamw": Adam(weight_decay=0.01),
    "lion": Lion(),
    "muon": Muon(),
    "rmsprop": RMSProp(),
    "sgd": SGD(),
}


def _stacked_matrices(params):
    """Which leaves Muon takes: matrices stacked over depth, [layers, in, out]."""
    inside = lambda path, leaf: path[0].key == "stack" and jnp.ndim(leaf) == 3
    axes = MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return jax.tree_util.tree_map_with_path(lambda path, leaf: axes if inside(path, leaf) else None, params)


# ---- learning rates -----------------------------------------------------------------------------------------
# Shapes after the warm-up, at peak 1: functions of the warm-up's length and the number of steps.
SCHEDULES: dict[str, Callable[[int, int], optax.Schedule]] = {
    "constant": lambda warmup, steps: optax.constant_schedule(1.0),
    "linear": lambda warmup, steps: optax.linear_schedule(1.0, 0.0, max(1, steps - warmup)),
    "cosine": lambda warmup, steps: optax.cosine_decay_schedule(1.0, max(1, steps - warmup)),
    # Vaswani et al. 2017, eq. 3, with its peak at lr; they count steps from 1.
    "inverse_sqrt": lambda warmup, steps: lambda step: (max(1, warmup) / (step + warmup + 1)) ** 0.5,
}


@registered
@dataclass(frozen=True)
class Recipe:
    """How weights are updated.

    optimizer : a name in `OPTIMIZERS`, a value such as `Adam(b2=0.98)`, or any optax transformation at learning rate 1
    lr : the peak learning rate
    warmup : steps over which the rate rises linearly, `lr · (s + 1)/warmup`; 0 for none
    schedule : what follows: "constant", or "linear" and "cosine" to zero at the last step, or "inverse_sqrt"
    clip : largest norm of the whole gradient, or None (Pascanu et al. 2013, algorithm 1)
    clip_parameter : largest norm of each parameter's gradient, layer by layer, or None
    dropout : share of each branch's output, and of the embedding, put to zero in training (Vaswani et al. 2017, section 5.4)
    """

    optimizer: str | Optimizer | optax.GradientTransformation = "adam"
    lr: float = 1e-3
    warmup: int = 0
    schedule: str = "constant"
    clip: float | None = None
    clip_parameter: float | None = None
    dropout: float = 0.0

    def __post_init__(self):
        if isinstance(self.optimizer, str):
            named(self.optimizer)
        elif not _is_rule(self.optimizer):
            raise TypeError(
                f"optimizer is {self.optimizer!r}: give a name ({', '.join(OPTIMIZERS)}), a value such as Adam(b2=0.98), or an "
                f"optax transformation"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(f"no schedule {self.schedule!r}: {suggestions(self.schedule, SCHEDULES)}")
        for name in ("lr", "clip", "clip_parameter"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}: a positive number is needed")
        if self.warmup < 0:
            raise ValueError(f"warmup is {self.warmup}: a number of steps, or 0 for none, is needed")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: a share from 0 to below 1 is needed")

    def direction(self) -> optax.GradientTransformation:
        """Clipping and the optimizer at learning rate 1; the same object for equal recipes, so that programs are shared."""
        return _direction(self.optimizer, self.clip, self.clip_parameter)  # type: ignore[arg-type]

    @property
    def eps(self) -> float | None:
        """Adam's ε, where the optimizer is a value that has one."""
        rule = OPTIMIZERS[self.optimizer] if isinstance(self.optimizer, str) else self.optimizer
        return getattr(rule, "eps", None)

    def rates(self, steps: int) -> np.ndarray:
        """The learning rate at steps 0 … steps − 1, float32."""
        after = SCHEDULES[self.schedule](self.warmup, steps)
        rising = [(step + 1) / self.warmup for step in range(min(self.warmup, steps))]
        return np.asarray([*rising, *(after(s) for s in range(steps - len(rising)))], np.float32) * np.float32(self.lr)


def named(name: str, **constants: float) -> Optimizer:
    """The optimizer of that name, with some of its constants changed."""
    if name not in OPTIMIZERS:
        raise ValueError(f"no optimizer {name!r}: {suggestions(name, OPTIMIZERS)}")
    own = [field.name for field in dataclasses.fields(OPTIMIZERS[name])]  # type: ignore[arg-type]
    strange = [constant for constant in constants if constant not in own]
    if strange:
        raise ValueError(f"{name} has no {strange[0]}: its constants are {', '.join(own)}")
    return dataclasses.replace(OPTIMIZERS[name], **constants)  # type: ignore[type-var]


def recipe(optimizer) -> Recipe:
    """A recipe as it is; an optax transformation, whose learning rate is its own, as a recipe of rate 1.

    A name or a value such as `Adam()` has no rate of its own: a recipe with the default one.
    """
    if isinstance(optimizer, Recipe):
        return optimizer
    return Recipe(optimizer, lr=1.0) if isinstance(optimizer, optax.GradientTransformation) else Recipe(optimizer)


def _is_rule(optimizer) -> bool:
    value = not isinstance(optimizer, type)  # not `Adam` in the place of `Adam()`
    return isinstance(optimizer, optax.GradientTransformation) or (value and hasattr(optimizer, "direction"))


@lru_cache
def _direction(optimizer, clip: float | None, clip_parameter: float | None) -> optax.GradientTransformation:
    rule = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    links = [
        *([clip_by_parameter(clip_parameter)] if clip_parameter else []),
        *([optax.clip_by_global_norm(clip)] if clip else []),
        rule if isinstance(rule, optax.GradientTransformation) else rule.direction(),
    ]
    return optax.chain(*links) if len(links) > 1 else links[0]


def clip_by_parameter(largest: float) -> optax.GradientTransformation:
    """`g · min(1, largest/‖g‖)` for each parameter apart; what lies in the stack layer by layer."""

    def clipped(g):
        norm = jnp.linalg.norm(g.astype(jnp.promote_types(g.dtype, jnp.float32)))
        return (g * jnp.minimum(1, largest / jnp.where(norm > 0, norm, 1))).astype(g.dtype)

    def update(updates, state, params=None):
        outside = {name: jax.tree.map(clipped, tree) for name, tree in updates.items() if name != "stack"}
        return {**outside, "stack": jax.tree.map(jax.vmap(clipped), updates["stack"])}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
