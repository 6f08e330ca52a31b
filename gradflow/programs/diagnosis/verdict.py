"""What is wrong with a trunk: mistakes in any network, and what differs from what is expected; one finding for all alike."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ...results.diagnosis import Finding
from ...results.lines import Line
from . import comparison, mistakes
from .case import Case

CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    mistakes.missing_sums,
    mistakes.norms_on_path,
    mistakes.double_norms,
    mistakes.added_twice,
    mistakes.shared_norms,
    mistakes.eps_outside,
    mistakes.scores,
    mistakes.lonely_tokens,
    mistakes.norms_over_tokens,
    mistakes.lost_masks,
    mistakes.final_norm,
    comparison.unexpected,
)


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
        lines: list[Line] = []
        depths: set[int] = set()
        for one in same:
            lines += one.lines
            depths.update(one.depths)
        merged.append(replace(same[0], lines=tuple(dict.fromkeys(lines)), depths=tuple(sorted(depths))))
    return merged
