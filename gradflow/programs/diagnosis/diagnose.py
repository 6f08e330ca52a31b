"""`diagnose(loss_fn, params, batch)`: the residual sublayers of any program, what is wrong with them, and what can't be told."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...model.wirings.catalogue import Placement, Wiring, placement
from ...progress import Waiting
from ...results.arguments import answering, function, shown
from ...results.diagnosis import Diagnosis, Finding, Step, SublayerDiagnosis
from ..modules import cross_entropy, is_module
from ..modules import program as program_of_module
from ..trace.graph import Graph, Value, reached
from ..trace.pieces import check_whole
from ..trunk.search import NoTrunk, trunks
from ..trunk.trunk import Trunk
from .attention import Attention
from .case import Case, code_line
from .expected import by_majority, by_wiring, has_lanes
from .passages import Part
from .path import Placed, placed
from .places import seen_from
from .sublayers import Sublayer, sublayer, token_axes, with_lines
from .unrolled import Room, unrolled
from .values import Values
from .verdict import findings

TWO_NORMS = (
    "the final norm is one of the last sublayer's norm, which post-norm needs none of: whether pre-norm was meant can't be told; "
    "expect='pre' compares with it"
)


@answering()
def diagnose(
    loss_fn, *given, expect: str | Wiring | Placement | None = None, loss: Callable = cross_entropy
) -> Diagnosis:
    """Returns the residual sublayers of a program as instances of equation (1), its mistakes and their lines, what can't be told.

    Parameters
    ----------
    loss_fn : `(params, batch) -> loss`
        As it is differentiated; what it returns besides the loss is not looked at.
    given : the parameters and a batch, pytrees of arrays
        The stream is evaluated once: two examples tell as much as many. Weights as after some training tell more than those of
        the start, where gains may be zero.
        A module in the place of the loss: of NNX or Equinox `gf.diagnose(module, batch)`, of Linen `gf.diagnose(module,
        variables, batch)`; `loss` is then of its outputs and the targets.
    expect : name of gradflow's catalogue, `gf.Wiring` or `gf.Placement`, optional
        What every sublayer should be; by default what most others of its kind in the program are.

    Errors: ValueError for an unknown wiring. A program without a trunk has `report.no_trunk`, which says what goes past what.
    Not covered: what lies inside of loops that do not carry the stream, and inside of kernels (`pallas_call`).
    """
    if is_module(loss_fn):
        (loss_fn, params), batch = program_of_module(loss_fn, *given, loss=loss)
    elif len(given) == 2:
        params, batch = given
    else:
        raise TypeError(
            f"diagnose has {len(given) + 1} arguments: gf.diagnose(loss_fn, params, batch) or (module, batch)"
        )
    function("loss_fn", loss_fn)
    chosen = None if expect is None else placement(expect)
    leaves, fed_leaves = _arrays("params", params), _arrays("batch", batch)
    program = jax.make_jaxpr(loss_fn)(params, batch)
    try:
        found = trunks(program, len(leaves))
    except NoTrunk as error:
        return Diagnosis((), no_trunk=str(error))
    of = found[0].graph
    check_whole(of)
    steps = tuple(step for trunk in found for step in trunk.steps)
    fed = reached(of.operations, set(of.inputs[len(leaves) :]))
    learned = reached(of.operations, set(of.inputs[: len(leaves)]))
    room = Room(of, Values(of, [*leaves, *fed_leaves], steps), fed, learned)
    with Waiting("diagnose"):
        parts = [_of_trunk(number, trunk, room, fed_leaves, chosen) for number, trunk in enumerate(found)]
    return Diagnosis(
        sublayers=tuple(chain.from_iterable(part.sublayers for part in parts)),
        findings=tuple(chain.from_iterable(part.findings for part in parts)),
        undecided=tuple(dict.fromkeys(chain.from_iterable(part.undecided for part in parts))),
        expected=None if chosen is None else chosen.name,
        steps=tuple(part.steps for part in parts),
    )


def _arrays(name: str, tree) -> list:
    """Returns the leaves of a tree as arrays.

    Errors: TypeError for one that is no array, such as a function in a module.
    """
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex):
            where = f"{name}{jax.tree_util.keystr(path)}"
            raise TypeError(f"{where} is {shown(leaf)}: arrays alone are needed, no functions and settings beside them")
        leaves.append(jnp.asarray(leaf))
    return leaves


class OfTrunk(NamedTuple):
    """What is said of one trunk."""

    sublayers: tuple[SublayerDiagnosis, ...]
    findings: list[Finding]
    undecided: list[str]
    steps: tuple[Step, ...]


def _of_trunk(number: int, trunk: Trunk, room: Room, batch: list, chosen: Placement | None) -> OfTrunk:
    """Returns the sublayers of a trunk, findings, what can't be told, and its steps."""
    counts = [leaf.shape for leaf in batch if jnp.issubdtype(leaf.dtype, jnp.integer)]
    rows = unrolled(trunk, room)
    known: dict[Any, Sublayer] = {}
    taken = []
    for depth, (fork, own) in enumerate(rows.forks):
        if (fork, own) not in known:
            known[fork, own] = sublayer(fork, own, token_axes(fork.below, counts, trunk.lane_dimensions))
        taken.append(replace(known[fork, own], depth=depth))
    on_path = placed(rows, with_lines(taken))
    expected = by_majority(on_path.sublayers)
    undecided = _undecided(on_path)
    if chosen is None and on_path.sublayers[-1].norms_out and _final_norms(on_path):
        undecided.append(TWO_NORMS)
    if chosen is not None and has_lanes(chosen):
        here = "one array" if trunk.lane_dimensions is None else "several variables"
        undecided.append(
            f"{chosen.name} is a wiring on several lanes, and the stream here is {here}: norms of one lane, and what is read of "
            "each, are not told, so sublayers are compared with one another alone"
        )
    elif chosen is not None:
        expected = by_wiring(chosen, len(taken))
    case = Case(on_path, expected, _next_tokens(trunk, room, batch), number)
    said = findings(case)
    sublayers = tuple(_plain(one, number) for one in on_path.sublayers)
    return OfTrunk(sublayers, said, undecided, _steps(on_path, sublayers, said))


