"""Weights that are given: each has the shape of the model's own, for as many seeds as there are sets of them."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..contracts import Drawable, Model
from ..parameters.names import named


def check_weights(name: str, model: Model, weights) -> int:
    """Returns how many sets of weights are given, along the leading axis of every array.

    Errors: ValueError that names the first parameter that is missing, unknown or of another shape.
    """
    if not isinstance(weights, Mapping) or "stack" not in weights:
        raise ValueError(f"{name}: the params are a {type(weights).__name__}: those of model.init(key) are expected")
    found = {path: np.shape(leaf) for path, leaf in named(weights).items()}
    if isinstance(model, Drawable):
        drawn: Any = model
        expected = {path: leaf.shape for path, leaf in named(shapes(drawn)).items()}
        _check_shapes(name, expected, found)
    sets = {shape[:1] for shape in found.values()}
    if len(sets) != 1 or () in sets or (0,) in sets:
        raise ValueError(f"{name}: all params need one leading axis, of seeds: jax.tree.map(lambda a: a[None], params)")
    return next(iter(sets))[0]


def shapes(model: Any, seeds: int | None = None):
    """Returns the parameters of a `Drawable` as shapes and types, with a leading axis of seeds where their number is said.

    Of equal models they are traced once.
    """
    of_one = _shapes(model, jax.config.values["jax_enable_x64"])
    if seeds is None:
        return of_one

    def of_seeds(leaf):
        return jax.ShapeDtypeStruct((seeds, *leaf.shape), leaf.dtype, weak_type=leaf.weak_type)

    return jax.tree.map(of_seeds, of_one)


@lru_cache(maxsize=256)
def _shapes(model: Any, with_64_bits: bool):
    return jax.eval_shape(model.init, jax.random.key(0))


def _check_shapes(name: str, expected: Mapping[str, tuple], found: Mapping[str, tuple]) -> None:
    missing = [f"lack {path}" for path in expected if path not in found]
    unknown = [f"have {path}, which the model has not" for path in found if path not in expected]
    if missing or unknown:
        wrong = " and ".join([*missing[:1], *unknown[:1]])
        raise ValueError(f"{name}: the params {wrong}: those of this model's init(key) are expected")
    if found == expected:
        raise ValueError(f"{name}: the params need a leading axis of seeds: jax.tree.map(lambda a: a[None], params)")
    for path, shape in expected.items():
        if found[path][1:] != shape:
            raise ValueError(f"{name}: {path} has shape {found[path]}, but (seeds, {str(shape)[1:]} is expected")


def first_not_finite(weights) -> str | None:
    """Returns the first parameter that holds a NaN or an infinity, and how many."""
    for path, leaf in named(weights).items():
        bad = int(jnp.sum(~jnp.isfinite(jnp.asarray(leaf))))
        if bad:
            return f"{path} holds {bad} of {np.size(leaf)} numbers that are not finite"
    return None
