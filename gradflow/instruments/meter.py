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

from ..model.equation.sublayer import Parts, bind_dynamic_gains, decorated, sublayer
from ..model.numerics.precision import wide, with_leading_axes
from ..results.arguments import shown

GAIN = 24.0
FLOOR = (
    float(jnp.finfo(jnp.float32).tiny) ** 0.5 * 2.0**-GAIN
)  # the norm behind the smallest normal float32 at that gain


@jax.custom_vjp
def meter(x, dial):
    """`x`, unchanged; backward, `dial` receives `‖2^dial · g‖²`, g the cotangent of x, which passes unchanged.

    >>> import jax, jax.numpy as jnp
    >>> reading = jax.grad(lambda dial: jnp.sum(3.0 * meter(jnp.ones(4), dial)))(0.0)
    >>> float(reading)  # ‖(3, 3, 3, 3)‖²
    36.0
    """
    check_dial(x, dial)
    return x


def check_dial(x, dial) -> None:
    """Refuses a dial that is neither one number nor one a token of `x` (or of each of its lanes), with the shape that does."""
    if not isinstance(x, jax.Array | np.ndarray | float):
        raise TypeError(f"a meter is on {shown(x)}: an array is needed")
    shape, tokens = jnp.shape(dial), jnp.shape(x)[-2:-1]
    rows = jnp.shape(x)[:-1]
    if shape != rows[len(rows) - len(shape) :] or not jnp.issubdtype(jnp.result_type(dial), jnp.floating):
        raise ValueError(
            f"a dial is {jnp.result_type(dial)}{list(shape)} for an array of shape {jnp.shape(x)}: a floating number, "
            f"or {'one a token, ' + str(list(tokens)) + ',' if tokens else 'nothing else'} is expected"
        )


def _seen(x, dial):
    """Forward: the array unchanged, and the dial for the way back."""
    check_dial(x, dial)
    return x, dial


def squared_norm(g, dial):
    """`‖2^dial · g‖²` in the shape of `dial`, accumulated in float32 or better.

    Where the squares of a gradient that is not zero all underflow, the smallest normal number: zero means zero.
    """
    g = jnp.atleast_1d(g).astype(wide(g.dtype))
    axes = (*range(g.ndim - 1 - jnp.ndim(dial)), g.ndim - 1)
    squares = jnp.sum(squared_modulus(with_leading_axes(power_of_two(dial)[..., None], g) * g), axis=axes)
    floor = jnp.where(jnp.any(g != 0, axis=axes), jnp.finfo(g.dtype).tiny, 0.0)
    return jnp.maximum(squares, floor).astype(jnp.result_type(dial))


def squared_modulus(z):
    """`|z|²`, entry by entry, real also where z is complex."""
    return jnp.square(z.real) + jnp.square(z.imag) if jnp.iscomplexobj(z) else jnp.square(z)


def power_of_two(dial):
    """`2^dial` for whole numbers, to the last bit (`exp2` rounds); NaN stays NaN."""
    dial = jnp.asarray(dial)
    return jnp.where(jnp.isnan(dial), dial, jnp.ldexp(jnp.ones_like(dial), jnp.nan_to_num(dial).astype(jnp.int32)))


meter.defvjp(_seen, lambda dial, g: (g, squared_norm(g, dial)))


def norm(reading, gain: float = GAIN):
    """The norm behind a meter's reading at that gain."""
    return jnp.sqrt(reading) * 2.0**-gain


def at_inputs(dials: Mapping[str, jax.Array]):
    """Instrument: a meter at the input of every part that has a dial."""

    def instrument(name, part):
        return (lambda u: part(meter(u, dials[name]))) if name in dials else part

    return instrument


def metered_parts(x, parts: Parts, dials: Mapping[str, jax.Array]):
    """The parts with a meter at the input of each that has a dial, and (dial `gains`) on the stream as gains read it."""
    seen = meter(x, dials["gains"]) if "gains" in dials else x
    return decorated(bind_dynamic_gains(parts, seen), at_inputs(dials))


def metered(x, parts: Parts, dials: Mapping[str, jax.Array]):
    """Visit: a meter on the stream (dial `stream`) and at the inputs of parts, as the dials say; no report."""
    x = meter(x, dials["stream"])
    return sublayer(x, **metered_parts(x, parts, dials)), None


def unread(readings) -> list[str]:
    """Names of the dials that read nothing, from the readings of dials that were all set to NaN."""
    named = jax.tree_util.tree_leaves_with_path(jax.tree.map(lambda r: ~jnp.isnan(r), readings))
    return [
        f"{jax.tree_util.keystr(path, simple=True, separator='/')}{[int(i) for i in at] if at.size else ''}"
        for path, missing in named
        for at in (jnp.argwhere(missing) if missing.any() else [])
    ]
