"""The steps at which a run is recorded."""

import numpy as np
import pytest

from gradflow.training import record_schedule
from gradflow.training.record_schedule import At

RUNS = (1, 2, 7, 100, 1234)
SCHEDULES = {
    "early": record_schedule.early,
    "every:1": record_schedule.every(1),
    "every:40": record_schedule.every(40),
    "logarithmic:1": record_schedule.logarithmic(1),
    "logarithmic:4": record_schedule.logarithmic(4),
}


@pytest.mark.parametrize("steps", RUNS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_begins_at_0_ends_at_the_last_step_and_rises(name, steps):
    marks = SCHEDULES[name](steps)
    assert marks[0] == 0
    assert marks[-1] == steps
    assert (np.diff(marks) > 0).all()
    assert record_schedule.steps_of(record_schedule.named([name]), steps) == marks


def test_early_is_dense_where_things_happen():
    assert record_schedule.early(1000) == (0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
    assert record_schedule.early(3) == (0, 1, 2, 3)


def test_every_nth_step_is_a_multiple_of_n_or_the_last():
    assert record_schedule.every(3)(10) == (0, 3, 6, 9, 10)
    assert record_schedule.every(20)(10) == (0, 10)


@pytest.mark.parametrize("per_decade", [1, 3, 4])
def test_logarithmic_steps_are_that_many_a_decade(per_decade):
    marks = record_schedule.logarithmic(per_decade)(10**5)
    for power in (2, 3, 4):
        inside = [mark for mark in marks if 10**power <= mark < 10 ** (power + 1)]
        assert len(inside) == per_decade
        expected = 10.0 ** (power + np.arange(per_decade) / per_decade)
        np.testing.assert_allclose(inside, expected, atol=0.5)


def test_steps_come_in_order_and_once_whatever_they_are_given_as():
    assert record_schedule.steps_of((5, 0, 5, 2), 5) == (0, 2, 5)
    assert record_schedule.steps_of(np.array([3, 1]), 5) == (1, 3)
    assert record_schedule.steps_of(lambda steps: (steps // 2,), 10) == (5,)
    assert record_schedule.steps_of(None, 100) == record_schedule.early(100)
    assert record_schedule.steps_of(record_schedule.named(["0", "10", "3"]), 10) == (0, 3, 10)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["earli"], "give steps, or early, every:N or logarithmic:N"),
        (["every"], "'every': give steps"),
        (["every:x"], "'every:x': give steps"),
        (["early:3"], "'early:3': give steps"),
        (["1", "early"], "'1 early': give steps"),
        (["-1"], "'-1': give steps"),
        (["every:0"], r"every\(n\): n is 0: at least 1"),
        (["logarithmic:0"], r"per_decade is 0: at least 1"),
    ],
)
def test_words_that_mean_no_schedule_are_refused_with_those_that_do(words, remedy):
    with pytest.raises(ValueError, match=remedy):
        record_schedule.named(words)


@pytest.mark.parametrize("record", [(), (0, 11), lambda steps: ()])
def test_steps_that_a_run_does_not_reach_are_refused(record):
    with pytest.raises(ValueError, match="must lie between 0 and steps = 10"):
        record_schedule.steps_of(record, 10)


@pytest.mark.parametrize("record", [(-1,), (0.7,), ("3",), (True,), "early", 5])
def test_what_is_no_step_is_refused(record):
    with pytest.raises(
        ValueError, match=r"a step of record is .*: (at least 0|a whole number)|record is .*: steps are needed"
    ):
        record_schedule.steps_of(record, 10)


def test_a_run_without_steps_is_refused():
    with pytest.raises(ValueError, match="steps is 0: at least 1"):
        record_schedule.steps_of(None, 0)


def test_readings_at_some_steps_are_a_value():
    assert At([0, 5], "spectrum") == At((0, 5), "spectrum")
    assert At((0,), "spectrum", "update").readings == ("spectrum", "update")
    assert len({At((0,), "spectrum"), At([0], "spectrum"), At((1,), "spectrum")}) == 2
