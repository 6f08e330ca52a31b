"""What stands on the path between two residual sums, and whose it is: the norm of the sum below, or in front of the sublayer above.

    N(x + F x)        after the sum: post-norm
    h + F(h), h = N x in front of the sublayer, on its skip too

Both are one function of the stream; how the code is written tells them apart: a norm belongs to the sum in whose line it stands; else
to the sum above or below it in one function.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..trunk import CONTRACTIONS
from .passages import Part
from .places import order, seen_from
from .sublayers import Sublayer
from .unrolled import Unrolled

AFTER, BEFORE = "after", "before"
BENDING = {"exp", "tanh", "logistic", "max", "erf", "erfc", "custom_jvp_call", "sin", "cos"}


@dataclass(frozen=True, eq=False)
class Between:
    """Learned functions on the path where a residual sum is missing: the parts, and the sublayers below and above."""

    parts: tuple[Part, ...]
    below: Sublayer | None
    above: Sublayer | None


@dataclass(frozen=True, eq=False)
class Placed:
    """The sublayers with the norms of the path; functions on the path without a sum; what follows the last sublayer."""

    sublayers: tuple[Sublayer, ...]
    without_sum: tuple[Between, ...]
    readout: tuple[Part, ...]


def placed(found: Unrolled, sublayers: Sequence[Sublayer]) -> Placed:
    """Returns sublayers with the norms of the path in their places."""
    stretches = [stretch.parts for stretch in found.stretches]
    neighbours = list(zip([None, *sublayers], [*sublayers, None], strict=True))
    inner = list(zip(stretches, neighbours, strict=True))[1:-1]
    without_sum = [Between(parts, *around) for parts, around in inner if _is_a_branch(parts)]
    repeated = {_site(parts, around) for parts, around in inner}

    sides = [_side(parts, *around) for parts, around in inner]
    usual = AFTER if sides.count(AFTER) >= sides.count(BEFORE) else BEFORE
    sides = [side or usual for side in sides]
    first_is_before = _site_of_norm(stretches[0]) in {_site_of_norm(parts) for parts, _ in inner} - {None}
    first_is_before = first_is_before and BEFORE in sides
    own: dict[Sublayer, dict[str, tuple]] = {one: {"norms_on_path": (), "norms_out": ()} for one in sublayers}
    if first_is_before:
        own[sublayers[0]]["norms_on_path"] = _norms(_last_run(stretches[0]))
    for (parts, (below, above)), side in zip(inner, sides, strict=True):
        if _has_matrix(parts):
            continue  # what lies around a missing sum is said with it
        if side == AFTER:
            own[below]["norms_out"] = _norms(parts)
        else:
            own[above]["norms_on_path"] = _norms(parts)
    after = [parts for (parts, _), side in zip(inner, sides, strict=True) if side == AFTER and not _has_matrix(parts)]
    top = _top(stretches[-1], sublayers[-1], {_site_of_norm(parts) for parts in after})
    own[sublayers[-1]]["norms_out"] = top
    rest = stretches[-1]
    if _site(rest, (sublayers[-1], None)) in repeated and _is_a_branch(rest, closed=False):
        without_sum.append(Between(rest, sublayers[-1], None))
    made = tuple(replace(one, **own[one]) for one in sublayers)
    return Placed(made, tuple(without_sum), tuple(part for part in rest if part not in top))


def _has_matrix(parts) -> bool:
    return any(part.kind == "matrix" for part in parts)


def _norms(parts) -> tuple[Part, ...]:
    return tuple(part for part in parts if part.kind == "norm")


def _last_run(parts) -> list[Part]:
    """Returns the parts after the last matrix."""
    run: list[Part] = []
    for part in parts:
        run = [] if part.kind == "matrix" else [*run, part]
    return run


def _side(parts, below: Sublayer, above: Sublayer) -> str | None:
    """Returns whether the norms of a stretch are after the sum below or in front of the sublayer above; None where the code does not tell."""
    norms = _norms(parts)
    if not norms:
        return None
    after, before = order(norms[0].lines, below.lines), order(norms[0].lines, above.lines)
    if after == 0:
        return AFTER
    is_after = after is not None and after > 0
    is_before = before is not None and before < 0
    if is_after != is_before:
        return AFTER if is_after else BEFORE
    if bool(below.norms_in) != bool(above.norms_in):
        return BEFORE if below.norms_in else AFTER
    return None


def _site_of_norm(parts):
    """Returns the line that calls the last norm of a stretch, and its function; None where there is none."""
    norms = _norms(_last_run(parts)) or _norms(parts)
    return norms[-1].lines[:2] if norms else None


def _top(parts, last: Sublayer, sites) -> tuple[Part, ...]:
    """Returns the norms after the last sum that are its own, and no final norm."""
    norms = []
    for part in parts:
        if part.kind == "matrix":
            break
        if part.kind == "norm":
            norms.append(part)
    if not norms:
        return ()
    is_own = order(norms[0].lines, last.lines) == 0 or norms[0].lines[:2] in sites
    return (norms[0],) if is_own else ()


# ---- what is on the path without a sum ---------------------------------------------------------------------------


def _is_a_branch(parts, closed: bool = True) -> bool:
    """Returns whether it is what a branch is: two matrices and a function between, that is no norm."""
    own = [part for part in parts if part.kind in ("matrix", "other")]
    operations = [operation for part in own for operation in part.operations]
    matrices = [operation for operation in operations if operation.name in CONTRACTIONS]
    bends = any(part.kind == "other" for part in own) or any(operation.name in BENDING for operation in operations)
    return len(matrices) > 1 and bends if closed else bool(matrices)


def _site(parts, around):
    """Returns the line that calls the first matrix of a stretch, seen from a neighbour; None where there is none."""
    matrices = [part for part in parts if part.kind == "matrix"]
    neighbour = next((one for one in around if one is not None), None)
    if not matrices or neighbour is None:
        return None
    return seen_from(matrices[0].lines, neighbour.lines)
