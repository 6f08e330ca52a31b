"""Spectra of every sublayer and of each of its factors, at any size, on the spaces where they act (`operators`).

Exact where the structure or the size allows it (`matrices`): where a factor couples no tokens, and else up to a stated size.
Beyond that from pushes and pulls alone (`krylov`). Every number is the same functional of the spectrum both ways
(`functionals`); for an exact spectrum its error is 0. What did not converge is NaN, never a number.

Axes: n = T·c entries of the stream; S sublayers.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import walk
from ...model.inputs import context
from ...model.layers.layer import FEATURES, NOTHING
from ...model.parameters.keys import at, root
from ...results.quantities import JACOBIANS
from ..meters.visits import at_bottom, first_inputs, where_finite, with_params
from .krylov import Krylov, estimated
from .matrices import exactly, singular_values
from .operators import Operator, operators
from .spaces import by_token, everything

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
    """Returns the spectrum of every sublayer and factor [S, jacobian, …], and what follows from it: see `results.quantities`.

    Parameters
    ----------
    factors : those of `JACOBIANS` that are wanted; the others are NaN
    dense : largest n = T·c for which a factor that couples tokens is decomposed as a dense matrix
    krylov : how the others are estimated
    memory : bytes that pushing a basis may take for one sublayer
    key : of the probes

    Of the first example of the batch; all sublayers in one compiled call, one sublayer's matrices in memory at a time. Cost: a
    factor without token coupling O(T c³), a dense one O(n³), else at most `4 · probes · iterations` passes through the
    sublayer, often half of them. For the volume and the smallest singular value: where tokens read their past alone, a few
    hundred passes for blocks, and one a block for each of at most `4 · solves` systems; where they read all, O(n³) up to
    n = 4096, and else `4 · solves · solver_iterations` passes at most.
    """
    unknown = [name for name in factors if name not in JACOBIANS]
    if unknown or not factors:
        raise ValueError(f"factors {tuple(factors)}: choose from {', '.join(JACOBIANS)}")
    inputs = first_inputs(batch)
    used, x = at_bottom(model, params, inputs)

    def visit(carry, layers_and_params, position):
        y, space, ops = operators(*layers_and_params, *carry)
        probes_key = at(root(key), "spectrum", position)
        spectra = _of_factors(ops, factors, dense, probes_key, krylov, memory)
        return (y, space), where_finite(y, spectra)

    bottom = (x, everything(x, context.real_tokens(context.own_inputs(model, inputs))))
    positions = jnp.arange(model.stack.size)
    with jax.default_matmul_precision("highest"):  # some accelerators round the factors of a product to fewer bits
        _, reports = walk(model.stack, used["stack"], bottom, visit, positions, bind=with_params)
    return reports


def window(
    model,
    params,
    batch,
    *,
    tokens: int | None = None,
    factors=WINDOWED,
    dense: int = DENSE,
    **options,
) -> dict:
    """Returns `spectrum` of the first `tokens` tokens alone.

    By default as many, one at least, as are exact (at most `dense` entries). Of few tokens a wide stream has its spectra in
    seconds, and what attention takes from tokens further up is not in them.
    Options as for `spectrum`. Cost: that of a dense one, O(n³) for n entries and each of the factors.
    """
    inputs = first_inputs(batch)
    if not tokens:
        stream = jax.eval_shape(model.enter, params, inputs)
        rows = by_token(jnp.zeros(stream.shape))
        entries_a_token = rows.shape[-1]
        tokens = max(1, dense // entries_a_token)
    few = context.by_token(lambda array: array[:tokens], inputs)
    alone = {"inputs": jax.tree.map(lambda array: array[None], few)}
    return spectrum(model, params, alone, factors=factors, dense=dense, **options)


def _of_factors(
    ops: Mapping[str, Operator],
    factors,
    dense: int,
    key,
    krylov: Krylov,
    memory: int,
) -> dict:
    """Returns the spectra of one sublayer's factors, stacked over `JACOBIANS`; factors that are the same map are taken once."""
    size = max(op.size for op in ops.values())
    representatives = _representatives(ops, factors)
    exact = {}
    others = {}
    for name in dict.fromkeys(representatives.values()):
        op = ops[name]
        if op.couples in (NOTHING, FEATURES) or op.size <= dense:
            exact[name] = op
        else:
            others[name] = op
    values = singular_values(exact, memory)
    spectra = {}
    for name, op in exact.items():
        spectra[name] = exactly(op, values[name], size)
    for alike in _alike(others):
        spectra |= _estimates(alike, key, size, krylov)
    missing = jax.tree.map(_missing, spectra[factors[0]])
    rows = []
    for name in JACOBIANS:
        rows.append(spectra[representatives[name]] if name in factors else missing)
    return jax.tree.map(lambda *rows: jnp.stack(rows), *rows)


def _alike(ops: Mapping[str, Operator]) -> list[dict[str, Operator]]:
    """Returns the operators in groups of those that differ in numbers alone, and in what they push."""
    groups: dict[tuple, dict[str, Operator]] = {}
    for name, op in ops.items():
        kind = (op.like.shape, op.domain.normals.shape, op.range.normals.shape, op.couples, op.push_within is None)
        groups.setdefault(kind, {})[name] = op
    return list(groups.values())


def _estimates(ops: Mapping[str, Operator], key, size: int, krylov: Krylov) -> dict:
    """Returns the estimated spectra of operators that are alike, one after the other by one program: compiling takes longest."""
    several = list(ops.values())
    like = several[0]
    within = [op.push_within for op in several if op.push_within]

    def one(numbers):
        index, domain, range_, rank = numbers

        def push_within(together: int):
            return partial(jax.lax.switch, index, [push(together) for push in within])

        return estimated(
            like._replace(
                push=partial(jax.lax.switch, index, [op.push for op in several]),
                domain=domain,
                range=range_,
                rank=rank,
                push_within=push_within if within else None,
            ),
            key,
            size,
            krylov,
        )

    numbers = [(index, op.domain, op.range, jnp.asarray(op.rank)) for index, op in enumerate(several)]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *numbers)
    found = jax.lax.map(one, stacked)
    return {name: jax.tree.map(lambda rows, i=i: rows[i], found) for i, name in enumerate(ops)}


def _representatives(ops: Mapping[str, Operator], factors) -> dict[str, str]:
    """Returns, for each of the factors, the first that is the same map: one that goes through the same parts."""
    maps = {}
    for name in reversed(factors):
        maps[name] = ops[name].through or (name,)
    first_of_map = {through: name for name, through in maps.items()}
    return {name: first_of_map[through] for name, through in maps.items()}


def _missing(values):
    """Returns what stands in the place of values that were not asked for: NaN, or −1 for whole numbers."""
    unknown = jnp.nan if values.dtype.kind == "f" else -1
    return jnp.full_like(values, unknown)
