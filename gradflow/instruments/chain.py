"""What the sublayers' Jacobians do one after the other: `∂x_S/∂x_l = J_S … J_(l+1)`, end to end.

Four readings of the chain, none of which needs its matrix:

- `partial_jacobian`: its mean-square gain from every position, by probes pulled down once;
- `lyapunov`: the growth of its leading k directions sublayer by sublayer, tangents pushed up and kept orthonormal by QR
  (Benettin et al. 1980); in logs, so that a thousand layers neither overflow nor vanish;
- `alignment`: how much of the loss's own cotangent lies along those directions;
- `end_to_end`: its leading singular values from chosen positions.

All but the first are of the first example of the batch.

Axes: x is [T, d] or [lanes, T, d], n entries; m probes; S sublayers; k leading directions.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ..model.equation.sublayer import residual, walk, with_context
from ..model.numerics.precision import in_float32
from ..model.parameters.initializers import normal
from ..model.parameters.keys import at, root
from ..results.quantities import PROBES
from .gradients import dials
from .krylov import bidiagonal, widened
from .meter import GAIN, meter, metered, norm
from .operators import where_finite

LEADING = 8


def partial_jacobian(model, params, batch, *, probes: int = 8, key=0) -> dict:
    """`partial_jacobian` [S+1, probe] and its standard error: `‖∂x_S/∂x_l‖_F²/size` for all l at once.

    The averaged partial Jacobian norm (Doshi, He and Gromov 2023, eq. 4). An isotropic probe is drawn on the sphere in all
    T·d entries; a token-common one is the same vector of features on every token. Each is pulled down the stack once
    from x_S, and the meters read it at every depth. Both are 1 at l = S, exactly. Mean over examples and probes; the
    error is that of the mean over probes, for these weights and inputs. Cost: `probes` backward passes a kind of probe.
    """
    if probes < 2:
        raise ValueError(f"probes is {probes}: an error needs at least 2")
    x = jax.vmap(model.enter, (None, 0))(params, batch["inputs"])
    own = lambda inputs: with_context(model, params, inputs)["stack"]
    through = lambda x, inputs, d: walk(model.stack, own(inputs), x, metered, d)[0]
    settings = {"stream": dials(model, params, batch)["stack"]["stream"]}
    top, pull = jax.vjp(lambda d: jax.vmap(through, (0, 0, None))(x, batch["inputs"], d), settings)

    def gains(some):
        read = jax.vmap(pull)(some)[0]["stream"]
        squares = norm(read.reshape(*read.shape[:2], -1).sum(-1)) ** 2
        return jnp.concatenate([squares, jnp.ones_like(squares[:, :1])], axis=1)

    kinds = jnp.stack([drawn(probe, top, probes, key) for probe in PROBES])
    each = jnp.moveaxis(jax.lax.map(gains, kinds), 0, -1)
    return {"partial_jacobian": each.mean(0), "partial_jacobian_sem": each.std(0, ddof=1) / probes**0.5}


def drawn(probe: str, top, probes: int, key):
    """The probes [m, B, …] of a kind for streams shaped like `top` [B, …]."""
    shared = (*top.shape[:-2], 1, top.shape[-1]) if top.ndim > 2 else top.shape  # no tokens: nothing to share
    shape = {"isotropic": top.shape, "token_common": shared}[probe]
    drawn = normal(at(root(key), "probe", probe), probes, *shape).astype(top.dtype)
    return jax.vmap(on_sphere)(jnp.broadcast_to(drawn, (probes, *top.shape)))


def on_sphere(v):
    """`v/‖v‖`. On the sphere the reading at the top is 1 exactly, and the estimate below has less variance."""
    return v / jnp.sqrt(jnp.sum(v**2))


# ---- leading directions -------------------------------------------------------------------------------------


def lyapunov(model, params, batch, *, leading: int = LEADING, key=0) -> dict:
    """`tangent_growth` [S, k], `lyapunov_exponent` [k] with its standard error, and `token_mean_share` [S+1, k].

    k random orthonormal tangents enter at the bottom; each sublayer pushes them, `J Q = Q' R`, and `log R_ii` is the growth
    of direction i there. Its mean over the stack is the exponent: attenuation a sublayer, nat. With all n directions the
    growths of a sublayer sum to its log-volume; at most d − 2 a token grow at all behind a LayerNorm on the stream.

    Cost: one forward pass, and k pushes and a QR of [n, k] a sublayer; memory of one sublayer.
    """
    growth, _, shares = _directions(model, params, batch, leading, key, keep=lambda q: ())
    period = model.stack.layer_numbers.count(1)
    return {
        "tangent_growth": growth,
        "lyapunov_exponent": growth.mean(0),
        "lyapunov_exponent_sem": _scatter(growth, period) / len(growth) ** 0.5,
        "token_mean_share": shares,
    }


def _scatter(growth, period: int):
    """SD of one sublayer's growth about its trend, from differences between neighbours of one kind (von Neumann et al. 1941).

    A growth that drifts with depth, or differs between attention and feed-forward, does not count as scatter.
    """
    steps = growth[period:] - growth[:-period]
    return jnp.sqrt(jnp.mean(steps**2, axis=0) / 2) if len(steps) else jnp.full(growth.shape[1], jnp.nan)


def _directions(model, params, batch, leading: int, key, keep):
    """Growths [S, k], what is kept of the orthonormal directions at positions 0 … S, and their token-mean shares [S+1, k]."""
    inputs = jax.tree.map(lambda a: a[0], batch["inputs"])
    own, x = with_context(model, params, inputs), in_float32(model.enter(params, inputs))
    if not 1 <= leading <= x.size:
        raise ValueError(f"leading is {leading}: between 1 and tokens × features = {x.size} directions can be followed")
    first = normal(at(root(key), "tangents"), leading, *x.shape).astype(x.dtype)
    bottom, _ = _orthonormalized(first)

    def visit(carry, parts, _):
        x, q = carry
        y, push = jax.linearize(partial(residual, parts=parts), x)
        q, growth = _orthonormalized(jax.vmap(push)(q))
        return (y, q), where_finite(y, (growth, keep(q), _token_mean_share(q)))

    _, (growth, kept, shares) = walk(model.stack, own["stack"], (x, bottom), visit)
    below = lambda a, rest: jnp.concatenate([a[None], rest])
    return growth, jax.tree.map(below, keep(bottom), kept), below(_token_mean_share(bottom), shares)


def _orthonormalized(tangents):
    """Orthonormal tangents [k, …] of the same span, and the logs of what each had grown to.

    Gram-Schmidt, each tangent against those before it three times: twice is enough for orthogonality to rounding (Giraud et
    al. 2005), but not of the rounding that is left where a norm removed a direction whole. Not LAPACK's QR: its threads may
    wait for each other on a busy machine, a hundredfold of what these small products take.
    """
    rows = tangents.reshape(len(tangents), -1)

    def one(i, found):
        q, growth = found
        v = rows[i]
        for _ in range(3):
            v = v - (q @ v) @ q
        length = jnp.linalg.norm(v)
        return q.at[i].set(v / jnp.where(length > 0, length, 1.0)), growth.at[i].set(jnp.log(length))

    q, growth = jax.lax.fori_loop(0, len(rows), one, (jnp.zeros_like(rows), jnp.zeros_like(rows[:, 0])))
    return q.reshape(tangents.shape), growth


def _token_mean_share(q):
    """Share [k] of each direction's squared norm that is the same on all tokens."""
    if q.ndim < 3:
        return jnp.ones(len(q), q.dtype)
    return jnp.sum(q.mean(-2) ** 2, axis=tuple(range(1, q.ndim - 1))) * q.shape[-2]


