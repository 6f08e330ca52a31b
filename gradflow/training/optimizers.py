"""Optimizers as values: those of optax with their constants, at learning rate 1, since a recipe sets the rate."""

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon

from ..model.parameters.initializers import normal
from ..model.parameters.keys import at, root
from ..results.arguments import known, real
from ..results.configuration import registered
from ..results.fields import field_values


@runtime_checkable
class Optimizer(Protocol):
    """A rule that turns gradients into the direction of an update."""

    def direction(self) -> optax.GradientTransformation:
        """Returns the rule at learning rate 1."""
        ...


@runtime_checkable
class WithEps(Protocol):
    """A rule with Adam's ε."""

    eps: float


SHARES = ("momentum", "b1", "b2", "decay", "beta")  # constants of a running mean, from 0 to below 1


def _check_constants(rule) -> None:
    """Raises for impossible constants: shares outside 0 … 1, an eps or a decay that is negative or no number."""
    for name, value in field_values(rule).items():
        if name in SHARES:
            real(name, value, least=0, below=1)
        elif name == "eps":  # at 0, a gradient of zero makes an update of 0/0
            real(name, value, above=0)
        elif name == "weight_decay":
            real(name, value, least=0)


@registered
@dataclass(frozen=True)
class SGD:
    """`−m`, `m ← momentum · m + g`; plain gradient descent at momentum 0."""

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        _check_constants(self)

    def direction(self) -> optax.GradientTransformation:
        """Returns `optax.sgd` at learning rate 1."""
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
        """Returns `optax.adamw` at learning rate 1; Adam where nothing decays."""
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
        """Returns `optax.lion` at learning rate 1."""
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
        """Returns `optax.rmsprop` at learning rate 1."""
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
        """Returns `optax.contrib.muon` at learning rate 1."""
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
        """Returns a transformation with another draw at every update; its state is the number of updates."""
        return optax.GradientTransformation(_zero_count, self._update)

    def _update(self, updates, count, params=None):
        weights, form = jax.tree_util.tree_flatten_with_path(params)
        keys = jax.random.split(at(root(self.key), count), len(weights))
        noise = []
        for key, (path, weight) in zip(keys, weights, strict=True):
            noise.append(_rms(path, weight) * normal(key, *weight.shape).astype(weight.dtype))
        return jax.tree.unflatten(form, noise), optax.safe_increment(count)


def _zero_count(params):
    return jnp.zeros((), jnp.int32)


def _rms(path, weight):
    """Returns the root mean square of a weight, of each layer where it is stacked."""
    first = 1 if is_stacked(path) else 0
    axes = tuple(range(first, weight.ndim))
    return jnp.sqrt(jnp.mean(jnp.square(weight), axis=axes, keepdims=True))


def is_stacked(path) -> bool:
    """Returns whether the leaf at a path of JAX's is stacked over depth, as those of gradflow's models below `stack` are."""
    return path[:1] == (jax.tree_util.DictKey("stack"),)


OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Adam(),
    "adamw": Adam(weight_decay=0.01),
    "lion": Lion(),
    "muon": Muon(),
    "rmsprop": RMSProp(),
    "sgd": SGD(),
}


def _stacked_matrices(params):
    """Returns the dimensions for the leaves that Muon updates, matrices stacked over depth, [layers, in, out]; else None."""
    return jax.tree_util.tree_map_with_path(_matrix_dimensions, params)


def _matrix_dimensions(path, leaf) -> MuonDimensionNumbers | None:
    if is_stacked(path) and jnp.ndim(leaf) == 3:
        return MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return None


def named(name: str, **constants: float) -> Optimizer:
    """Returns the optimizer of that name, with some of its constants changed."""
    known("optimizer", name, OPTIMIZERS)
    rule: Any = OPTIMIZERS[name]
    fields = field_values(rule)
    for constant in constants:
        if constant not in fields:
            raise ValueError(f"{name} has no {constant}: its constants are {', '.join(fields)}")
    return dataclasses.replace(rule, **constants)


def is_rule(optimizer) -> bool:
    """Returns whether it can be part of a recipe: an optimizer's value, or an optax transformation."""
    if isinstance(optimizer, optax.GradientTransformation):
        return True
    is_class = isinstance(optimizer, type)  # `Adam` in the place of `Adam()`
    return isinstance(optimizer, Optimizer) and not is_class


def direction_of(rule: optax.GradientTransformation, grads, state, params, value, value_fn):
    """Returns `(updates, state)` of a rule, which is given the loss, and the loss as a function of the weights.

    Rules that search along a line (`optax.lbfgs`) or wait for a plateau (`optax.contrib.reduce_on_plateau`) need it; others
    ignore it.
    """
    with_value = optax.with_extra_args_support(rule)
    return with_value.update(grads, state, params, value=value, grad=grads, value_fn=value_fn)


def _half_of_squares(params):
    """Returns a function of the weights in the place of the loss, where a rule is only traced."""
    return sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(params)) / 2


def program(rule: optax.GradientTransformation, params) -> str:
    """Returns the SHA-256 of a transformation's program for parameters of those shapes: its jaxpr, constants included.

    An optax transformation is a pair of closures, whose constants can't be read otherwise.
    """
    state = jax.eval_shape(rule.init, params)
    update = partial(direction_of, rule, value_fn=_half_of_squares)
    value = jax.ShapeDtypeStruct((), jnp.float32)

    def init(params):
        return rule.init(params)

    return digest_of(jax.make_jaxpr(init)(params), jax.make_jaxpr(update)(params, state, params, value))


def digest_of(*jaxprs) -> str:
    """Returns the SHA-256 of programs, constants included."""
    sha256 = hashlib.sha256("\n".join(map(_without_addresses, jaxprs)).encode())
    for jaxpr in jaxprs:
        for constant in jaxpr.consts:
            sha256.update(_bits(constant))
    return sha256.hexdigest()


def _without_addresses(jaxpr) -> str:
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


def _bits(value) -> bytes:
    if jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value).tobytes()
