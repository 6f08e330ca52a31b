"""Arguments: the right value, or one line that names the remedy."""

import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.results.arguments import known, real, suggestions, whole
from gradflow.results.naming import stem


@pytest.mark.parametrize("value", [3, np.int16(3), np.uint64(3), np.array(3), jnp.array(3)])
def test_whole_numbers_of_every_library_become_an_int(value):
    assert type(whole("seeds", value)) is int
    assert whole("seeds", value) == 3


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (1.0, "seeds is 1.0: a whole number is needed"),
        (True, "seeds is True: a whole number is needed"),
        (None, "seeds is None: a whole number is needed"),
        ("3", "seeds is '3': a whole number is needed"),
        ([3], "seeds is [3]: a whole number is needed"),
        (0, "seeds is 0: at least 1 is needed"),
        (-(10**80), "seeds is a number of many digits: at least 1 is needed"),
        (11, "seeds is 11: at most 10 is possible"),
    ],
)
def test_what_is_no_whole_number_is_one_line(value, line):
    with pytest.raises(ValueError) as refusal:
        whole("seeds", value, most=10)
    assert str(refusal.value) == line


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), jnp.array(0.5)])
def test_numbers_of_every_library_become_a_float(value):
    assert type(real("lr", value)) is float
    assert real("lr", value, above=0, below=1) == 0.5


@pytest.mark.parametrize(
    "value", [None, "1", True, float("nan"), float("inf"), 10**400, 0, 1, -1, 1j, [0.5], np.ones(2)]
)
def test_what_is_no_number_within_the_bounds_is_one_line(value):
    with pytest.raises(ValueError, match=r"^lr is .*: a finite number above 0 below 1 is needed$") as refusal:
        real("lr", value, above=0, below=1)
    assert len(str(refusal.value)) < 150


def test_a_name_is_one_of_those_known_or_the_nearest_are_named():
    assert known("wiring", "pre", {"pre": 1, "post": 2}) == "pre"
    assert known("reading", "loss", ("backward",), also=("loss",)) == "loss"
    with pytest.raises(ValueError, match=r"^no wiring 'pots': did you mean 'post'\? known: pre, post$"):
        known("wiring", "pots", ("pre", "post"))
    with pytest.raises(ValueError, match=r"^no wiring 3: known: pre, post$"):
        known("wiring", 3, ("pre", "post"))


def test_suggestions_name_the_nearest_first_and_then_all():
    assert suggestions("pots", ["pre", "post", "sandwich"]) == "did you mean 'post'? known: pre, post, sandwich"
    assert suggestions("zzzzz", ["pre", "post"]) == "known: pre, post"
    assert suggestions("norm_im", {"norm_in": 1, "norm_on": 2}).startswith("did you mean 'norm_in' or 'norm_on'?")


def test_different_names_have_different_stems_that_every_file_system_takes():
    names = ["Llama-3.2-1B", "x/y", "x.y", "x y", "x-y", "", ".", "..", "_x", "-x", "a%b", "a#b", "ü", "x.", "a" * 300]
    stems = [stem(name) for name in names]
    assert len(set(stems)) == len(names)
    assert all(0 < len(one) <= 80 and one.isascii() and one[0] not in ".-" and "/" not in one for one in stems)
    assert stem("Llama-3.2-1B") == "Llama-3.2-1B"
