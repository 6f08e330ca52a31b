"""A sublayer against what is expected of it: another instance of equation (1), and the name of the difference."""

from collections.abc import Iterator

from ...results.diagnosis import Finding
from .case import Case, finding, lines_of
from .expected import Expected, Shape, shape
from .sublayers import Sublayer


def unexpected(case: Case) -> Iterator[Finding]:
    """A sublayer is another instance of equation (1) than is expected, or than most others of its kind."""
    for place, one in enumerate(case.sublayers):
        own, against = shape(one), case.expected
        wanted = against.shapes[place]
        if _differ(own, wanted) and not _is_said(one, own, wanted):
            name = _name(own, wanted)
            text = f"{_words(name)}: {own.equation} in the place of {wanted.equation}, as {_whose(against)}"
            lines = [one.line, *lines_of(one.norms, one)]
            yield finding(case, name, text, f"write {wanted.equation}", lines, one)


def _whose(expected: Expected) -> str:
    if expected.name.startswith("the "):
        return expected.name
    return f"{expected.name} has it"


def _differ(own: Shape, wanted: Shape) -> bool:
    return any(one != other and "?" not in (one, other) for one, other in zip(own, wanted, strict=True))


def _is_said(one: Sublayer, own: Shape, wanted: Shape) -> bool:
    """Returns whether another finding has said what differs: a norm on the path, a skip that is there twice."""
    if one.norms_on_path:
        own = own._replace(norm_in=wanted.norm_in)
    if len(one.fork.skips) > 1 or one.skip == "matrix":
        own = own._replace(skip=wanted.skip)
    return not _differ(own, wanted)


def _name(own: Shape, wanted: Shape) -> str:
    """Returns the name of the mistake."""
    lost = _without(wanted.norms, own.norms)
    won = _without(own.norms, wanted.norms)
    names = {"norm_in": "pre", "norm_branch": "branch", "norm_out": "post"}
    if lost == ["norm_in"] and won == ["norm_branch"]:
        return "norm_after_branch"
    if lost and won:
        return f"{names[won[0]]}_for_{names[lost[0]]}"
    if lost:
        return f"no_{lost[0]}"
    if won:
        return f"extra_{won[0]}"
    if own.skip != wanted.skip:
        return "skip"
    return "write"


def _without(places: list[str], others: list[str]) -> list[str]:
    return [place for place in places if place not in others]


def _words(name: str) -> str:
    if name == "norm_after_branch":
        return "the norm is on the branch's output, not on its input"
    if name.startswith("no_"):
        return "a norm is missing"
    if name.startswith("extra_"):
        return "there is a norm too many"
    if name == "post_for_pre":
        return "the norm is on the sum, on the residual path, not on the branch's input"
    if name == "skip":
        return "the skip is multiplied by something else"
    if name == "write":
        return "the branch is multiplied by something else"
    return "the norm is at another place"
