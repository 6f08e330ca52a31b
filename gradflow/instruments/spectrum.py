"""Spectra of every sublayer and of each of its factors, at any size, on the spaces where they act (`operators`).

Exact where the structure or the size allows it (`matrices`): where a factor couples no tokens, and else up to a stated size.
Beyond that from pushes and pulls alone (`krylov`). Every number is the same functional of the spectrum both ways
(`functionals`); for an exact spectrum its error is 0. What did not converge is NaN, never a number.

Axes: n = T·c entries of the stream; S sublayers.
"""

import jax
import jax.numpy as jnp

from ..model.equation.sublayer import walk, with_context
from ..model.layers.layer import FEATURES, NOTHING
from ..model.numerics.precision import in_float32
from ..model.parameters.keys import at, root
from ..results.quantities import JACOBIANS
from .krylov import Krylov, estimated
from .matrices import exactly, singular_values
from .operators import by_token, everything, operators, where_finite, with_params

DENSE = 1024
WINDOWED = ("norm_out", "fork", "sublayer")


def spectrum(
    model,
    params,
    batch,
    *,
    factors=JACOBIANS,
    dense: int = DENSE,
    krylov: Krylov = Krylov(),
    memory: int = 2**28,
    key=0,
) -> dict:
    """The spectrum of every sublayer and factor [S, jacobian, …], and what follows from it: see `results.quantities`.

    Parameters
    ----------
    factors : those of `JACOBIANS` that are wanted; the others are NaN
    dense : largest n = T·c for which a factor that couples tokens is decomposed as a dense matrix
    krylov : how the others are estimated
    memory : bytes that pushing a basis may take for one sublayer
    key : of the probes

    Of the first example of the batch; all sublayers in one compiled call, one sublayer's matrices in memory at a time. Cost: a
    factor without token coupling O(T c³), a dense one O(n³), else about `4 · probes · iterations` passes through the
    sublayer, and `4 · solves · solver_iterations` at most for the smallest singular value.
    """
    unknown = [name for name in factors if name not in JACOBIANS]
    if unknown or not factors:
        raise ValueError(f"factors {tuple(factors)}: choose from {', '.join(JACOBIANS)}")
    inputs = jax.tree.map(lambda a: a[0], batch["inputs"])
    own, x = with_context(model, params, inputs), in_float32(model.enter(params, inputs))
    positions = model.stack.size

    def visit(carry, own, position):
        y, space, found = operators(*own, *carry)
        where = at(root(key), "spectrum", position)
        read = _of_factors(found, factors, lambda op: op.size <= dense, where, krylov, memory)
        return (y, space), where_finite(y, read)

    start = (x, everything(x))
    with jax.default_matmul_precision("highest"):  # some accelerators round the factors of a product to fewer bits
        return walk(model.stack, own["stack"], start, visit, jnp.arange(positions), bind=with_params)[1]


def window(model, params, batch, *, tokens: int | None = None, factors=WINDOWED, dense: int = DENSE, **options) -> dict:
    """`spectrum` for the first `tokens` tokens alone: by default as many, one at least, as are exact (at most `dense` entries).

    Of few tokens a wide stream has its spectra in seconds, and what attention takes from tokens further up is not in them.
    Options as for `spectrum`. Cost: that of a dense one, O(n³) for n entries and each of the factors.
    """
    stream = jax.eval_shape(model.enter, params, jax.tree.map(lambda a: a[0], batch["inputs"]))
    count = tokens or max(1, dense // by_token(jnp.zeros(stream.shape)).shape[-1])
    first = jax.tree.map(lambda a: a[:1, :count], batch)
    return spectrum(model, params, first, factors=factors, dense=dense, **options)


def _of_factors(found, factors, small, key, krylov, memory) -> dict:
    """The spectra of one sublayer's factors, stacked over `JACOBIANS`; factors that are the same map are taken once."""
    first = {found[name].through or (name,): name for name in reversed(factors)}
    size = max(op.size for op in found.values())
    ops = {name: found[name] for name in first.values()}
    exact = {name: op for name, op in ops.items() if op.couples in (NOTHING, FEATURES) or small(op)}
    values = singular_values(exact, memory)
    done = {name: exactly(op, values[name], size) for name, op in exact.items()}
    done |= {name: estimated(op, key, size, krylov) for name, op in ops.items() if name not in exact}
    missing = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan if a.dtype.kind == "f" else -1), done[factors[0]])
    row = lambda name: done[first[found[name].through or (name,)]] if name in factors else missing
    return jax.tree.map(lambda *rows: jnp.stack(rows), *map(row, JACOBIANS))
