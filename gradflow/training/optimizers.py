"""Optimizers as values: optax's, with their constants, each at learning rate 1, so that the rate is left to a recipe."""

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon

from ..model.parameters.initializers import normal
from ..model.parameters.keys import at, root
from ..results.arguments import known, real
from ..results.configuration import registered


class Optimizer(Protocol):
    """A rule that turns gradients into the direction of an update."""

    def direction(self) -> optax.GradientTransformation:
        """The rule at learning rate 1."""
        ...


SHARES = ("momentum", "b1", "b2", "decay", "beta")  # constants of a running mean, from 0 to below 1


def _check_constants(rule) -> None:
    """Refuses constants with which a rule is none: shares outside 0 … 1, an eps or a decay that is negative or no number."""
    for field in dataclasses.fields(rule):
        if field.name in SHARES:
            real(field.name, getattr(rule, field.name), least=0, below=1)
        elif field.name == "eps":  # at 0 a gradient that is zero makes an update that is none, 0/0
            real(field.name, getattr(rule, field.name), above=0)
        elif field.name == "weight_decay":
            real(field.name, getattr(rule, field.name), least=0)


@registered
@dataclass(frozen=True)
class SGD:
    """`−m`, `m ← momentum · m + g`; plain gradient descent at momentum 0."""

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        _check_constants(self)

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

    def __post_init__(self):
        _check_constants(self)

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

    def __post_init__(self):
        _check_constants(self)

    def direction(self) -> optax.GradientTransformation:
        """`optax.lion` at learning rate 1."""
        return optax.lion(1.0, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay)


@registered
@dataclass(frozen=True)
class RMSProp:
    """`−g/(√v + eps)`, `v ← decay · v + (1 − decay) · g²`; eps outside the root, as in Adam."""

    decay: float = 0.9
    eps: float = 1e-8

    def __post_init__(self):
        _check_constants(self)

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

    def __post_init__(self):
        _check_constants(self)

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
                _rms(path, w) * normal(k, *w.shape).astype(w.dtype) for k, (path, w) in zip(keys, places, strict=True)
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


def named(name: str, **constants: float) -> Optimizer:
    """The optimizer of that name, with some of its constants changed."""
    known("optimizer", name, OPTIMIZERS)
    own = [field.name for field in dataclasses.fields(OPTIMIZERS[name])]  # type: ignore[arg-type]
    strange = [constant for constant in constants if constant not in own]
    if strange:
        raise ValueError(f"{name} has no {strange[0]}: its constants are {', '.join(own)}")
    return dataclasses.replace(OPTIMIZERS[name], **constants)  # type: ignore[type-var]


def is_rule(optimizer) -> bool:
    """Whether it can stand in a recipe: an optimizer's value, or an optax transformation."""
    value = not isinstance(optimizer, type)  # not `Adam` in the place of `Adam()`
    return isinstance(optimizer, optax.GradientTransformation) or (value and hasattr(optimizer, "direction"))


def direction_of(rule: optax.GradientTransformation, grads, state, params, value, value_fn):
    """`(updates, state)` of a rule, which is handed what it may ask for: the loss, and the loss as a function of the weights.

    Rules that search along a line (`optax.lbfgs`) or wait for a plateau (`optax.contrib.reduce_on_plateau`) need it; others don't
    look at it.
    """
    with_value = optax.with_extra_args_support(rule)
    return with_value.update(grads, state, params, value=value, grad=grads, value_fn=value_fn)


def _half_of_squares(params):
    """A function of the weights that stands for the loss where a rule is only looked at."""
    return sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(params)) / 2


def program(rule: optax.GradientTransformation, params) -> str:
    """SHA-256 of what a transformation computes for parameters of those shapes: its jaxpr, constants included.

    An optax transformation is a pair of closures, whose constants nothing else shows.
    """
    state = jax.eval_shape(rule.init, params)
    update = partial(direction_of, rule, value_fn=_half_of_squares)
    value = jax.ShapeDtypeStruct((), jnp.float32)
    traced = jax.make_jaxpr(lambda p: rule.init(p))(params), jax.make_jaxpr(update)(params, state, params, value)
    written = "\n".join(re.sub(r"0x[0-9a-f]+", "", str(jaxpr)) for jaxpr in traced)
    held = b"".join(_bits(value) for jaxpr in traced for value in jaxpr.consts)
    return hashlib.sha256(written.encode() + held).hexdigest()


def _bits(value) -> bytes:
    key = jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(value) if key else value).tobytes()
