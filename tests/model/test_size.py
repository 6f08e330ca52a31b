"""Sizes: what a job takes is estimated from shapes, and what the machine has not is refused in one line before it is drawn."""

import jax
import numpy as np
import pytest

import gradflow as gf
from gradflow.model.inputs import size

TINY = {"depth": 1, "width": 8, "heads": 2, "context": 8}
TEXT = gf.data.text(context=8, batch=2)
BILLION = 10**9


def models(**shape):
    return gf.transformers("pre", **{**TINY, **shape})


def test_weights_are_counted_as_they_are():
    model = models(depth=3)["pre"]
    drawn = model.init(0)
    assert size.held(model.shapes) == sum(leaf.nbytes for leaf in jax.tree.leaves(drawn))


def test_a_text_and_a_batch_have_the_same_extent():
    assert size.extent(TEXT) == size.extent(TEXT.batch(0, 0)) == (2, 8)
    assert size.extent({"inputs": np.ones((4, 5, 16)), "targets": np.zeros(4)}) == (4, 5)
    assert size.extent({"inputs": "nothing"}) == (1, 1)


def test_activations_grow_with_examples_and_with_the_square_of_tokens():
    model = models(width=64)["pre"]
    of = lambda examples, tokens: size.activations(model, model.shapes, examples, tokens)
    assert of(6, 8) == 3 * of(2, 8)
    assert of(1, 100_000) / of(1, 10_000) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bytes"), (999, "999 bytes"), (25.3e9, "25.3 GB"), (2e24, "2e+06 EB")]
)
def test_bytes_are_readable(count, words):
    assert size.readable(count) == words


def test_the_least_limit_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    monkeypatch.setattr(size, "LIMITS", (str(limit), str(tmp_path / "none")))
    assert size.memory() == 1_000_000
    limit.write_text("max\n")
    assert size.memory() > 1_000_000


REFUSED = {
    "blocks": lambda: gf.measure(models(depth=BILLION), TEXT),
    "blocks of one draw": lambda: models(depth=BILLION)["pre"].init(0),
    "features": lambda: gf.measure(models(width=2**20), TEXT),
    "tokens of the vocabulary": lambda: gf.measure(models(vocabulary=10 * BILLION), TEXT),
    "positions": lambda: gf.measure(models(context=100 * BILLION), TEXT),
    "seeds": lambda: gf.measure(models(), TEXT, seeds=BILLION),
    "examples": lambda: gf.measure(models(), gf.data.text(context=8, batch=BILLION)),
    "pairs of tokens": lambda: gf.measure(models(context=10**5), gf.data.text(context=10**5, batch=8)),
    "blocks to predict": lambda: gf.predict(models(depth=BILLION), TEXT),
    "examples to predict": lambda: gf.predict(models(), gf.data.text(context=8, batch=10**5)),
    "heads to draw": lambda: gf.predict(models(), TEXT, draws=BILLION),
    "replicas": lambda: gf.predict(models(), TEXT, replicas=BILLION),
    "blocks to train": lambda: gf.train(models(depth=BILLION), TEXT, gf.Recipe()),
    "seeds to train": lambda: gf.train(models(), TEXT, gf.Recipe(), seeds=BILLION),
    "steps": lambda: gf.train(models(), TEXT, gf.Recipe(), steps=2 * BILLION),
    "records": lambda: gf.train(models(), TEXT, gf.Recipe(), steps=2 * BILLION, record=gf.record_schedule.every(1)),
    "depths to sweep": lambda: gf.sweep(models(), TEXT, depth=(1, BILLION)),
    "blocks of an atlas": lambda: gf.atlas(models(depth=BILLION), TEXT),
    "seeds of an atlas": lambda: gf.atlas(models(), TEXT, scatter=BILLION),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_one_line_with_the_estimate(call, monkeypatch):
    monkeypatch.setattr(size, "memory", lambda: 16 * 10**9)
    with pytest.raises(ValueError, match=r"needs about .* of memory \(.*\), of 16 GB here: (take|record) ") as error:
        call()
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_a_model_of_a_billion_blocks_is_described_without_being_drawn():
    model = models(depth=BILLION)["pre"]
    assert model.depth == BILLION
    assert size.held(model.shapes) > 10**12


def test_a_record_may_be_dense_up_to_a_point():
    with pytest.raises(ValueError, match="at most 10000 is possible"):
        gf.record_schedule.logarithmic(10**8)


def test_a_text_that_does_not_fit_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(10**11)  # holes: nothing is on the disk
    monkeypatch.setattr(size, "memory", lambda: 16 * 10**9)
    with pytest.raises(
        ValueError, match=r"huge.txt needs about 100 GB of memory \(text 100 GB\), of 16 GB here: cut it"
    ):
        gf.data.text(path)
