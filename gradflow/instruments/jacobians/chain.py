"""What the sublayers' Jacobians do one after the other: `∂x_S/∂x_l = J_S … J_(l+1)`, end to end.

Four readings of the chain, none of which needs its matrix:

- `partial_jacobian`: its mean-square gain from every position, by probes pulled down once;
- `lyapunov`: the growth of its leading k directions sublayer by sublayer, tangents pushed up and kept orthonormal by QR
  (Benettin et al. 1980); in logs, so that a thousand layers neither overflow nor vanish;
- `alignment`: how much of the loss's own cotangent lies along those directions;
- `end_to_end`: its leading singular values from chosen positions.

All but the first are of the first example of the batch. Of tokens that are padding nothing is read: where a probe or a tangent is
zero on them, the chain of the others leaves it so.

Axes: x is [T, d] or [lanes, T, d], n entries; m probes; S sublayers; k leading directions.
"""

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import residual, walk, with_context
from ...model.inputs.context import own_inputs, real_first, real_tokens
from ...model.parameters.keys import at, root
from ...results.quantities import PROBES
from ..backward.gradients import dials
from ..directions import draws, leading_directions
from ..meters.meter import GAIN, meter, metered, norm
from ..meters.visits import at_bottom, first_inputs, first_text, of_real
from .bidiagonal import bidiagonal, transposed

LEADING = 8


def partial_jacobian(model, params, batch, *, probes: int = 8, key=0) -> dict:
    """Returns `partial_jacobian` [S+1, probe] and its standard error: `‖∂x_S/∂x_l‖_F²/size` for all l at once.

    The averaged partial Jacobian norm (Doshi, He and Gromov 2023, eq. 4). An isotropic probe is drawn on the sphere in all
    T·d entries; a token-common one is the same vector of features on every token. Each is pulled down the stack once
    from x_S, and the meters read it at every depth. Both are 1 at l = S, exactly. Mean over examples and probes; the
    error is that of the mean over probes, for these weights and inputs. Cost: `probes` backward passes a kind of probe.
    """
    if probes < 2:
        raise ValueError(f"probes is {probes}: an error needs at least 2")
    batch = jax.vmap(real_first)({"inputs": batch["inputs"]})
    real = real_tokens(own_inputs(model, batch["inputs"]))
    x = jax.vmap(model.enter, (None, 0))(params, batch["inputs"])

    def top_of_example(x, inputs, at_gain):
        used = with_context(model, params, inputs)
        top, _ = walk(model.stack, used["stack"], x, metered, at_gain)
        return top

    def tops(at_gain):
        return jax.vmap(top_of_example, (0, 0, None))(x, batch["inputs"], at_gain)

    at_gain = {"stream": dials(model, params, batch)["stack"]["stream"]}
    top, pull = jax.vjp(tops, at_gain)

    def gains(probes_of_kind):
        (pulled,) = jax.vmap(pull)(probes_of_kind)
        by_token = pulled["stream"]
        probes_and_positions = by_token.shape[:2]
        totals = by_token.reshape(*probes_and_positions, -1).sum(-1)
        squares = norm(totals) ** 2
        at_top = jnp.ones_like(squares[:, :1])
        return jnp.concatenate([squares, at_top], axis=1)

    kinds = jnp.stack([drawn(probe, top, probes, key, real) for probe in PROBES])
    by_kind = jax.lax.map(gains, kinds)
    by_probe = jnp.moveaxis(by_kind, 0, -1)
    return {
        "partial_jacobian": by_probe.mean(0),
        "partial_jacobian_sem": by_probe.std(0, ddof=1) / probes**0.5,
    }


