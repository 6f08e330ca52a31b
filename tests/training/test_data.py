"""Text as bytes, and batches that are a function of key and step alone."""

import hashlib
import os

import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.seeds import seed_keys


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
        (b"x" * 99, {"context": 1}, "context is 1: at least 2 is needed"),
        (b"x" * 99, {"batch": 0}, "batch is 0: at least 1 is needed"),
        (b"x" * 99, {"context": 2.5}, "context is 2.5: a whole number is needed"),
        (b"\xef\xbb\xbf", {}, "text is empty"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_in_one_line(content, options, remedy, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=remedy) as refusal:
        gf.data.text(path, **options)
    assert "\n" not in str(refusal.value)


def test_a_text_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(OSError, match=r"there is no file .*missing\.txt"):
        gf.data.text(tmp_path / "missing.txt")


def test_a_byte_order_mark_is_left_out_and_told(tmp_path):
    """The sum stays that of the file; marks of other encodings are bytes as any, of a text that is read as bytes."""
    content = b"\xef\xbb\xbf" + bytes(range(60))
    (tmp_path / "marked").write_bytes(content)
    data = gf.data.text(tmp_path / "marked", context=4, batch=2)
    assert data.tokens.tobytes() == content[3:]
    assert data.sha256 == hashlib.sha256(content).hexdigest()
    assert data.description()["notes"] == ["begins with a byte-order mark, left out"]
    (tmp_path / "other").write_bytes(b"\xff\xfe" + content)
    other = gf.data.text(tmp_path / "other", context=4, batch=2)
    assert other.tokens.tobytes() == b"\xff\xfe" + content
    assert "notes" not in other.description()


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "a FIFO"), ("/dev/zero", "a device"), (tmp_path, "a directory")):
        with pytest.raises(OSError, match=f" is {kind}: a regular file is expected"):
            gf.data.text(path)


# ---- tokens of a trained model ------------------------------------------------------------------------------

SEQUENCE = np.arange(200) % 50 + 5


def examples(**options):
    """`(inputs, targets)` of a batch of six, each of five tokens, as lists."""
    data = gf.data.tokens(SEQUENCE, **{"name": "x", "sha256": "0", "context": 5, "batch": 6, **options})
    batch = data.batch(0, 0)
    return data, np.asarray(batch["inputs"]).tolist(), np.asarray(batch["targets"]).tolist()


def following(token: int, steps: int) -> list[int]:
    """The tokens from one on, as the sequence has them."""
    return [(token - 5 + i) % 50 + 5 for i in range(steps)]


@pytest.mark.parametrize("begin", [(), (2,), (2, 3), (1, 2, 3, 4)])
def test_every_example_begins_with_the_mark_and_is_asked_for_the_text_alone(begin):
    data, inputs, targets = examples(begin=begin)
    plain = examples()[1]
    for row, asked, bare in zip(inputs, targets, plain, strict=True):
        text = following(bare[0], 6 - len(begin))  # at the same place as without
        whole = [*begin, *text]
        assert row == whole[:-1]
        assert asked == [-1 if i < len(begin) else token for i, token in enumerate(whole)][1:]
        assert len(row) == len(asked) == 5
    assert data.description()["begin"] == list(begin)
    assert np.asarray(data.held_out()["inputs"])[:, : len(begin)].tolist() == [list(begin)] * len(
        data.held_out()["inputs"]
    )


def test_a_model_that_sees_all_has_marks_on_both_sides_which_are_not_asked_for():
    _, inputs, targets = examples(ahead=0, begin=1, end=2)
    for row, asked in zip(inputs, targets, strict=True):
        assert row == [1, *following(row[1], 3), 2]
        assert asked == [-1, *row[1:-1], -1]


def test_marks_are_never_hidden():
    data = gf.data.tokens(SEQUENCE, name="x", sha256="0", context=22, batch=90, ahead=0, mask=0, begin=(1,), end=(2, 3))
    inputs, targets = (np.asarray(data.batch(0, 0)[name]) for name in ("inputs", "targets"))
    assert (inputs[:, 0] == 1).all()
    assert (inputs[:, -2:] == [2, 3]).all()
    assert (targets[:, [0, -2, -1]] == -1).all()
    assert ((targets >= 0).sum(1) == 3).all()  # 15% of 19


@pytest.mark.parametrize(
    ("array", "options", "remedy"),
    [
        ([0, -1] * 20, {}, "has tokens from -1 to 0: 0 to 2147483647 are possible"),
        ([0, 2**40 + 5] * 20, {}, "has tokens from 0 to 1099511627781"),
        ([0.5] * 40, {}, "holds float64 numbers of shape"),
        (np.ones((20, 2), int), {}, r"of shape \(20, 2\): a line of whole numbers"),
        ([True, False] * 20, {}, "holds bool numbers"),
        ([], {}, "float64 numbers|0 tokens"),
        (np.array([], int), {}, "has 0 tokens, fewer than 2"),
        (range(11), {}, "has 11 tokens, fewer than 2"),
        (range(40), {"context": 0}, "context is 0: at least 2"),
        (range(40), {"context": 5.0}, "context is 5.0: a whole number"),
        (range(40), {"batch": 0}, "batch is 0: at least 1"),
        (range(40), {"ahead": 2}, "ahead is 2: at most 1"),
        (range(40), {"mask": 3}, "mask is 3, but the next token is asked for"),
        (range(40), {"end": 3}, r"end is \[3\], but the next token is asked for"),
        (range(40), {"ahead": 0, "mask": -1}, "mask is -1: at least 0"),
        (range(40), {"begin": -1}, "begin is -1: at least 0"),
        (range(40), {"begin": "2"}, "begin is '2': a whole number"),
        (range(40), {"begin": (2, 1.5)}, "begin is 1.5: a whole number"),
        (range(40), {"begin": 2**40}, "begin is 1099511627776: at most"),
        (range(40), {"begin": (1, 2, 3, 4, 5)}, "context is 5, but 5 tokens mark an example"),
        (range(40), {"ahead": 0, "begin": (1, 2), "end": (1, 2, 3)}, "context is 5, but 5 tokens mark an example"),
    ],
)
def test_tokens_that_cannot_be_used_are_refused_in_one_line(array, options, remedy):
    with pytest.raises(ValueError, match=remedy) as refusal:
        gf.data.tokens(array, **{"name": "x", "sha256": "0", "context": 5, "batch": 2, **options})
    assert "\n" not in str(refusal.value)