def _plain(one: Sublayer, number: int) -> SublayerDiagnosis:
    """Returns a sublayer as plain data."""
    return SublayerDiagnosis(
        one.depth,
        code_line(one.line),
        one.kind or "branch",
        _names(one.norms_on_path),
        _names(one.norms_in),
        _names(one.norms_branch),
        _names(one.norms_out),
        one.skip,
        one.write,
        len(one.fork.branches),
        number,
    )


def _final_norms(on_path: Placed) -> tuple[Part, ...]:
    return tuple(part for part in on_path.readout if part.kind == "norm")


def _names(norms: tuple[Part, ...]) -> tuple[str, ...]:
    return tuple(map(_name, norms))


def _name(norm: Part) -> str:
    return norm.norm.kind if norm.norm else "norm"


def _undecided(on_path: Placed) -> list[str]:
    """Returns what can't be told of a trunk."""
    found = []
    silent = [one for one in on_path.sublayers if one.silent]
    if silent:
        lines = ", ".join(dict.fromkeys(str(one.line) for one in silent))
        found.append(
            f"{lines}: the branch's output is zero here, as where its gain starts at zero: what it does to the stream "
            "can't be seen; what is said of it is from before that gain. Give parameters as after some steps of training"
        )
    for one in on_path.sublayers:
        if one.coupled is None and not one.silent:
            why = "its output has other tokens than its input"
            found.append(f"{one.line}: whether the branch couples tokens can't be told: {why}")
        if one.attention is not None and one.attention.why:
            line, why = one.attention.line, one.attention.why
            found.append(f"{line}: whether scores are to be divided by √d can't be told: {why}")
        if one.attention is not None and _is_unusual(one.attention):
            line, scale, width = one.attention.line, one.attention.scale, one.attention.width
            usual = f"{width**-0.5:.4g}"
            found.append(
                f"{line}: scores are multiplied by {scale:.4g}, 1/√d is {usual}: whether it is meant can't be told"
            )
    return list(dict.fromkeys(found))