def drawn(probe: str, top, probes: int, key, real=None):
    """Returns the probes [m, B, …] of a kind for streams shaped like `top` [B, …], zero but on `real` tokens [B, T]."""
    example = top[0]
    if probe == "token_common" and example.ndim > 1:  # without tokens there is nothing to share
        example = example[..., :1, :]
    probe_key = at(root(key), "probe", probe)
    vectors = draws(probe_key, probes * len(top), example)
    by_probe = vectors.reshape(probes, len(top), *example.shape)
    everywhere = jnp.broadcast_to(by_probe, (probes, *top.shape))
    if real is not None:
        everywhere = jax.vmap(of_real, (1, 0), 1)(everywhere, real)
    return jax.vmap(on_sphere)(everywhere)


def on_sphere(v):
    """Returns `v/‖v‖`. On the sphere the reading at the top is 1 exactly, and the estimate below has less variance."""
    length = jnp.sqrt(jnp.sum(v**2))
    return v / length


# ---- leading directions -------------------------------------------------------------------------------------


def lyapunov(model, params, batch, *, leading: int = LEADING, key=0) -> dict:
    """Returns `tangent_growth` [S, k], `lyapunov_exponent` [k] with its standard error, and `token_mean_share` [S+1, k].

    k random orthonormal tangents enter at the bottom; each sublayer pushes them, `J Q = Q' R`, and `log R_ii` is the growth
    of direction i there. Its mean over the stack is the exponent: attenuation a sublayer, nat. With all n directions the
    growths of a sublayer sum to its log-volume; at most d − 2 a token grow at all behind a LayerNorm on the stream.

    Cost: one forward pass, and k pushes and a QR of [n, k] a sublayer; memory of one sublayer.
    """
    directions = leading_directions(model, params, batch, leading, key)
    growth = directions.growth
    kinds = model.stack.layer_numbers.count(1)
    scatter = _scatter(growth, kinds)
    return {
        "tangent_growth": growth,
        "lyapunov_exponent": growth.mean(0),
        "lyapunov_exponent_sem": scatter / len(growth) ** 0.5,
        "token_mean_share": directions.token_mean_shares,
    }


def _scatter(growth, period: int):
    """Returns the SD of one sublayer's growth about its trend, from differences between neighbours of one kind.

    (Von Neumann et al. 1941.) A growth that drifts with depth, or differs between attention and feed-forward, does not count as
    scatter.
    """
    steps = growth[period:] - growth[:-period]
    if len(steps) == 0:
        return jnp.full(growth.shape[1], jnp.nan)
    mean_square = jnp.mean(steps**2, axis=0)
    return jnp.sqrt(mean_square / 2)


def alignment(model, params, batch, *, leading: int = LEADING, key=0) -> dict:
    """Returns `cotangent_share` [S+1, k]: the share of `‖∂loss/∂x_l‖²` along each of the `lyapunov` directions at position l.

    The inner product is read by a dial, as a norm is by a meter: `x + Σ_i ε_i q_i` at ε = 0 has `∂loss/∂ε_i = ⟨q_i, g⟩`. A
    random direction's share is 1/n. Cost: `lyapunov`, one backward pass, and memory for k streams a position.
    """
    directions = leading_directions(model, params, batch, leading, key, keep=lambda tangents: tangents)
    kept = directions.kept
    example = first_text(batch)
    used, bottom = at_bottom(model, params, example["inputs"])

    def along(x, eps, directions):
        return x + jnp.tensordot(eps, directions, 1)

    def visit(x, parts, extra):
        directions, eps, dial = extra
        moved = along(x, eps, directions)
        return residual(meter(moved, dial), parts), None

    def loss(eps, settings):
        at_top = jax.tree.map(lambda a: a[-1], (kept, eps, settings))
        below = jax.tree.map(lambda a: a[:-1], (kept, eps, settings))
        top, _ = walk(model.stack, used["stack"], bottom, visit, below)
        directions, eps, dial = at_top
        moved = along(top, eps, directions)
        out = model.leave(used, meter(moved, dial))
        return model.loss(used, out, example["targets"])

    no_move = jnp.zeros(kept.shape[:2], bottom.dtype)
    at_gain = jnp.full(len(kept), GAIN, bottom.dtype)
    gradients = jax.grad(loss, argnums=(0, 1))
    inner, squares = gradients(no_move, at_gain)
    cosine = inner / norm(squares)[:, None]
    return {"cotangent_share": cosine**2}


