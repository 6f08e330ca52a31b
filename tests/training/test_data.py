"""Text as bytes, and batches that are a function of key and step alone."""

import hashlib

import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.readings import seed_keys


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "bytes.bin"
    path.write_bytes(bytes(range(256)) * 3)
    return gf.data.text(path, context=16, batch=5)


def test_the_default_text_is_the_language_reference_with_its_sum():
    data = gf.data.text()
    assert data.name == "pydoc_data.topics"
    assert len(data.tokens) > 400_000
    assert hashlib.sha256(data.tokens.tobytes()).hexdigest() == data.sha256 == data.description()["sha256"]
    assert b"lambda" in data.tokens.tobytes()


def test_a_window_is_bytes_of_the_text_and_its_targets_are_the_next_ones(text):
    batch = text.batch(0, 0)
    assert batch["inputs"].shape == batch["targets"].shape == (5, 16)
    np.testing.assert_array_equal(batch["inputs"][:, 1:], batch["targets"][:, :-1])
    np.testing.assert_array_equal(batch["targets"], (np.asarray(batch["inputs"]) + 1) % 256)  # this text counts up


def test_a_batch_depends_on_key_and_step_alone(text):
    again = gf.data.Text(text.name, text.tokens, text.sha256, 16, 5)
    np.testing.assert_array_equal(text.batch(3, 7)["inputs"], again.batch(3, 7)["inputs"])
    assert (np.asarray(text.batch(3, 7)["inputs"]) != np.asarray(text.batch(3, 8)["inputs"])).any()
    assert (np.asarray(text.batch(3, 7)["inputs"]) != np.asarray(text.batch(4, 7)["inputs"])).any()


def test_batches_of_several_keys_are_the_batches_of_each(text):
    keys = seed_keys(0, 3)
    stacked = text.batches(keys, 2)
    for i, key in enumerate(keys):
        np.testing.assert_array_equal(stacked["inputs"][i], text.batch(key, 2)["inputs"])


def test_halves_are_a_source_and_what_follows_it(text):
    halves, whole = gf.data.Halves(text), text.batch(3, 7)
    batch = halves.batch(3, 7)
    both = np.concatenate([batch["inputs"]["source"], batch["inputs"]["target"]], axis=1)
    np.testing.assert_array_equal(both, whole["inputs"])
    np.testing.assert_array_equal(batch["targets"], whole["targets"][:, 8:])
    assert halves.batches(seed_keys(0, 2), 1)["inputs"]["source"].shape == (2, 5, 8)
    assert halves.held_out()["targets"].shape[1] == 8
    assert halves.description()["sha256"] == text.sha256


def test_every_window_of_a_short_text_can_come(tmp_path):
    path = tmp_path / "short.bin"
    path.write_bytes(bytes(range(20)))
    data = gf.data.text(path, context=8, batch=200)
    assert set(np.asarray(data.batch(0, 0)["inputs"])[:, 0].tolist()) == {0, 1, 2}
    assert set(np.asarray(data.held_out()["inputs"])[:, 0].tolist()) == {11}


@pytest.mark.parametrize("context", [8, 64])
def test_no_batch_holds_text_that_is_held_out(context):
    counting = gf.data.Text("counting", np.arange(1000), "", context, 5000)
    batch, held = counting.batch(0, 0), counting.held_out()
    assert np.max(batch["targets"]) == 899
    assert np.min(held["inputs"]) == 900
    assert np.max(held["targets"]) == 999
    assert len(held["inputs"]) == min(64, 100 - context)


@pytest.mark.parametrize(
    ("content", "options", "remedy"),
    [
        (b"", {}, "at least 130 bytes"),
        (b"short", {}, "longer text or a smaller context"),
        (b"x" * 99, {"context": 1}, "at least 2 tokens"),
        (b"x" * 99, {"batch": 0}, "at least 1 example"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_in_one_line(content, options, remedy, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=remedy) as refusal:
        gf.data.text(path, **options)
    assert "\n" not in str(refusal.value)


def test_a_text_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(OSError, match=r"missing\.txt.*name a file"):
        gf.data.text(tmp_path / "missing.txt")
