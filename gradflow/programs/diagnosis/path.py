"""What stands on the path between two residual sums: the norm of the sum below, or one in front of the sublayer above.

    N(x + F x)                  after the sum: post-norm
    h + F(h), h = N x           in front of the sublayer, on its skip too

Both are one function of the stream; how the code is written tells them apart: a norm belongs to the sum in whose line it stands;
else to the sum above or below it in one function.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...results.lines import Line
from ..trunk.trunk import CONTRACTIONS
from .passages import Part
from .places import order, seen_from
from .sublayers import Sublayer
from .unrolled import Unrolled

AFTER, BEFORE = "after", "before"
BENDING = {"exp", "tanh", "logistic", "max", "erf", "erfc", "custom_jvp_call", "sin", "cos"}


@dataclass(frozen=True, eq=False)
class Between:
    """Parts on the path, and the sublayer below them; that above, but at the top."""

    parts: tuple[Part, ...]
    below: Sublayer
    above: Sublayer | None


@dataclass(frozen=True, eq=False)
class Placed:
    """The sublayers with the norms of the path; functions on the path without a sum; what follows the last sublayer."""

    sublayers: tuple[Sublayer, ...]
    without_sum: tuple[Between, ...]
    readout: tuple[Part, ...]


def placed(found: Unrolled, sublayers: Sequence[Sublayer]) -> Placed:
    """Returns sublayers with the norms of the path in their places."""
    first, *inner_parts, last = [stretch.parts for stretch in found.stretches]
    inner = [Between(*of) for of in zip(inner_parts, sublayers, sublayers[1:], strict=False)]
    top = Between(last, sublayers[-1], None)
    branches = [between for between in inner if _is_a_branch(between.parts)]
    sites = {_site_of_matrix(between) for between in branches}
    if _has_matrix(last) and _site_of_matrix(top) in sites:
        branches.append(top)

    sides = _sides([between for between in inner if not _has_matrix(between.parts)])
    in_front = {between.above: _norms(between.parts) for between, side in sides.items() if side == BEFORE}
    after = {between.below: _norms(between.parts) for between, side in sides.items() if side == AFTER}
    if _site_of_norm(first) in {_site_of_norm(between.parts) for between, side in sides.items() if side == BEFORE}:
        in_front[sublayers[0]] = _norms(_above_matrices(first))
    own = _own_norm(top, {_site_of_norm(between.parts) for between, side in sides.items() if side == AFTER})
    after[sublayers[-1]] = own
    made = []
    for one in sublayers:
        made.append(replace(one, norms_on_path=in_front.get(one, ()), norms_out=after.get(one, ())))
    return Placed(tuple(made), tuple(branches), tuple(part for part in last if part not in own))


def _sides(inner: Sequence[Between]) -> dict[Between, str]:
    """Returns whether norms are after the sum or in front of the sublayer; as most are, where the code does not tell."""
    told = {between: _side(between) for between in inner if _norms(between.parts)}
    counted = list(told.values())
    usual = AFTER if counted.count(AFTER) >= counted.count(BEFORE) else BEFORE
    return {between: side or usual for between, side in told.items()}


def _side(between: Between) -> str | None:
    """Returns whether norms are after the sum below or in front of the sublayer above; None where the code does not tell."""
    below, above = between.below, between.above
    lines = _norms(between.parts)[0].lines
    after = order(lines, below.lines)
    before = order(lines, above.lines) if above is not None else None
    if after == 0:
        return AFTER
    is_after = after is not None and after > 0
    is_before = before is not None and before < 0
    if is_after != is_before:
        return AFTER if is_after else BEFORE
    if above is not None and bool(below.norms_in) != bool(above.norms_in):
        return BEFORE if below.norms_in else AFTER
    return None


def _has_matrix(parts) -> bool:
    return any(part.kind == "matrix" for part in parts)


def _norms(parts) -> tuple[Part, ...]:
    return tuple(part for part in parts if part.kind == "norm")


def _above_matrices(parts) -> list[Part]:
    """Returns the parts after the last matrix."""
    run: list[Part] = []
    for part in parts:
        run = [] if part.kind == "matrix" else [*run, part]
    return run


def _site_of_norm(parts):
    """Returns the line that calls the last norm of a stretch, and its function; None where there is none."""
    norms = _norms(_above_matrices(parts)) or _norms(parts)
    return norms[-1].lines[:2] if norms else None


def _own_norm(top: Between, sites) -> tuple[Part, ...]:
    """Returns the norm after the last sum that belongs to it, and is no final norm."""
    for part in top.parts:
        if part.kind == "matrix":
            break
        if part.kind == "norm":
            is_own = order(part.lines, top.below.lines) == 0 or part.lines[:2] in sites
            return (part,) if is_own else ()
    return ()


# ---- what is on the path without a sum ---------------------------------------------------------------------------


def _is_a_branch(parts) -> bool:
    """Returns whether it is what a branch is: two matrices and a function between, that is no norm."""
    own = [part for part in parts if part.kind in ("matrix", "other")]
    operations = [operation for part in own for operation in part.operations]
    matrices = [operation for operation in operations if operation.name in CONTRACTIONS]
    bends = any(part.kind == "other" for part in own) or any(operation.name in BENDING for operation in operations)
    return len(matrices) > 1 and bends


def _site_of_matrix(between: Between) -> Line:
    """Returns the line that calls the first matrix, seen from the sublayer below."""
    matrix = next(part for part in between.parts if part.kind == "matrix")
    return seen_from(matrix.lines, between.below.lines)