def alignment(model, params, batch, *, leading: int = LEADING, key=0) -> dict:
    """`cotangent_share` [S+1, k]: the share of `‖∂loss/∂x_l‖²` along each of the `lyapunov` directions at position l.

    The inner product is read by a dial, as a norm is by a meter: `x + Σ_i ε_i q_i` at ε = 0 has `∂loss/∂ε_i = ⟨q_i, g⟩`. A
    random direction's share is 1/n. Cost: `lyapunov`, one backward pass, and memory for k streams a position.
    """
    _, kept, _ = _directions(model, params, batch, leading, key, keep=lambda q: q)
    one = jax.tree.map(lambda a: a[0], batch)
    own, x = with_context(model, params, one["inputs"]), in_float32(model.enter(params, one["inputs"]))
    along = lambda x, eps, q: x + jnp.tensordot(eps, q, 1)

    def loss(eps, settings):
        def visit(x, parts, extra):
            q, here, dial = extra
            return residual(meter(along(x, here, q), dial), parts), None

        top, _ = walk(model.stack, own["stack"], x, visit, (kept[:-1], eps[:-1], settings[:-1]))
        out = model.leave(own, meter(along(top, eps[-1], kept[-1]), settings[-1]))
        return model.loss(own, out, one["targets"])

    zero = jnp.zeros(kept.shape[:2], x.dtype)
    inner, read = jax.grad(loss, argnums=(0, 1))(zero, jnp.full(len(kept), GAIN, x.dtype))
    return {"cotangent_share": (inner / norm(read)[:, None]) ** 2}


