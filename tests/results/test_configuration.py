"""Configurations as JSON: read back equal, built from registered types alone, nothing evaluated."""

import dataclasses
import json
import os
from dataclasses import dataclass

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.interop.functions import FunctionStack
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward, GatedFeedForward
from gradflow.model.branches.rotary import Rotary
from gradflow.model.layers.layer import Gain
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.parameters.depth import OfDepth
from gradflow.model.parameters.initializers import INITIALIZATIONS, FanIn, Normal, Scaled
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.stacks.transformer import Transformer
from gradflow.model.wirings.catalogue import WIRINGS
from gradflow.model.wirings.wiring import PLAIN, Wiring, pre
from gradflow.results.configuration import REGISTERED, decode, differences, dumps, encode, loads, registered


@pytest.mark.parametrize("placement", WIRINGS)
def test_a_transformer_is_read_back_equal(placement):
    model = gf.transformer(placement, depth=3, width=8, heads=2, context=5)
    back = loads(dumps(model))
    assert isinstance(back, Transformer)
    assert back == model
    assert back.stack == model.stack
    assert back != model.at_depth(4)


@pytest.mark.parametrize("weights", INITIALIZATIONS.values(), ids=INITIALIZATIONS)
@pytest.mark.parametrize("placement", WIRINGS)
def test_a_sublayer_is_read_back_equal(placement, weights):
    for branch in (Attention(2, weights=weights), FeedForward(weights=weights), GatedFeedForward(weights=weights)):
        sub = Sublayer("mine", WIRINGS[placement](), branch)
        back = loads(dumps(sub))
        assert back == sub
        assert back != dataclasses.replace(sub, branch=dataclasses.replace(branch, weights=Normal(0.7)))


@pytest.mark.parametrize("norm", cases.NORMS.values())
@pytest.mark.parametrize("make", [*WIRINGS.values(), lambda norm: PLAIN, cases.everything])
def test_a_wiring_is_read_back_equal(make, norm):
    wiring = make(norm)
    assert loads(dumps(wiring)) == wiring
    assert loads(dumps(dataclasses.replace(wiring, name="mine"))) != wiring


@pytest.mark.parametrize("weights", INITIALIZATIONS.values())
def test_an_initialization_is_read_back_equal(weights):
    assert loads(dumps(weights)) == weights


def test_a_transformer_with_every_option_is_read_back_equal():
    attention = Attention(4, kv_heads=2, causal=False, rotary=Rotary(500.0), weights=Normal(0.1), bias=True)
    mlp = GatedFeedForward(2.5, "gelu_tanh", Scaled(FanIn(2.0), (("down", OfDepth(2, -0.5)),)), True)
    wiring = Wiring("mine", norm_in=RMSNorm(1e-3), write=Gain(0.5), leave=LayerNorm(1e-4))
    first = Segment((Sublayer("attention", wiring, attention), Sublayer("mlp", pre(), mlp)), 2)
    second = Segment((Sublayer("mlp", wiring, FeedForward(1, "relu")),), 3)
    model = Transformer(Stack((first, second)), 8, Embedding(7, None, 0.5), Normal(0.3))
    assert loads(dumps(model)) == model


def test_plain_data_is_read_back_equal():
    data = {"steps": 3, "lr": 1e-3, "wirings": ("pre", "post"), "text": None, "clean": True, "nested": {"a": (1, (2,))}}
    assert loads(dumps(data)) == data
    assert loads(dumps({"α": "norm"}))["α"] == "norm"
    assert "α" in dumps({"α": 1})  # readable by eye


@pytest.mark.parametrize(
    ("number", "plain"),
    [
        (jnp.float32(0.5), 0.5),
        (jnp.bfloat16(0.5), 0.5),
        (jnp.array(3), 3),
        (jnp.array(True), True),
        (np.array(2.5), 2.5),
    ],
)
def test_a_number_of_jaxs_is_a_number(number, plain):
    assert loads(dumps({"value": number})) == {"value": plain}
    assert type(encode(number)) is type(plain)
    if plain is not True:
        assert loads(dumps(Normal(number))) == Normal(plain)


def test_what_has_no_number_in_it_is_written_by_name_only():
    for thing in (jax.random.key(0), jnp.ones(2), jax.ShapeDtypeStruct((), float)):
        assert set(encode(thing)) == {"unregistered"}
    assert jax.jit(lambda x: (encode(x).keys() == {"unregistered"}) * x)(2.0) == 2.0


