"""Named wirings: what is in their table. That each equals its published formula is shown in test_equation.py."""

import cases
import pytest

from gradflow.model.init import OfDepth
from gradflow.model.layers import Identity
from gradflow.model.norms import LayerNorm, RMSNorm
from gradflow.model.wiring import WIRINGS, Wiring


@pytest.mark.parametrize("name", WIRINGS)
def test_a_wiring_says_what_it_is_and_where_it_is_from(name):
    made = WIRINGS[name]()
    assert made.name == ("sandwich" if name == "peri" else name)
    assert made.equation != Wiring("x").equation
    assert any(year in made.source for year in map(str, range(2015, 2027)))
    assert hash(made) == hash(WIRINGS[name]())


@pytest.mark.parametrize("name", [name for name in WIRINGS if name not in cases.WITHOUT_NORM])
def test_a_wiring_takes_its_norm(name):
    places = lambda made: [getattr(made, place) for place in ("norm_in", "norm_branch", "norm_out", "leave")]
    with_layer, with_rms = places(WIRINGS[name]()), places(WIRINGS[name](RMSNorm()))
    assert repr(LayerNorm()) in repr(with_layer)
    assert repr(with_layer).replace(repr(LayerNorm()), repr(RMSNorm())) == repr(with_rms)


@pytest.mark.parametrize("name", WIRINGS)
def test_the_stream_ends_in_a_norm_wherever_the_wiring_has_one(name):
    made = WIRINGS[name]()
    normed = any(getattr(made, place) != Identity() for place in ("norm_in", "norm_branch", "norm_out"))
    assert normed == (made.norm_out != Identity() or made.leave != Identity())


def test_deepnorm_scales_value_out_and_feed_forward_alone():
    """Wang et al. 2022, figure 2."""
    made = WIRINGS["deepnorm"]()
    assert made.skip.value == OfDepth(2, 0.25)
    assert dict(made.scales) == dict.fromkeys(("value", "out", "gate", "up", "down"), OfDepth(8, -0.25))
