"""The meter: an identity whose backward pass reports the squared norm of the cotangent that goes through it.

    meter(x, dial) = x,      backward: g -> (g, ‖2^dial · g‖²)

The report comes out as the cotangent of `dial`, a dummy number, so differentiating a loss with respect to its dials
reads every meter in the backward pass that training does anyway; no activation gradient is stored, and it works under
`scan`, `vmap`, `remat` and `jit`. Squared norms, because they add up: a dial shared under `vmap` reads the sum over
examples, shards and uses.

The dial's *value* is the meter's gain in powers of two. Scaling by a power of two is exact, and it decides which norms
float32 squares can hold: at 2^24, from 1e-24 to 1e12. Below that a gradient that is not zero reads `FLOOR`, not zero.

A dial that is set to NaN reads NaN wherever the loss depends on what its meter sees, even where that gradient is zero:
so a meter that reads nothing can be told from one that reads zero (`unread`).

Axes: a dial of shape [] reads the whole array; one of shape [tokens] reads each token of an array [..., tokens, features].
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ...model.equation.sublayer import Parts, bind_dynamic_gains, decorated, sublayer
from ...model.numerics.precision import wide, with_leading_axes
from ...results.arguments import shown

GAIN = 24.0
SMALLEST = float(jnp.finfo(jnp.float32).tiny)  # normal float32
FLOOR = SMALLEST**0.5 * 2.0**-GAIN  # the norm behind it at that gain


def meter(x, dial):
    """Returns `x` unchanged; backward, `dial` receives `‖2^dial · g‖²`, g the cotangent of x, which passes unchanged.

    Under `jax.shard_map` a dial reads the sum over the shards of x. Errors: ValueError where `check_vma=False` keeps JAX from
    telling shards from copies, so that the sum would be another, and for a dial of the wrong shape.

    >>> import jax, jax.numpy as jnp
    >>> reading = jax.grad(lambda dial: jnp.sum(3.0 * meter(jnp.ones(4), dial)))(0.0)
    >>> float(reading)  # ‖(3, 3, 3, 3)‖²
    36.0
    """
    check_dial(x, dial)
    manual = jax.sharding.get_abstract_mesh().manual_axes
    if manual and not tells_shards_apart(manual):
        raise ValueError(
            "a meter under shard_map with check_vma=False, or under pmap, can't tell a shard from a copy: leave the check on, "
            "or take gf.metered inside, which reads each shard's own loss"
        )
    return metered_identity(x, as_sharded(dial, x) if manual else dial)


def tells_shards_apart(axes) -> bool:
    """Returns whether JAX keeps track of what varies over these manual axes."""
    one = jnp.zeros(())
    return jax.typeof(jax.lax.pcast(one, axes, to="varying")) != jax.typeof(one)


def as_sharded(dial, x):
    """Returns the dial as an array that varies over the axes that x does; what its copies read is added up."""
    some = jax.lax.stop_gradient(jnp.ravel(x)[0])
    return jnp.where(False, jnp.real(some).astype(jnp.result_type(dial)), dial)


@jax.custom_vjp
def metered_identity(x, dial):
    """Returns `x`: the meter itself, of a dial that is right for it."""
    return x


def check_dial(x, dial) -> None:
    """Refuses a dial that is neither one number nor one a token of `x` (or of each of its lanes), with the shape that does."""
    if not isinstance(x, jax.Array | np.ndarray | float):
        raise TypeError(f"a meter is on {shown(x)}: an array is needed")
    shape = jnp.shape(dial)
    dtype = jnp.result_type(dial)
    rows = jnp.shape(x)[:-1]
    is_one_a_row = shape == rows[len(rows) - len(shape) :]
    if is_one_a_row and jnp.issubdtype(dtype, jnp.floating):
        return
    tokens = rows[-1:]
    by_token = f"one a token, {list(tokens)}," if tokens else "nothing else"
    raise ValueError(
        f"a dial is {dtype}{list(shape)} for an array of shape {jnp.shape(x)}: a floating number, "
        f"or {by_token} is expected"
    )


def _forward(x, dial):
    """Returns the array unchanged, and the dial for the way back."""
    return x, dial


def _backward(dial, g):
    """Returns the cotangents of the array and of the dial."""
    return g, squared_norm(g, dial)


metered_identity.defvjp(_forward, _backward)


def squared_norm(g, dial):
    """Returns `‖2^dial · g‖²` in the shape of `dial`, accumulated in float32 or better.

    Where the squares of a gradient that is not zero all underflow, the smallest normal number: zero means zero.
    """
    g = jnp.atleast_1d(g)
    g = g.astype(wide(g.dtype))
    features = g.ndim - 1
    summed = (*range(features - jnp.ndim(dial)), features)
    gain = power_of_two(dial)[..., None]
    scaled = with_leading_axes(gain, g) * g
    squares = jnp.sum(squared_modulus(scaled), axis=summed)
    is_nonzero = jnp.any(g != 0, axis=summed)
    floor = jnp.where(is_nonzero, jnp.finfo(g.dtype).tiny, 0.0)
    total = jnp.maximum(squares, floor)
    return total.astype(jnp.result_type(dial))


def squared_modulus(z):
    """Returns `|z|²`, entry by entry, real also where z is complex."""
    if jnp.iscomplexobj(z):
        return jnp.square(z.real) + jnp.square(z.imag)
    return jnp.square(z)


def power_of_two(dial):
    """Returns `2^dial` for whole numbers, to the last bit (`exp2` rounds); NaN stays NaN."""
    dial = jnp.asarray(dial)
    unset = jnp.isnan(dial)
    one = jnp.ones_like(dial)
    exponent = jnp.nan_to_num(dial).astype(jnp.int32)
    return jnp.where(unset, dial, jnp.ldexp(one, exponent))


def norm(reading, gain: float = GAIN):
    """Returns the norm behind a meter's reading at that gain."""
    return jnp.sqrt(reading) * 2.0**-gain


def at_inputs(dials: Mapping[str, jax.Array]):
    """Returns the instrument that puts a meter at the input of every part that has a dial."""

    def instrument(name, part):
        if name not in dials:
            return part

        def metered_part(u):
            return part(meter(u, dials[name]))

        return metered_part

    return instrument


def metered_parts(x, parts: Parts, dials: Mapping[str, jax.Array]):
    """Returns the parts with a meter at the input of each that has a dial, and (dial `gains`) on the stream as gains read it."""
    if "gains" in dials:
        x = meter(x, dials["gains"])
    return decorated(bind_dynamic_gains(parts, x), at_inputs(dials))


def metered(x, parts: Parts, dials: Mapping[str, jax.Array]):
    """Visit: a meter on the stream (dial `stream`) and at the inputs of parts, as the dials say; no report."""
    x = meter(x, dials["stream"])
    return sublayer(x, **metered_parts(x, parts, dials)), None


def unread(readings) -> list[str]:
    """Returns the names of the dials that read nothing, from the readings of dials that were all set to NaN."""
    names: list[str] = []
    for path, values in jax.tree_util.tree_leaves_with_path(readings):
        missing = ~jnp.isnan(values)
        if not missing.any():
            continue
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for place in jnp.argwhere(missing).tolist():
            names.append(f"{name}{place or ''}")
    return names
