"""What is wrong with a trunk: of every mistake the criterion, and what to do about it.

Each function takes a trunk that is taken apart and yields findings. Some mistakes are mistakes in any network (a residual sum
that is missing, a norm on the skip, a norm of a norm, scores that are not divided by √d, one norm in two sublayers); others are
one against what is expected, or against the others of the program.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ...results.diagnosis import CodeLine, Finding
from ..source import Line
from .expected import Expected, Shape, shape
from .identity import identities
from .passages import Part
from .path import Placed
from .places import seen_from
from .sublayers import Sublayer


class Case(NamedTuple):
    """A trunk taken apart, what is expected of it, and whether it is a language model's, and by what sign."""

    placed: Placed
    expected: Expected
    predicts_next: str
    number: int

    @property
    def sublayers(self) -> tuple[Sublayer, ...]:
        """Its sublayers."""
        return self.placed.sublayers


def findings(case: Case) -> list[Finding]:
    """Returns all findings of a trunk, one for sublayers that have the same at the same lines."""
    found: list[Finding] = []
    for check in CHECKS:
        found += _merged(check(case))
    return found


def _merged(found: Iterable[Finding]) -> list[Finding]:
    """Returns findings, those that say the same in other sublayers as one."""
    alike: dict[tuple, list[Finding]] = {}
    for one in found:
        alike.setdefault((one.mistakes, one.text), []).append(one)
    merged = []
    for same in alike.values():
        lines = tuple(dict.fromkeys(line for one in same for line in one.lines))
        depths = tuple(sorted({depth for one in same for depth in one.depths}))
        merged.append(same[0].__class__(same[0].mistakes, same[0].text, same[0].remedy, lines, depths, same[0].trunk))
    return merged


def code_line(line: Line) -> CodeLine:
    """Returns a line without its function."""
    return CodeLine(line.file, line.number)


def _finding(case: Case, mistakes, text: str, remedy: str, lines: Iterable[Line], *of: Sublayer) -> Finding:
    mistakes = (mistakes,) if isinstance(mistakes, str) else tuple(mistakes)
    return Finding(mistakes, text, remedy, tuple(map(code_line, lines)), tuple(one.depth for one in of), case.number)


def _line_of(part, of: Sublayer) -> Line:
    return seen_from(part.lines, of.lines)


# ---- mistakes in any network -----------------------------------------------------------------------------------


def missing_sums(case: Case) -> Iterator[Finding]:
    """A function with weights is on the path between two sublayers: x = F(N x)."""
    for between in case.placed.without_sum:
        matrices = [part for part in between.parts if part.kind == "matrix"]
        lines = {_line_of(part, between.below) for part in matrices}
        text = "a branch is not added: the stream goes on as F(x) alone, without a skip"
        yield _finding(case, "no_add", text, "write x = x + F(x)", sorted(lines))


def norms_on_path(case: Case) -> Iterator[Finding]:
    """The norm's output takes the place of the stream: h + F(h), h = N(x); but where the skip is a matrix, as between stages."""
    for one in case.sublayers:
        if one.norms_on_path and one.skip != "matrix":
            lines = [_line_of(part, one) for part in one.norms_on_path]
            text = (
                "the norm is on the residual path: h + F(h) with h = N(x), either since the norm's output was named as the "
                "stream or since the branch's output is added to the norm's"
            )
            remedy = "write x = x + F(N(x)), and leave x itself as it is"
            yield _finding(case, ("norm_on_path", "sum_from_norm"), text, remedy, [*lines, one.line], one)


def double_norms(case: Case) -> Iterator[Finding]:
    """The branch begins with two norms, one of the other."""
    for one in case.sublayers:
        for norms in (one.norms_in, one.norms_branch):
            if len(norms) > 1:
                lines = [part.lines[0] for part in norms] + [line for part in norms for line in part.lines[1:2]]
                lines += [_line_of(part, one) for part in norms]
                text = "two norms one after the other, N(N(x)): the first has no effect but through its gain"
                yield _finding(case, "double_norm", text, "leave one out", [one.line, *dict.fromkeys(lines)], one)