# ---- singular values of the whole ---------------------------------------------------------------------------


def end_to_end(model, params, batch, *, starts=(0,), leading: int = LEADING, iterations: int = 32, key=0) -> dict:
    """`log_singular_values` [S+1, k] of `∂x_S/∂x_l` from the positions l in `starts`, with errors; NaN at the others.

    Golub-Kahan bidiagonalization (as in `spectrum`) of the chain with every sublayer's map divided by the growth of its
    leading tangent, a number that comes back in the logs: so nothing over- or underflows on the way. A singular value below
    n times the rounding of the largest is NaN; the error is the change when `iterations` are doubled.

    Cost: `lyapunov` with one direction, and `4 · iterations` passes through the stack for each start, linearized once.
    """
    size = model.stack.size
    chosen = [start % (size + 1) if -size - 1 <= start <= size else None for start in starts]
    if not chosen or None in chosen:
        raise ValueError(f"starts = {tuple(starts)}: choose positions of the stream, 0 … {size}")
    growth = _directions(model, params, batch, 1, key, keep=lambda q: ())[0][:, 0]
    inputs = jax.tree.map(lambda a: a[0], batch["inputs"])
    own, x = with_context(model, params, inputs), in_float32(model.enter(params, inputs))
    v = normal(at(root(key), "end_to_end"), *x.shape).astype(jnp.zeros(()).dtype)
    steps = min(2 * iterations, x.size)
    leading = min(leading, max(1, steps // 2))

    def from_position(l):
        _, push = jax.linearize(lambda nudge: _scaled_chain(model, own, x, nudge, l, growth), jnp.zeros_like(x))
        small = bidiagonal(widened(push, x.dtype), v, steps)
        values, before = (
            jnp.linalg.svd(small[:j, :j], compute_uv=False)[:leading] for j in (steps, max(steps // 2, 1))
        )
        resolved = values > x.size * float(jnp.finfo(x.dtype).eps) * values[0]
        shift = jnp.sum(jnp.where(jnp.arange(size) >= l, growth, 0.0)).astype(values.dtype)
        error = jnp.abs(jnp.log(values) - jnp.log(before))
        return jnp.where(resolved, jnp.log(values) + shift, jnp.nan), jnp.where(resolved, error, jnp.nan)

    found, errors = jax.lax.map(from_position, jnp.asarray(chosen))
    everywhere = jnp.full((size + 1, leading), jnp.nan, found.dtype)
    place = lambda rows: everywhere.at[jnp.asarray(chosen)].set(rows)
    return {"log_singular_values": place(found), "log_singular_values_sem": place(errors)}


def _scaled_chain(model, params, x, nudge, l, growth):
    """`x_S` when `nudge` is added at position l; to first order divided by `exp(growth)` at every sublayer from l on."""

    def visit(x, parts, extra):
        position, log_gain = extra
        y = residual(x + jnp.where(position == l, nudge, 0.0), parts)
        fixed = jax.lax.stop_gradient(y)
        return fixed + jnp.exp(-log_gain) * (y - fixed), None

    top, _ = walk(model.stack, params["stack"], x, visit, (jnp.arange(len(growth)), growth))
    return top + jnp.where(l == len(growth), nudge, 0.0)
