"""Mistakes in any network, each with its criterion and its remedy: functions of a trunk that yield findings.

A residual sum that is missing, a norm on the skip, a norm of a norm, scores that are not divided by √d, one norm in two
sublayers, a mask that is lost.
"""

from collections.abc import Iterator

from ...results.diagnosis import Finding
from .case import Case, finding, line_of
from .identity import identities
from .passages import Part
from .sublayers import Sublayer


def missing_sums(case: Case) -> Iterator[Finding]:
    """A function with weights is on the path between two sublayers: x = F(N x)."""
    for between in case.placed.without_sum:
        matrices = [part for part in between.parts if part.kind == "matrix"]
        lines = {line_of(part, between.below) for part in matrices}
        text = "a branch is not added: the stream goes on as F(x) alone, without a skip"
        yield finding(case, "no_add", text, "write x = x + F(x)", sorted(lines))


def norms_on_path(case: Case) -> Iterator[Finding]:
    """The norm's output takes the place of the stream: h + F(h), h = N(x); but where the skip is a matrix, as between stages."""
    for one in case.sublayers:
        if one.norms_on_path and one.skip != "matrix":
            lines = [line_of(part, one) for part in one.norms_on_path]
            text = (
                "the norm is on the residual path: h + F(h) with h = N(x), either since the norm's output was named as the "
                "stream or since the branch's output is added to the norm's"
            )
            remedy = "write x = x + F(N(x)), and leave x itself as it is"
            yield finding(case, ("norm_on_path", "sum_from_norm"), text, remedy, [*lines, one.line], one)


def double_norms(case: Case) -> Iterator[Finding]:
    """The branch begins with two norms, one of the other."""
    for one in case.sublayers:
        for norms in (one.norms_in, one.norms_branch):
            if len(norms) > 1:
                lines = [part.lines[0] for part in norms] + [line for part in norms for line in part.lines[1:2]]
                lines += [line_of(part, one) for part in norms]
                text = "two norms one after the other, N(N(x)): the first has no effect but through its gain"
                yield finding(case, "double_norm", text, "leave one out", [one.line, *dict.fromkeys(lines)], one)


def added_twice(case: Case) -> Iterator[Finding]:
    """The stream is a term of the sum twice: 2 x + F(x)."""
    for one in case.sublayers:
        plain = [term for term in one.fork.skips if term.is_view]
        if len(plain) > 1:
            text = f"the stream is added {len(plain)} times: {len(plain)} x + F(x)"
            remedy = "add it either in the branch's function or around it"
            yield finding(case, "added_twice", text, remedy, [one.line], one)


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
                yield finding(case, "shared_norm", text, "give each sublayer a norm of its own", lines, earlier, one)
                break
        seen.append((one, own))


def eps_outside(case: Case) -> Iterator[Finding]:
    """A norm divides by √v + ε."""
    text = "a norm divides by √v + ε, ε outside of the root"
    remedy = "divide by √(v + ε), as LayerNorm and RMSNorm are defined"
    for one in case.sublayers:
        norms = [part for part in one.norms if _has_eps_outside(part)]
        if norms:
            lines = [line for part in norms for line in (part.lines[0], line_of(part, one))]
            yield finding(case, "eps_outside", text, remedy, dict.fromkeys(lines), one)
    for part in case.placed.readout:
        if _has_eps_outside(part):
            yield finding(case, "eps_outside", text, remedy, part.lines[:1])


def _has_eps_outside(part: Part) -> bool:
    return part.norm is not None and bool(part.norm.eps_outside)


def scores(case: Case) -> Iterator[Finding]:
    """The scores are not divided by the root of the head's width; those that are normalized, or trained to a scale, aside."""
    for one in case.sublayers:
        attention = one.attention
        if attention is None or attention.scale is None or attention.width == 1:
            continue
        if attention.scale > 0.999:
            text = f"scores are not divided by √d, d = {attention.width} the width of a head"
            if attention.scale > 1.001:
                text += f", but multiplied by {attention.scale:.4g}"
            remedy = "divide them by √d, unless the queries' weights were drawn that much smaller, as in T5"
            yield finding(case, "unscaled_scores", text, remedy, [attention.line, one.line], one)


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
            yield finding(case, "heads_for_tokens", text, remedy, lines, one)


def norms_over_tokens(case: Case) -> Iterator[Finding]:
    """A norm of a language model is over its tokens: a token sees those after it."""
    for one in case.sublayers:
        norms = [part for part in one.norms if _is_over_tokens(part, one)]
        if norms and case.predicts_next:
            kinds = ", ".join(dict.fromkeys(part.norm.kind for part in norms if part.norm is not None))
            text = f"a norm is over the tokens ({kinds}): a token sees those after it, and {case.predicts_next}"
            lines = [line_of(part, one) for part in norms]
            yield finding(case, "norm_over_tokens", text, "take it over the features, the last axis", lines, one)


def _is_over_tokens(part: Part, one: Sublayer) -> bool:
    """Returns whether a part is a norm over tokens; axes of one lane and of a stack of these are told from the last one."""
    if part.norm is None:
        return False
    if part.norm.axis is None:
        return True
    dimensions = len(part.operations[-1].outputs[0].shape)
    stacked = len(one.fork.below.shape)
    if dimensions == stacked:
        return part.norm.axis in one.token_axes
    return part.norm.axis - dimensions in [axis - stacked for axis in one.token_axes]


def lost_masks(case: Case) -> Iterator[Finding]:
    """An attention sees later tokens, though others of the trunk don't, or though the targets are the next tokens."""
    attentions = []
    for one in case.sublayers:
        if one.attention is not None and one.attention.of_itself and one.coupled is not None:
            attentions.append((one, one.attention, one.coupled))
    causal = [one for one, _, coupled in attentions if coupled.earlier and not coupled.later]
    for one, attention, coupled in attentions:
        if not coupled.later or any(_is_over_tokens(part, one) for part in one.norms):
            continue
        what = "missing" if coupled.earlier else "upside down"
        if case.predicts_next:
            text = f"the causal mask is {what}: a token sees those after it, and {case.predicts_next}"
        elif len(causal) > len(attentions) - len(causal):
            text = f"the causal mask is {what}: a token sees those after it, and in most other layers it does not"
        else:
            continue
        lines = [attention.softmax[0], one.line]
        remedy = "mask the scores above the diagonal, and take the softmax over the keys"
        yield finding(case, "no_causal_mask", text, remedy, lines, one)


def final_norm(case: Case) -> Iterator[Finding]:
    """The stream has norms in its branches alone, and is read out without one."""
    last = case.sublayers[-1]
    has_norm = any(part.kind == "norm" for part in case.placed.readout) or bool(last.norms_out)
    in_branches = [one for one in case.sublayers if one.norms_in or one.norms_branch]
    if case.expected.final_norm is False or has_norm or len(in_branches) * 2 < len(case.sublayers):
        return
    lines = [part.line for part in case.placed.readout if part.kind == "matrix"][:1] or [last.line]
    text = "there is no final norm: the stream, whose size grows with depth, is read out as it is"
    yield finding(case, "no_final_norm", text, "put a norm in front of the readout", lines)