# ---- singular values of the whole ---------------------------------------------------------------------------


def end_to_end(
    model,
    params,
    batch,
    *,
    starts=(0,),
    leading: int = LEADING,
    iterations: int = 32,
    key=0,
) -> dict:
    """Returns `log_singular_values` [S+1, k] of `∂x_S/∂x_l` from the positions l in `starts`, with errors; NaN at the others.

    Golub-Kahan bidiagonalization (as in `spectrum`) of the chain with every sublayer's map divided by the growth of its
    leading tangent, a number that comes back in the logs: so nothing over- or underflows on the way. A singular value below
    n times the rounding of the largest is NaN; the error is the change when `iterations` are doubled.

    Cost: `lyapunov` with one direction, and `4 · iterations` passes through the stack for each start, linearized once.
    """
    size = model.stack.size
    positions = jnp.asarray(_positions(starts, size))
    directions = leading_directions(model, params, batch, 1, key)
    growth = directions.growth[:, 0]
    inputs = first_inputs(batch)
    used, x = at_bottom(model, params, inputs)
    (drawn_there,) = draws(at(root(key), "end_to_end"), 1, x)
    v = on_sphere(of_real(drawn_there, real_tokens(own_inputs(model, inputs))))
    steps = min(2 * iterations, x.size)
    half = max(1, steps // 2)
    leading = min(leading, half)
    rounding_of_one = float(jnp.finfo(x.dtype).eps)
    least_share = x.size * rounding_of_one

    def leading_values(small):
        return jnp.linalg.svd(small, compute_uv=False)[:leading]

    def from_position(l):
        def chain(nudge):
            return _scaled_chain(model, used, x, nudge, l, growth)

        _, push = jax.linearize(chain, jnp.zeros_like(x))
        (small,) = bidiagonal(push, transposed(push, x), v[None], steps)
        values = leading_values(small)
        values_at_half = leading_values(small[:half, :half])
        resolved = values > least_share * values[0]
        from_here = jnp.arange(size) >= l
        taken_out = jnp.sum(jnp.where(from_here, growth, 0.0))
        logs = jnp.log(values)
        logs_of_chain = logs + taken_out.astype(values.dtype)
        change = jnp.abs(logs - jnp.log(values_at_half))
        return jnp.where(resolved, logs_of_chain, jnp.nan), jnp.where(resolved, change, jnp.nan)

    logs, errors = jax.lax.map(from_position, positions)
    everywhere = jnp.full((size + 1, leading), jnp.nan, logs.dtype)
    return {
        "log_singular_values": everywhere.at[positions].set(logs),
        "log_singular_values_sem": everywhere.at[positions].set(errors),
    }


def _positions(starts, size: int) -> list[int]:
    """Returns positions of the stream, 0 … `size`, of which negative ones are counted from the top."""
    positions = []
    for start in starts:
        if -size - 1 <= start <= size:
            positions.append(start % (size + 1))
    if not positions or len(positions) < len(starts):
        raise ValueError(f"starts = {tuple(starts)}: choose positions of the stream, 0 … {size}")
    return positions


def _scaled_chain(model, params, x, nudge, l, growth):
    """Returns `x_S` when `nudge` is added at position l.

    To first order divided by `exp(growth)` at every sublayer from l on.
    """
    size = len(growth)

    def visit(x, parts, extra):
        position, log_gain = extra
        nudged = x + jnp.where(position == l, nudge, 0.0)
        y = residual(nudged, parts)
        fixed = jax.lax.stop_gradient(y)
        change = y - fixed
        return fixed + jnp.exp(-log_gain) * change, None

    extra = (jnp.arange(size), growth)
    top, _ = walk(model.stack, params["stack"], x, visit, extra)
    return top + jnp.where(l == size, nudge, 0.0)