def added_twice(case: Case) -> Iterator[Finding]:
    """The stream is a term of the sum twice: 2 x + F(x)."""
    for one in case.sublayers:
        plain = [term for term in one.fork.skips if term.is_view]
        if len(plain) > 1:
            text = f"the stream is added {len(plain)} times: {len(plain)} x + F(x)"
            remedy = "add it either in the branch's function or around it"
            yield _finding(case, "added_twice", text, remedy, [one.line], one)


def shared_norms(case: Case) -> Iterator[Finding]:
    """Two sublayers have one norm's parameters, and each its own matrices."""
    seen: list[tuple[Sublayer, frozenset]] = []
    for one in case.sublayers:
        own = identities(one.room, one.norms)
        for earlier, theirs in seen:
            is_other_turn = earlier.room is not one.room or earlier.fork is one.fork
            if own & theirs and not is_other_turn and not (one.matrices & earlier.matrices):
                lines = [one.line, earlier.line]
                text = "two sublayers share the parameters of one norm"
                yield _finding(case, "shared_norm", text, "give each sublayer a norm of its own", lines, earlier, one)
                break
        seen.append((one, own))


def eps_outside(case: Case) -> Iterator[Finding]:
    """A norm divides by √v + ε."""
    text = "a norm divides by √v + ε, ε outside of the root"
    remedy = "divide by √(v + ε), as LayerNorm and RMSNorm are defined"
    for one in case.sublayers:
        norms = [part for part in one.norms if _has_eps_outside(part)]
        if norms:
            lines = [line for part in norms for line in (part.lines[0], _line_of(part, one))]
            yield _finding(case, "eps_outside", text, remedy, dict.fromkeys(lines), one)
    for part in case.placed.readout:
        if _has_eps_outside(part):
            yield _finding(case, "eps_outside", text, remedy, part.lines[:1])


def _has_eps_outside(part: Part) -> bool:
    return part.norm is not None and bool(part.norm.eps_outside)


def scores(case: Case) -> Iterator[Finding]:
    """The scores are not divided by the root of the head's width; those that are normalized, or trained to a scale, aside."""
    for one in case.sublayers:
        attention = one.attention
        if attention is None or attention.scale is None or attention.width == 1:
            continue
        if math.isclose(attention.scale, 1.0, rel_tol=1e-3):
            text = f"scores are not divided by √d, d = {attention.width} the width of a head"
            remedy = "divide them by √d, unless the queries' weights were drawn that much smaller, as in T5"
            yield _finding(case, "unscaled_scores", text, remedy, [attention.line, one.line], one)


def lonely_tokens(case: Case) -> Iterator[Finding]:
    """There is a softmax over a product of queries and keys, and yet every token's output depends on that token alone."""
    for one in case.sublayers:
        attention = one.attention
        if attention is None or not attention.of_itself or one.coupled is None:
            continue
        if one.coupled.words == "token-wise":
            text = "attention couples no tokens: a token sees itself alone, as where heads stand in the place of tokens"
            remedy = "transpose to [batch, head, token, feature] in front of the scores, and back"
            lines = [one.line, attention.line, *attention.lines[1:2], *attention.split]
            yield _finding(case, "heads_for_tokens", text, remedy, lines, one)


def lost_masks(case: Case) -> Iterator[Finding]:
    """An attention sees later tokens, though others of the trunk don't, or though the targets are the next tokens."""
    attentions = []
    for one in case.sublayers:
        if one.attention is not None and one.attention.of_itself and one.coupled is not None:
            attentions.append((one, one.attention, one.coupled))
    causal = [one for one, _, coupled in attentions if coupled.earlier and not coupled.later]
    for one, attention, coupled in attentions:
        if not coupled.later:
            continue
        if case.predicts_next:
            text = f"the causal mask is missing: a token sees those after it, and {case.predicts_next}"
        elif len(causal) > len(attentions) - len(causal):
            text = "the causal mask is missing: a token sees those after it, and in most other layers it does not"
        else:
            continue
        lines = [attention.softmax[0], one.line]
        yield _finding(case, "no_causal_mask", text, "mask the scores above the diagonal", lines, one)


