"""Two hundred of the cases of `validation/fuzz.py`: each is refused in a short line, or comes out right."""

import pytest
from validation.fuzzing import running
from validation.fuzzing.cases import KINDS, suite

CASES = {case.name: case for case in suite()}
FEW = [name for name, case in CASES.items() if "swept(" not in case.code][::9]  # no sweep has to be made for them


def test_the_cases_of_the_suite_are_of_all_kinds():
    assert len(CASES) == 200
    assert len({case.code for case in CASES.values()}) == 200
    for names in (CASES, FEW):
        assert {CASES[name].kind for name in names} == set(KINDS)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(FEW, id="some"),
        pytest.param([name for name in CASES if name not in FEW], id="the others", marks=pytest.mark.long),
    ],
)
def test_what_is_misspelt_or_impossible_or_damaged_is_refused_in_a_line_or_comes_out_right(names, tmp_path):
    chosen = [CASES[name] for name in names]
    outcomes = list(running.run(chosen, tmp_path))
    assert len(outcomes) == len(chosen)
    failed = [f"{one.outcome} {one.name} {CASES[one.name].code}: {one.detail}" for one in outcomes if not one.fine]
    assert not failed, "\n".join(failed)
