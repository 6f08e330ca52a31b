"""Named wirings: what is in their table. That each equals its published formula is shown in test_equation.py."""

import inspect

import cases
import pytest
from reference import norm_of

from gradflow.model.layers.layer import Gain
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.parameters.depth import OfDepth
from gradflow.model.wirings.catalogue import FAMILIES, WIRINGS, wirings
from gradflow.model.wirings.wiring import Wiring


@pytest.mark.parametrize("name", WIRINGS)
def test_a_wiring_says_what_it_is_and_where_it_is_from(name):
    made = WIRINGS[name]()
    assert made.name == name
    assert made.equation != Wiring("x").equation
    assert any(year in made.source for year in map(str, range(2015, 2027)))
    assert hash(made) == hash(WIRINGS[name]())


def test_every_named_wiring_is_in_one_family_and_one_of_ones_own_in_none():
    listed = [name for names in FAMILIES.values() for name in names]
    assert sorted(listed) == sorted(wirings().index)
    own = wirings(Wiring("half", write=Gain(0.5)))
    assert own["family"].drop_duplicates().tolist() == [*FAMILIES, "one's own"]


OF_THEIR_OWN = {"ngpt": RMSNorm(scale="none"), "mhc_v4": RMSNorm(), "gated_residual": RMSNorm()}


@pytest.mark.parametrize("name", [name for name in WIRINGS if name not in cases.WITHOUT_NORM])
def test_a_wiring_takes_its_norm_in_all_its_places(name):
    default = inspect.signature(WIRINGS[name]).parameters["norm"].default
    assert default == OF_THEIR_OWN.get(name, LayerNorm())
    assert repr(default) in repr(WIRINGS[name]())
    assert repr(WIRINGS[name]()).replace(repr(default), repr(RMSNorm())) == repr(WIRINGS[name](RMSNorm()))


@pytest.mark.parametrize("name", WIRINGS)
def test_the_stream_ends_in_a_norm_wherever_the_wiring_has_one(name):
    made = WIRINGS[name]()
    assert (norm_of(made) is None) == (norm_of((made.norm_out, made.leave)) is None) == (name in cases.WITHOUT_NORM)


def test_fixup_scales_each_matrix_by_how_many_its_branch_has():
    """Zhang et al. 2019: 0 for the last of m, `(2L)^(−1/(2m − 2))` for the others of 2L branches; m = 4 in attention, else 2."""
    inner, up = OfDepth(2, -1 / 6), OfDepth(2, -1 / 2)
    expected = {**dict.fromkeys(("query", "key", "value"), inner), "up": up, "out": 0.0, "down": 0.0}
    assert dict(WIRINGS["fixup"]().init_scales) == expected
    assert up(8) == 1 / 4
    assert inner(4) == pytest.approx(2**-0.5, rel=1e-15)


def test_deepnorm_scales_value_out_and_feed_forward_alone():
    """Wang et al. 2022, figure 2."""
    made = WIRINGS["deepnorm"]()
    assert made.skip.value == OfDepth(2, 0.25)
    assert dict(made.init_scales) == dict.fromkeys(("value", "out", "gate", "up", "down"), OfDepth(8, -0.25))
