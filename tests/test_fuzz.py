"""Two hundred of the cases of `validation/fuzz.py`: each is refused in a short line, or comes out right."""

from validation.fuzzing import running
from validation.fuzzing.cases import KINDS, suite


def test_the_cases_of_the_suite_are_of_all_kinds():
    chosen = suite()
    assert len(chosen) == 200
    assert {case.kind for case in chosen} == set(KINDS)
    assert len({case.code for case in chosen}) == 200


def test_what_is_misspelt_or_impossible_or_damaged_is_refused_in_a_line_or_comes_out_right(tmp_path):
    chosen = {case.name: case for case in suite()}
    outcomes = list(running.run(list(chosen.values()), tmp_path))
    assert len(outcomes) == len(chosen)
    failed = [f"{one.outcome} {one.name} {chosen[one.name].code}: {one.detail}" for one in outcomes if not one.fine]
    assert not failed, "\n".join(failed)