def test_the_text_is_json_with_the_fields_by_name():
    assert json.loads(dumps(Gain(0.5))) == {"type": "Gain", "value": 0.5}
    assert json.loads(dumps(Normal(0.02))) == {"type": "Normal", "sigma": 0.02}


def test_everything_a_transformer_is_made_of_is_registered():
    assert {"Transformer", "Segment", "Sublayer", "Wiring", "Embedding", "Attention", "FeedForward"} <= set(REGISTERED)
    for name, kind in REGISTERED.items():
        assert kind.__name__ == name
        assert dataclasses.is_dataclass(kind)
        assert kind.__dataclass_params__.frozen


# ---- what is refused ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mine:
    """A type that nobody registered."""

    number: int = 3


def test_a_type_that_is_not_registered_is_written_but_not_read():
    text = dumps(Mine())
    assert json.loads(text) == {"type": "Mine", "number": 3}
    with pytest.raises(ValueError, match="no registered type 'Mine'"):
        loads(text)


def test_a_type_may_be_read_once_it_is_registered(monkeypatch):
    monkeypatch.setattr("gradflow.results.configuration.REGISTERED", {})
    assert registered(Mine) is Mine
    assert loads(dumps(Mine(4))) == Mine(4)


def test_a_stack_of_a_users_function_is_refused():
    stack = FunctionStack(lambda w, x: x, 2, lambda params, x, y: 0.0)
    assert encode(stack)["layer"] == {"unregistered": "<lambda>"}
    with pytest.raises(ValueError, match="no registered type 'FunctionStack'"):
        loads(dumps(stack))


def twice(params, x):
    """A branch without parameters."""
    return 2 * x


def test_a_function_is_written_by_its_name_and_not_read():
    text = dumps(Sublayer("mine", PLAIN, twice))
    assert json.loads(text)["branch"] == {"unregistered": "twice"}
    with pytest.raises(ValueError, match="'twice' was written by name only; build this model from its code"):
        loads(text)


CALLS = [
    {"type": "os.system", "command": "touch pwned"},
    {"type": "builtins.exec", "source": "open('pwned', 'w')"},
    {"type": "subprocess.Popen", "args": ["touch", "pwned"]},
    {"type": "__import__", "name": "os"},
    {"type": "gradflow.model.layers.Gain", "value": 1.0},
    {"type": "Path"},
    {"type": None},
    {"unregistered": "os.system"},
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrapped", [lambda c: c, lambda c: [c], lambda c: {"type": "Wiring", "name": "x", "skip": c}])
def test_a_file_that_names_anything_else_is_refused(call, wrapped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    called = []
    monkeypatch.setattr(os, "system", called.append)
    with pytest.raises(ValueError, match="no registered type|written by name only"):
        loads(json.dumps(wrapped(call)))
    assert not called
    assert not list(tmp_path.iterdir())


def test_strings_stay_strings():
    for text in ("__import__('os').system('true')", "FanIn()", "!!python/object:os.system", '{"type": "FanIn"}'):
        assert loads(json.dumps(text)) == text
        assert decode({"type": "Wiring", "name": text}) == Wiring(text)
        with pytest.raises(ValueError, match=r"Gain.value is .*: a finite number is needed"):
            decode({"type": "Gain", "value": text})


def test_fields_that_a_type_does_not_have_are_refused():
    with pytest.raises(TypeError, match="weird"):
        loads('{"type": "Gain", "value": 1.0, "weird": 2}')


# ---- nearest names ------------------------------------------------------------------------------------------


def test_a_misspelled_type_gets_the_nearest_names():
    with pytest.raises(ValueError, match=r"did you mean 'LayerNorm'.*known: .*\bAttention, .*in all\)"):
        loads('{"type": "LayerNrom"}')


def test_configurations_are_the_same_where_numbers_differ_by_rounding_alone():
    """A gain that a profiling pass measured comes out of another program with other last digits."""
    there = {"gain": 1.3419256467815843, "lr": 0.001, "steps": 20}
    assert differences(there, {**there, "gain": 1.3419256356772722}) == ""
    assert (
        differences(there, {**there, "lr": 0.00101, "steps": 21}) == "lr was 0.001, now 0.00101; steps was 20, now 21"
    )
