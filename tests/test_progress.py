"""Bars: one at a time, with the estimate, and gone at the end."""

import io
import time

import pytest

from gradflow import progress
from gradflow.progress import Waiting, about, counting


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, of bars that show at once."""
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "PACE", 0.01)
    screen = io.StringIO()
    original = progress.tqdm
    monkeypatch.setattr(progress, "tqdm", lambda *a, **options: original(*a, file=screen, **options))
    return screen


def wait_for(screen, words: str) -> None:
    """Returns once the words are drawn, or after a while."""
    for _ in range(500):
        if words in screen.getvalue():
            return
        time.sleep(0.01)


def test_a_bar_says_what_it_waits_for_and_how_long_that_will_take(drawn):
    with Waiting("measure") as bar:
        wait_for(drawn, "measure: 00:0")
        bar.expect(1234.5)
        wait_for(drawn, "measure, about 1200 s:   0%")
    assert "measure: 00:0" in drawn.getvalue()
    assert "measure, about 1200 s:   0%" in drawn.getvalue()


def test_what_takes_longer_than_expected_is_not_said_to_be_done(drawn):
    with Waiting("predict") as bar:
        bar.expect(1e-3)
        wait_for(drawn, " 99%")
    assert " 99%" in drawn.getvalue()
    assert "100%" not in drawn.getvalue()


def test_inside_of_a_bar_no_other_is_drawn(drawn):
    with Waiting("inspect"), Waiting("measure") as inner:
        inner.expect(1.0)
        wait_for(drawn, "inspect")
    with counting(3, "step") as steps, Waiting("theory"):
        steps.update()
        time.sleep(0.05)
    assert "measure" not in drawn.getvalue()
    assert "theory" not in drawn.getvalue()
    assert not progress.SHOWN.locked()


def test_an_error_ends_the_bar(drawn):
    with pytest.raises(ValueError, match="of the block"), Waiting("measure"):
        raise ValueError("of the block")
    assert not progress.SHOWN.locked()


def test_an_estimate_in_words():
    assert [about(0.123), about(11.7), about(1234)] == ["about 0.12 s", "about 12 s", "about 1200 s"]
