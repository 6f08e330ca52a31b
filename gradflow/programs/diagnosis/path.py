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
from .passages import Part, of_kind
from .places import order, seen_from
from .sublayers import Sublayer
from .unrolled import Unrolled

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
    in_front: dict[Sublayer | None, tuple[Part, ...]] = {}
    after: dict[Sublayer, tuple[Part, ...]] = {}
    sites_in_front, sites_after = set(), set()
    for between, is_after in _sides(inner).items():
        norms, site = of_kind(between.parts, "norm"), _site_of_norm(between.parts)
        if is_after:
            after[between.below] = norms
            sites_after.add(site)
        else:
            in_front[between.above] = norms
            sites_in_front.add(site)
    if _site_of_norm(first) in sites_in_front:
        in_front[sublayers[0]] = of_kind(_above_matrices(first), "norm")
    own = _own_norm(top, sites_after)
    after[sublayers[-1]] = own
    made = []
    for one in sublayers:
        made.append(replace(one, norms_on_path=in_front.get(one, ()), norms_out=after.get(one, ())))
    readout = tuple(part for part in last if part not in own)
    return Placed(tuple(made), _without_sum(inner, top), readout)


def _sides(inner: Sequence[Between]) -> dict[Between, bool]:
    """Returns whether norms are after the sum below, of parts with norms and no matrix; as most are, where the code is silent."""
    sides: dict[Between, bool] = {}
    untold = []
    for between in inner:
        if of_kind(between.parts, "matrix") or not of_kind(between.parts, "norm"):
            continue
        is_after = _is_after(between)
        if is_after is None:
            untold.append(between)
        else:
            sides[between] = is_after
    told = list(sides.values())
    for between in untold:
        sides[between] = told.count(True) >= told.count(False)
    return sides


def _is_after(between: Between) -> bool | None:
    """Returns whether norms are after the sum below or in front of the sublayer above; None where the code does not tell."""
    below, above = between.below, between.above
    lines = of_kind(between.parts, "norm")[0].lines
    after, before = order(lines, below.lines), None
    if above is not None:
        before = order(lines, above.lines)
    if after == 0:
        return True
    is_after = after is not None and after > 0
    is_before = before is not None and before < 0
    if is_after != is_before:
        return is_after
    if above is not None and bool(below.norms_in) != bool(above.norms_in):
        return not below.norms_in
    return None


def _above_matrices(parts) -> list[Part]:
    """Returns the parts after the last matrix."""
    run: list[Part] = []
    for part in parts:
        run.append(part)
        if part.kind == "matrix":
            run = []
    return run


def _site_of_norm(parts):
    """Returns the line that calls the last norm of a stretch, and its function; None where there is none."""
    norms = of_kind(_above_matrices(parts), "norm") or of_kind(parts, "norm")
    if not norms:
        return None
    return norms[-1].lines[:2]


def _own_norm(top: Between, sites) -> tuple[Part, ...]:
    """Returns the norm after the last sum that belongs to it, and is no final norm."""
    for part in top.parts:
        if part.kind == "matrix":
            break
        if part.kind == "norm":
            if order(part.lines, top.below.lines) == 0 or part.lines[:2] in sites:
                return (part,)
            break
    return ()


# ---- what is on the path without a sum ---------------------------------------------------------------------------


def _without_sum(inner: Sequence[Between], top: Between) -> tuple[Between, ...]:
    """Returns what is a branch and yet on the path; what is at the top where its matrix is that of another."""
    branches = [between for between in inner if _is_a_branch(between.parts)]
    if of_kind(top.parts, "matrix"):
        sites = [_site_of_matrix(between) for between in branches]
        if _site_of_matrix(top) in sites:
            branches.append(top)
    return tuple(branches)


def _is_a_branch(parts) -> bool:
    """Returns whether it is what a branch is: two matrices and a function between, that is no norm."""
    matrices = 0
    bends = False
    for part in of_kind(parts, "matrix", "other"):
        bends = bends or part.kind == "other"
        for operation in part.operations:
            matrices += operation.name in CONTRACTIONS
            bends = bends or operation.name in BENDING
    return matrices > 1 and bends


def _site_of_matrix(between: Between) -> Line:
    """Returns the line that calls the first matrix, seen from the sublayer below."""
    matrix = of_kind(between.parts, "matrix")[0]
    return seen_from(matrix.lines, between.below.lines)