def _is_unusual(attention: Attention) -> bool:
    """Returns whether scores are scaled, and by something else than 1/√d or 1/d."""
    scale, width = attention.scale, attention.width
    if scale is None or scale > 0.999:
        return False
    return not (math.isclose(scale, width**-0.5, rel_tol=0.01) or math.isclose(scale, 1 / width, rel_tol=0.01))


# ---- a language model's ----------------------------------------------------------------------------------------


def _next_tokens(trunk: Trunk, room: Room, batch: list) -> str:
    """Returns by what sign a trunk is that of a model of next tokens; nothing where there is none.

    Either an array of the batch has the tokens that the trunk is made from, one place later; or the program takes both from
    one array.
    """
    of = room.graph
    inputs = of.inputs[len(of.inputs) - len(batch) :]
    own = [(value, np.asarray(leaf)) for value, leaf in zip(inputs, batch, strict=True) if _are_tokens(value)]
    feeding = [(value, leaf) for value, leaf in own if _feeds(of, value, trunk)]
    for _, tokens in feeding:
        for _, targets in own:
            if tokens.shape[-1] > 1 and np.array_equal(tokens[..., 1:], targets[..., :-1]):
                return "the targets are the tokens one place later"
    for value, _ in feeding:
        if _is_shifted(of, value):
            return "the tokens are used as they are and one place later"
    return ""


def _are_tokens(value: Value) -> bool:
    return jnp.issubdtype(value.aval.dtype, jnp.integer) and len(value.shape) > 0


def _feeds(of: Graph, value: Value, trunk: Trunk) -> bool:
    """Returns whether tokens have a part in the bottom of a trunk."""
    return trunk.source in reached(of.operations, {value})


def _is_shifted(of: Graph, value: Value) -> bool:
    """Returns whether a program takes all but the last and all but the first of an array's last axis."""
    length = value.shape[-1]
    slices = [operation.params for operation, _ in of.users.get(value, ()) if operation.name == "slice"]
    ends = {(params["start_indices"][-1], params["limit_indices"][-1]) for params in slices}
    return {(0, length - 1), (1, length)} <= ends


# ---- the picture -----------------------------------------------------------------------------------------------


def _steps(on_path: Placed, sublayers: tuple[SublayerDiagnosis, ...], said: list[Finding]) -> tuple[Step, ...]:
    """Returns the boxes of a trunk from the bottom up."""
    marked = {depth for finding in said for depth in finding.depths}
    marked_lines = {line for finding in said if not finding.depths for line in finding.lines}
    steps = []
    for one, plain in zip(on_path.sublayers, sublayers, strict=True):
        own = (one.depth,)
        is_marked = one.depth in marked
        for part in one.norms_on_path:
            steps.append(Step("norm", _name(part), code_line(seen_from(part.lines, one.lines)), own, is_marked))
        steps.append(Step("sublayer", plain.equation, plain.line, own, is_marked))
        for part in one.norms_out:
            steps.append(Step("norm", _name(part), code_line(seen_from(part.lines, one.lines)), own, is_marked))
    for part in on_path.readout:
        if part.kind in ("norm", "matrix"):
            text = "linear" if part.kind == "matrix" else _name(part)
            line = seen_from(part.lines, on_path.sublayers[-1].lines)
            steps.append(Step(part.kind, text, code_line(line), (), code_line(line) in marked_lines))
    return tuple(steps)