def final_norm(case: Case) -> Iterator[Finding]:
    """The stream has norms in its branches alone, and is read out without one."""
    last = case.sublayers[-1]
    has_norm = any(part.kind == "norm" for part in case.placed.readout) or bool(last.norms_out)
    in_branches = [one for one in case.sublayers if one.norms_in or one.norms_branch]
    if case.expected.final_norm is False or has_norm or len(in_branches) * 2 < len(case.sublayers):
        return
    lines = [part.line for part in case.placed.readout if part.kind == "matrix"][:1] or [last.line]
    text = "there is no final norm: the stream, whose size grows with depth, is read out as it is"
    yield _finding(case, "no_final_norm", text, "put a norm in front of the readout", lines)


# ---- against what is expected ----------------------------------------------------------------------------------


def unexpected(case: Case) -> Iterator[Finding]:
    """A sublayer is another instance of equation (1) than is expected, or than most others of its kind."""
    for place, one in enumerate(case.sublayers):
        own, against = shape(one), case.expected
        wanted = against.shapes[place]
        if _differ(own, wanted) and not _is_said(one, own, wanted):
            name = _name(own, wanted)
            text = (
                f"{_words(name, own, wanted)}: {own.equation} in the place of {wanted.equation}, as {_whose(against)}"
            )
            lines = [one.line, *[_line_of(part, one) for part in one.norms]]
            yield _finding(case, name, text, f"write {wanted.equation}", dict.fromkeys(lines), one)


def _whose(expected: Expected) -> str:
    return expected.name if expected.name.startswith("the ") else f"{expected.name} has it"


def _differ(own: Shape, wanted: Shape) -> bool:
    pairs = zip(own, wanted, strict=True)
    return any(one != other and "?" not in (one, other) for one, other in pairs)


def _is_said(one: Sublayer, own: Shape, wanted: Shape) -> bool:
    """Returns whether another finding has said what differs: a norm on the path, a skip that is there twice."""
    if one.norms_on_path:
        own = own._replace(norm_in=wanted.norm_in)
    if len(one.fork.skips) > 1 or one.skip == "matrix":
        own = own._replace(skip=wanted.skip)
    return not _differ(own, wanted)


def _name(own: Shape, wanted: Shape) -> str:
    """Returns the name of the mistake."""
    lost = [part for part in ("norm_in", "norm_branch", "norm_out") if getattr(wanted, part) and not getattr(own, part)]
    won = [part for part in ("norm_in", "norm_branch", "norm_out") if getattr(own, part) and not getattr(wanted, part)]
    names = {"norm_in": "pre", "norm_branch": "branch", "norm_out": "post"}
    if lost == ["norm_in"] and won == ["norm_branch"]:
        return "norm_after_branch"
    if lost and won:
        return f"{names[won[0]]}_for_{names[lost[0]]}"
    if lost:
        return f"no_{lost[0]}"
    if won:
        return f"extra_{won[0]}"
    return "skip" if own.skip != wanted.skip else "write"


def _words(name: str, own: Shape, wanted: Shape) -> str:
    if name == "norm_after_branch":
        return "the norm is on the branch's output, not on its input"
    if name.startswith("no_"):
        return "a norm is missing"
    if name.startswith("extra_"):
        return "there is a norm too many"
    if name == "post_for_pre":
        return "the norm is on the sum, on the residual path, not on the branch's input"
    if name in ("skip", "write"):
        return f"the {'skip' if name == 'skip' else 'branch'} is multiplied by something else"
    return "the norm is at another place"


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    missing_sums,
    norms_on_path,
    double_norms,
    added_twice,
    shared_norms,
    eps_outside,
    scores,
    lonely_tokens,
    lost_masks,
    final_norm,
    unexpected,
)
